from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core.errors import ConfigError
from homespun_core.forges import ForgeConfig, parse_forges
from homespun_core.loading import load_settings

GITLAB: dict[str, object] = {"kind": "gitlab", "url": "https://gitlab.example.com", "token_env": "FORGE_TOKEN"}


def _parsed(*tables: dict[str, object]) -> tuple[ForgeConfig, ...]:
    return parse_forges(list(tables), "homespun.toml", Path("/etc/homespun"))


@pytest.mark.parametrize(
    ("kind", "url", "host", "api"),
    [
        ("github", "https://github.com", "github.com", "https://api.github.com"),
        ("github", "https://ghe.example.com/", "ghe.example.com", "https://ghe.example.com/api/v3"),
        ("gitlab", "https://gitlab.example.com", "gitlab.example.com", "https://gitlab.example.com/api/v4"),
        ("gitea", "http://git.example.com:3000", "git.example.com", "http://git.example.com:3000/api/v1"),
        ("forgejo", "https://git.example.com/forge", "git.example.com", "https://git.example.com/forge/api/v1"),
    ],
)
def test_where_its_api_is(kind: str, url: str, host: str, api: str) -> None:
    (forge,) = _parsed(GITLAB | {"kind": kind, "url": url})
    assert (forge.host, forge.api) == (host, api)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (GITLAB | {"kind": "bitbucket"}, "kind: choose from"),
        (GITLAB | {"ulr": "x"}, "did you mean 'url'"),
        (GITLAB | {"url": "gitlab.example.com"}, "looks like https"),
        (GITLAB | {"url": "https://user:secret@gitlab.example.com"}, "looks like https"),
        (GITLAB | {"url": "file:///etc/passwd"}, "looks like https"),
        (GITLAB | {"token_file": "x"}, "one of token_env and token_file"),
        ({"kind": "gitlab", "url": "https://x"}, "one of token_env and token_file"),
        (GITLAB | {"minutes": 0}, "minutes"),
        (GITLAB | {"minutes": True}, "minutes"),
        (GITLAB | {"ca_file": ""}, "ca_file"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        _parsed(table)
    assert "secret" not in str(caught.value) and str(caught.value).startswith("homespun.toml: forge 1")


def test_one_forge_has_one_table() -> None:
    with pytest.raises(ConfigError, match="there twice"):
        _parsed(GITLAB, GITLAB)


def test_a_token_is_read_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "forge.token"
    config = tmp_path / "homespun.toml"
    config.write_text('[[forge]]\nkind = "gitea"\nurl = "https://git.example.com"\ntoken_file = "forge.token"\n')
    (forge,) = load_settings({}, {}, config).forges
    with pytest.raises(ConfigError, match="can't be read"):
        forge.token()
    path.write_text("abc\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        forge.token()
    path.chmod(0o600)
    assert forge.token() == "abc"
    (other,) = _parsed(GITLAB)
    with pytest.raises(ConfigError, match="FORGE_TOKEN: holds no token"):
        other.token()
    monkeypatch.setenv("FORGE_TOKEN", "xyz")
    assert other.token() == "xyz"
