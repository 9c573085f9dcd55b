import pytest

from homespun_core.config import Settings
from homespun_lsp.options import Options, defaults, merge

BASE = Options(server_url="http://127.0.0.1:8080", token="t")


def test_the_editor_overrides_the_settings_of_the_command() -> None:
    base = defaults(Settings(server_url="https://code.example.com", api_token="secret"))
    assert (base.server_url, base.token) == ("https://code.example.com", "secret")
    merged, problems = merge(base, {"serverUrl": "http://other:1", "debounceMs": 5, "enable": False})
    assert (merged.server_url, merged.token, merged.debounce_ms, merged.enable) == (
        "http://other:1",
        "secret",
        5,
        False,
    )
    assert not problems


@pytest.mark.parametrize("given", [{"homespun": {"maxTokens": 7}}, {"maxTokens": 7}])
def test_the_section_is_found_alone_or_among_others(given: object) -> None:
    assert merge(BASE, given)[0].max_tokens == 7


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("serverUrl", "localhost:8080", "http://"),
        ("serverUrl", "http://[bad", "http://"),
        ("serverUrl", "http://me:pw@host", "user or password"),
        ("token", 12345, "is not text"),
        ("enable", "yes", "true or false"),
        ("maxTokens", True, "whole number"),
        ("maxTokens", 0, "below 1"),
        ("completion", "sometimes", "auto, on, off"),
        ("debounceMS", 5, "did you mean 'debounceMs'"),
        ("zzz", 5, "the options are serverUrl"),
    ],
)
def test_a_bad_option_is_named_and_the_default_used(name: str, value: object, told: str) -> None:
    merged, problems = merge(BASE, {name: value})
    assert merged == BASE
    assert list(problems) == [name] and told in problems[name]
    assert str(value) not in problems[name], "it may be a secret in the wrong place"


@pytest.mark.parametrize("given", [None, [], "text", {"serverUrl": "", "token": None}, {"trace": {"server": "off"}}])
def test_what_is_not_set_changes_nothing(given: object) -> None:
    assert merge(BASE, given) == (BASE, {})


def test_the_token_is_not_shown_with_the_options() -> None:
    assert "t0ps3cret" not in repr(Options(server_url="http://a", token="t0ps3cret"))
