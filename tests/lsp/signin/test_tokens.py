import json
import stat
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backends.fail
import pytest

from homespun_lsp.signin import tokens
from tests.lsp.signin.keyring_in_a_file import Keyring

URL = "https://code.example.com"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("KEYRING_FILE", str(tmp_path / "keyring.json"))
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    yield tmp_path
    keyring.set_keyring(before)


def test_without_a_keyring_the_token_is_in_a_file_of_the_users_alone(state: Path) -> None:
    place = Path(tokens.keep(URL, "t0ken"))
    assert place.is_relative_to(state / "homespun" / "tokens")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    found = tokens.find(URL)
    assert found and (found.token, found.place) == ("t0ken", str(place))


def test_with_a_keyring_no_file_holds_the_token(state: Path) -> None:
    keyring.set_keyring(Keyring())  # type: ignore[no-untyped-call]
    assert tokens.keep(URL, "t0ken") == tokens.KEYRING
    assert not [path for path in (state / "homespun").rglob("*") if path.is_file() and "t0ken" in path.read_text()]
    found = tokens.find(URL)
    assert found and (found.token, found.place) == ("t0ken", tokens.KEYRING)
    tokens.forget(URL)
    assert tokens.find(URL) is None
    assert json.loads((state / "keyring.json").read_text()) == {}


def test_a_keyring_that_is_gone_is_no_token_and_no_error() -> None:
    keyring.set_keyring(Keyring())  # type: ignore[no-untyped-call]
    tokens.keep(URL, "t0ken")
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    assert tokens.find(URL) is None
    tokens.forget(URL)


def test_each_server_has_its_own_and_spellings_of_one_address_share_theirs() -> None:
    tokens.keep("https://Code.example.com:443/", "one")
    tokens.keep("https://code.example.com:8443", "two")
    tokens.keep("https://code.example.com/team", "three")
    kept = [tokens.find(url) for url in (URL, "https://code.example.com:8443/", "https://code.example.com/team/")]
    assert [found and found.token for found in kept] == ["one", "two", "three"]
    assert tokens.find("http://code.example.com") is None


def test_keeping_and_forgetting_can_be_noticed() -> None:
    stamps = [tokens.stamp(URL)]
    tokens.keep(URL, "one")
    stamps.append(tokens.stamp(URL))
    tokens.keep(URL, "two")
    stamps.append(tokens.stamp(URL))
    tokens.forget(URL)
    assert stamps[0] is None and None not in stamps[1:] and stamps[1] != stamps[2]
    assert tokens.stamp(URL) is None
    tokens.forget(URL)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2, "server": "x", "token": "t"}', "\0\xff"])
def test_a_file_that_makes_no_sense_is_no_token(content: str) -> None:
    place = Path(tokens.keep(URL, "t0ken"))
    place.write_text(content, "latin-1")
    assert tokens.find(URL) is None


def test_a_file_that_was_copied_to_another_servers_name_is_not_sent_there() -> None:
    place = Path(tokens.keep(URL, "t0ken"))
    other = Path(tokens.keep("https://evil.example", "x"))
    other.write_bytes(place.read_bytes())
    assert tokens.find("https://evil.example") is None


def test_tokens_are_not_shown() -> None:
    tokens.keep(URL, "t0ps3cret")
    assert "t0ps3cret" not in repr(tokens.find(URL))
