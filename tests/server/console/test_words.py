from __future__ import annotations

import pytest

from homespun_core.config import Settings
from homespun_lsp.network import user_agent
from homespun_server.console import words
from homespun_server.console.settings import effective, shown
from homespun_server.explained import Piece, pieces
from homespun_server.feedback.editors import editor_of


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "unknown"),
        (0, "just now"),
        (42, "42 seconds ago"),
        (600, "10 minutes ago"),
        (7_300, "2 hours ago"),
        (900_000, "10 days ago"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float | None, said: str) -> None:
    assert words.ago(seconds) == said


@pytest.mark.parametrize(
    ("num_bytes", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1_200, "1.2 kB"), (38e6, "38 MB"), (5e12, "5,000 GB")]
)
def test_a_size_is_said_in_one_unit(num_bytes: float, said: str) -> None:
    assert words.size(num_bytes) == said


def test_the_age_of_a_snapshot_is_never_negative() -> None:
    assert words.age_s("2026-11-29T01:00:00Z", 1_795_914_060.0) == 60.0
    assert words.age_s("2026-11-29T01:00:00Z", 0.0) == 0.0
    assert words.age_s("rubbish", 0.0) is None and words.age_s(None, 0.0) is None


@pytest.mark.parametrize("name", ["api_token", "webhook_secret", "vllm_token", "oidc_client_secret", "worker_token"])
def test_a_secret_is_never_shown(name: str) -> None:
    assert shown(name, "hunter2") == "set" and shown(name, "") == "not set"


def test_a_password_in_an_address_is_never_shown() -> None:
    assert shown("database_url", "postgresql+psycopg://me:pa/ss@db/homespun?password=x") == "postgresql+psycopg:…"
    assert "pass" not in shown("vllm_urls", "http://me:pass@gpu1:8000")


def test_every_setting_is_listed_with_where_it_comes_from() -> None:
    found = {one.name: one for one in effective(Settings(port=9_000), {"port": "environment"})}
    assert (found["port"].value, found["port"].origin, found["port"].is_changed) == ("9000", "environment", True)
    assert (found["retrieval"].value, found["retrieval"].origin) == ("on", "default")


@pytest.mark.parametrize(
    ("agent", "editor"),
    [
        ("homespun-lsp/0.1.0 (Neovim 0.12.1)", "Neovim"),
        ("homespun-lsp/0.1.0 (Visual Studio Code 1.120.0)", "Visual Studio Code"),
        ("homespun-lsp/0.1.0 (Emacs)", "Emacs"),
        ("homespun-lsp/0.1.0", "homespun-lsp"),
        ("curl/8.5.0", "curl"),
        ("Mozilla/5.0 (X11; Linux)", "Mozilla"),
        ("OpenAI/Python 2.1", "OpenAI"),
        ("<script>alert(1)</script>", None),
        ("x" * 5_000, "x" * 41),
        ("", None),
    ],
)
def test_an_editor_is_called_by_its_name_alone(agent: str, editor: str | None) -> None:
    assert editor_of(agent) == editor


@pytest.mark.parametrize("editor", ["Neovim", "Visual Studio Code", "emacs", "helix"])
def test_our_language_server_tells_for_which_editor_it_asks(editor: str) -> None:
    assert editor_of(user_agent(editor)) == editor


def test_a_prompt_is_read_as_text_with_its_control_tokens_by_name() -> None:
    spelled = [None, b"d", b"\xc3", b"\xbc", None]
    found = pieces([0, 1, 2, 3, 4, 0], spelled, {"<prefix>": 0})
    assert found == [
        Piece("<prefix>", True),
        Piece("dü", False),
        Piece("<4>", True),
        Piece("<prefix>", True),
    ]
