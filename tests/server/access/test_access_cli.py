"""`homespun user`, `team`, `token`, `access` and `audit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homespun_core.cli import main

DIGEST = 64


class Command:
    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._data, self._capsys = data, capsys

    def __call__(self, words: str, status: int = 0) -> str:
        """What it says, on either output."""
        verb, action, *rest = words.split()
        found = main([verb, action, "--data-dir", str(self._data), *rest])
        out, err = self._capsys.readouterr()
        assert found == status, out + err
        assert status == 0 or err.count("\n") == 1
        return out + err


@pytest.fixture
def homespun(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path / "data", capsys)


def test_from_the_first_account_to_the_last_entry(homespun: Command) -> None:
    assert "nobody has an account" in homespun("user list")
    assert "every request needs a token" in homespun("user add root --role admin")
    homespun("team add shop")
    assert "every request" not in homespun("user add Ada --team shop --email ada@example.com")
    token, note = homespun("token create ada --days 7").splitlines()
    assert token.startswith("homespun_") and "isn't shown again" in note
    assert token.split("_", 2)[2] not in homespun("token list") + homespun("user export ada") + homespun("audit export")
    homespun("access grant ada web-*")
    homespun("access grant --team shop shop")
    assert "team:shop" in homespun("access list")
    shown = homespun("user show ada")
    assert "teams   shop" in shown and "web-* to user:ada" in shown and "ada@example.com" in shown
    assert homespun(f"token revoke {token}").startswith("token ")
    assert "still good" in homespun(f"token revoke {token}", 1)
    homespun("access revoke ada web-*")
    homespun("team leave shop ada")
    homespun("user role ada auditor")
    homespun("user deactivate ada")
    homespun("user activate ada")
    homespun("user erase ada --yes")
    assert "ada@example" not in homespun("audit export") and "ada " not in homespun("user list")
    entries = [json.loads(line) for line in homespun("audit export").splitlines()]
    verified = json.loads(homespun("audit verify --json"))
    assert verified["entries"] == len(entries) > 12 and verified["head"] == entries[-1]["digest"]
    assert "none changed" in homespun(f"audit verify --noted {entries[3]['digest']}")
    assert homespun("audit head").split() == [str(len(entries)), entries[-1]["digest"]]
    assert "user.erase" in homespun("audit list --newest 1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("user add root", "there already"),
        ("user add a/b", "no user name"),
        ("user show nobody", "none of that name"),
        ("user deactivate root", "last admin"),
        ("user erase root", "give --yes"),
        ("user add ada --team none", "homespun team add"),
        ("team join none root", "homespun team add"),
        ("token create root --days 0", "not above 0"),
        ("token revoke none", "homespun token list"),
        ("access grant shop", "say who"),
        ("access revoke root shop", "no such grant"),
        ("access check root shop", "homespun index"),
        ("audit verify --noted 00", "taken off the end"),
        ("audit verify --heads /none.log", "no such file"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(homespun: Command, words: str, message: str) -> None:
    homespun("user add root --role admin")
    before = homespun("audit verify")
    assert message in homespun(words, 1)
    assert homespun("audit verify") == before
