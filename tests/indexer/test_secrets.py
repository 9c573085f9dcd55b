"""Credentials are found, ordinary code isn't touched. The examples are made up."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_indexer.secrets import entropy, redact

# Put together here, so that no scanner takes this file for a leak.
TOKEN = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SECRETS = {
    "AWS_KEY": ("key = 'AKIA" + "IOSFODNN7EXAMPLE'", "IOSFODNN7EXAMPLE"),
    "GITHUB_TOKEN": ("t = 'ghp_" + TOKEN + "'", TOKEN),
    "GITLAB_TOKEN": ("t = 'glpat-" + TOKEN[:20] + "'", TOKEN[:20]),
    "SLACK_TOKEN": ("t = 'xoxb-" + "123456789012-abcdef'", "123456789012-abcdef"),
    "SLACK_WEBHOOK": ("u = 'https://hooks.slack.com/services/" + "T0/B0/" + TOKEN + "'", TOKEN),
    "GOOGLE_KEY": ("k = 'AIza" + TOKEN[:35] + "'", TOKEN[:35]),
    "STRIPE_KEY": ("k = 'sk_live_" + TOKEN[:24] + "'", TOKEN[:24]),
    "NPM_TOKEN": ("//registry/:_authToken=npm_" + TOKEN, TOKEN),
    "JWT": ("h = 'eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0.dBjftJeZ4CVPmB92K27uhbUJU1p1r'", "dBjftJeZ4CVP"),
    "URL_PASSWORD": ("dsn = 'postgres://ada:" + "hunter2x@db/shop'", "hunter2x"),
    "ASSIGNED": ("DB_PASSWORD = '" + TOKEN[:16] + "'", TOKEN[:16]),
    "PRIVATE_KEY": ("-----BEGIN RSA PRIVATE" + " KEY-----\n" + TOKEN + "\n-----END RSA PRIVATE KEY-----", TOKEN),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_becomes_a_placeholder_of_its_kind(kind: str) -> None:
    text, secret = SECRETS[kind]
    clean, found = redact(f"before\n{text}\nafter\n")
    assert secret not in clean
    assert f"REDACTED_{kind}" in clean
    assert found[kind] == 1
    assert clean.startswith("before\n") and clean.endswith("\nafter\n")


@pytest.mark.parametrize(
    "assigned", ["api_key: '{}'", '"client_secret": "{}"', "token=`{}`", "os.environ['TOKEN'] = \"{}\""]
)
def test_assignments_in_several_spellings_are_found(assigned: str) -> None:
    assert redact(assigned.format(TOKEN[:20]))[1] == {"ASSIGNED": 1}


@pytest.mark.parametrize(
    "text",
    [
        "password = get_password(user)",
        "token = 'csrfmiddlewaretoken'",
        "password = 'correct horse battery'",
        'url = "https://user:{password}@host/"',
        "clone https://example.com:8080/a@b",
        "sha = 'da39a3ee5e6b4b0d3255bfef95601890afd80709'",
        "PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']",
        "self.tokens = tokenizer.encode(text)",
        "key = 'REDACTED_AWS_KEY'",
        "risk-based-scoring-of-all-the-many-things-we-have-here",
    ],
)
def test_ordinary_code_is_not_touched(text: str) -> None:
    assert redact(text) == (text, {})


@given(
    st.lists(st.one_of(st.sampled_from([t for t, _ in SECRETS.values()]), st.text(max_size=20)), max_size=6).map(
        "\n".join
    )
)
def test_redacting_twice_changes_nothing(text: str) -> None:
    once, _ = redact(text)
    assert redact(once) == (once, {})


@pytest.mark.parametrize(
    "line", ["-----BEGIN PRIVATE" + " KEY-----", "token" * 200, "token=" * 160, "token" + " " * 900, "abcdef0123" * 100]
)
def test_hostile_text_takes_no_time(line: str) -> None:
    text = f"{line}\n" * (400_000 // len(line))
    start = time.process_time()
    assert redact(text) == (text, {})
    assert time.process_time() - start < 1.0


def test_a_key_begins_at_the_last_line_that_says_so() -> None:
    text, _ = SECRETS["PRIVATE_KEY"]
    begin = text.partition("\n")[0]
    clean, found = redact(f"# Paste from {begin} on:\n{text}\n")
    assert found == {"PRIVATE_KEY": 1}
    assert clean.startswith(f"# Paste from {begin} on:\n{begin}REDACTED_PRIVATE_KEY-----END")


def test_entropy_is_in_bits_a_character() -> None:
    assert entropy("") == 0.0
    assert entropy("aaaa") == 0.0
    assert entropy("abab") == 1.0
