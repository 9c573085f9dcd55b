"""`[[repository]]` tables: what they may say, what is refused, and which one a command means."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from homespun_core.errors import ConfigError
from homespun_core.loading import load_settings
from homespun_core.repositories import KEYS, RepositoryConfig, SourceRules, chosen, parse_repositories

BASE = Path("/etc/homespun")
FULL = """
[[repository]]
source = "https://git.example.com/team/shop.git"
name = "shop"
branch = "develop"
languages = ["Python", "typescriptreact"]
include = ["src/**"]
exclude = ["*_test.py"]
groups = ["shop developers"]
max_repo_mb = 100
max_clone_mb = 300
timeout_s = 60
index_minutes = 30
token_file = "shop.token"
user = "deploy"
"""


def parsed(text: str) -> tuple[RepositoryConfig, ...]:
    return parse_repositories(tomllib.loads(text).get("repository"), "homespun.toml", BASE)


def test_a_table_says_how_a_repository_is_read() -> None:
    assert parsed(FULL) == (
        RepositoryConfig(
            source="https://git.example.com/team/shop.git",
            name="shop",
            branch="develop",
            rules=SourceRules(languages=("python", "tsx"), include=("src/**",), exclude=("*_test.py",)),
            groups=("shop developers",),
            max_repo_mb=100,
            max_clone_mb=300,
            timeout_s=60,
            index_minutes=30,
            token_file=BASE / "shop.token",
            user="deploy",
        ),
    )


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("shop", "/etc/homespun/shop"),
        ("/src/shop", "/src/shop"),
        ("~/shop", "~/shop"),
        ("git@git.example.com:team/shop.git", "git@git.example.com:team/shop.git"),
        ("ssh://git.example.com/shop", "ssh://git.example.com/shop"),
    ],
)
def test_relative_paths_count_from_the_settings_file(source: str, place: str) -> None:
    (repo,) = parsed(f'[[repository]]\nsource = "{source}"\n')
    assert repo.source == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[repository]\nsource = 'a'", "is not a list of tables; write [[repository]]"),
        ("repository = ['a']", "is not a list of tables"),
        ("[[repository]]\nsource = 'a'\nkeep_completions = 'no'", "keep_completions: 'no' is not true or false"),
        ("[[repository]]\nname = 'a'", "repository 1: source is missing; give the directory or URL"),
        ("[[repository]]\nsource = 'a'\nlangauges = []", "langauges: unknown key; did you mean 'languages'?"),
        ("[[repository]]\nsource = 'a'\nxyzzy = 1", "xyzzy: unknown key; the keys are source, name,"),
        ("[[repository]]\nsource = 3", "source: 3 is not text"),
        ("[[repository]]\nsource = ' '", "source: ' ' is empty"),
        ('[[repository]]\nsource = "a\\nb"', "has control characters; write one line"),
        ("[[repository]]\nsource = 'a'\ngroups = 'staff'", "groups: 'staff' is not a list; write it in [brackets]"),
        ("[[repository]]\nsource = 'a'\ninclude = [1]", "include: 1 is not text"),
        (
            "[[repository]]\nsource = 'a'\nlanguages = ['pyton']",
            "languages: 'pyton' is not a known language; did you mean 'python'?",
        ),
        ("[[repository]]\nsource = 'a'\ntimeout_s = 0", "timeout_s: 0 is below 1"),
        ("[[repository]]\nsource = 'a'\nmax_repo_mb = true", "max_repo_mb: True is not a whole number"),
        ("[[repository]]\nsource = 'a'\nmax_repo_mb = 1.5", "max_repo_mb: 1.5 is not a whole number"),
        (
            "[[repository]]\nsource = 'a'\ntoken_env = 'A'\ntoken_file = 'b'",
            "token_file and token_env are both set; keep the one",
        ),
        (
            "[[repository]]\nsource = 'a'\n[[repository]]\nsource = './a/'",
            "source '/etc/homespun/a' is there twice; remove one",
        ),
        (
            "[[repository]]\nsource = 'https://h/a'\n[[repository]]\nsource = 'git@h:a.git'",
            "source 'git@h:a.git' is there twice",
        ),
        (
            "[[repository]]\nsource = 'a'\nname = 'x'\n[[repository]]\nsource = 'b'\nname = 'x'",
            "name 'x' is there twice",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("token", ["ghp_0123456789", "glpat-abc/def", "HOMESPUN_SHOP"])
def test_a_token_written_where_its_variable_belongs_is_not_repeated(token: str) -> None:
    with pytest.raises(ConfigError, match="token_env") as caught:
        parsed(f"[[repository]]\nsource = 'a'\ntoken_env = '{token} x'\n")
    assert token not in str(caught.value)
    with pytest.raises(ConfigError, match="choose another variable"):
        parsed("[[repository]]\nsource = 'a'\ntoken_env = 'HOMESPUN_SHOP'\n")


def test_every_key_is_a_field() -> None:
    fields = set(RepositoryConfig.__slots__) - {"rules"} | set(SourceRules.__slots__)
    assert set(KEYS) == fields


SHOP = RepositoryConfig(source="https://git.example.com/team/shop.git", name="shop", branch="develop")
WEB = RepositoryConfig(source="/src/web", name="web")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((), (SHOP, WEB)),
        (("shop",), (SHOP,)),
        (("git@git.example.com:team/shop",), (SHOP,)),
        (("/src/web/", "shop", "web"), (WEB, SHOP)),
        (("/src/other",), (RepositoryConfig(source="/src/other"),)),
        (("unheard-of",), (RepositoryConfig(source="unheard-of"),)),
    ],
)
def test_a_source_or_a_name_finds_its_configuration(
    given: tuple[str, ...], found: tuple[RepositoryConfig, ...]
) -> None:
    assert chosen((SHOP, WEB), given) == found


def test_a_directory_is_itself_whatever_is_called_like_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path)
    assert chosen((SHOP,), ["shop"]) == (RepositoryConfig(source="shop"),)


def test_nothing_to_do_is_said_with_its_remedy() -> None:
    with pytest.raises(ConfigError, match=r"no repository given: name a directory or URL, or write \[\[repository\]\]"):
        chosen((), ())


def test_rules_are_told_apart_by_a_json_value() -> None:
    rules = SourceRules(languages=("rust", "go"), include=("a", "b"))
    assert rules.key() == SourceRules(languages=("go", "rust"), include=("a", "b")).key()
    others = [
        SourceRules(),
        SourceRules(include=("b", "a"), languages=("go", "rust")),
        SourceRules(exclude=("a", "b"), languages=("go", "rust")),
    ]
    assert all(json.dumps(rules.key()) != json.dumps(other.key()) for other in others)


def test_the_settings_file_holds_settings_and_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "homespun.toml").write_text("port = 9000\n" + FULL)
    loaded = load_settings({}, {})
    assert loaded.settings.port == 9000
    assert [repo.name for repo in loaded.chosen(())] == ["shop"]
    assert "shop.token" not in repr(loaded)
    (tmp_path / "homespun.toml").write_text("[[repositories]]\nsource = 'a'\n")
    with pytest.raises(ConfigError, match="repositories: unknown setting; did you mean 'repository'"):
        load_settings({}, {})


@pytest.mark.parametrize(
    "url", ["https://[bad/s3cret", "https://user:s3/cret@host/x", "https://user:s3cr\u2100t@host/x"]
)
def test_a_url_that_cannot_be_read_is_refused_before_it_is_shown(url: str) -> None:
    for table, given in ((f"[[repository]]\nsource = '{url}'\n", []), ("repository = []", [url])):
        with pytest.raises(ConfigError, match="must be percent-encoded") as caught:
            chosen(parsed(table), given)
        assert not any(word in str(caught.value) for word in ("s3", "cret", "host", "bad"))


def test_messages_about_a_source_hold_no_credentials() -> None:
    table = "[[repository]]\nsource = 'https://ada:hunter2@h/a'\n"
    for text in (table * 2, "[[repository]]\nsource = ['https://ada:hunter2@h/a']\n"):
        with pytest.raises(ConfigError) as caught:
            parsed(text)
        assert "hunter2" not in str(caught.value)


def test_a_folder_inside_a_configured_repository_has_its_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`homespun index .` in such a folder indexed everything, for everybody."""
    (tmp_path / "r" / ".git").mkdir(parents=True)
    (tmp_path / "r" / "open").mkdir()
    monkeypatch.chdir(tmp_path / "r" / "open")
    closed = RepositoryConfig(source=str(tmp_path / "r"), groups=("staff",))
    inner = RepositoryConfig(source=str(tmp_path / "r" / "open"), groups=("staff",))
    for source in (".", "..", str(tmp_path / "r" / "open")):
        assert chosen([closed], [source]) == (closed,)
        assert chosen([inner], [source]) == (inner,)
    assert chosen([closed], ["gone"]) == (RepositoryConfig(source="gone"),)
    with pytest.raises(ConfigError, match="is there twice"):
        parsed("".join(f"[[repository]]\nsource = '{repo.source}'\n" for repo in (closed, inner)))


def test_a_token_file_in_an_unknown_home_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"token_file: .*no such home directory"):
        parsed("[[repository]]\nsource = 'a'\ntoken_file = '~nobody-by-this-name/token'\n")
