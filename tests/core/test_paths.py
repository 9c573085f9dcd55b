from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.paths import (
    hide_credentials,
    identity_as_said,
    repo_id,
    repo_identity,
    repo_identity_on_disk,
    why_unreadable,
)


@pytest.mark.parametrize(
    "spelling",
    [
        "https://git.example.com/team/app.git",
        "https://user:token@git.example.com/team/app",
        "https://GIT.example.com:8443/team/app/",
        "ssh://git@git.example.com:2222/team/app.git",
        "git@git.example.com:team/app.git",
    ],
)
def test_spellings_of_one_repository_are_one(spelling: str) -> None:
    assert repo_identity(spelling) == "git.example.com/team/app"


def test_same_names_of_other_owners_or_hosts_differ() -> None:
    urls = ["https://a.example/x/app", "https://a.example/y/app", "https://b.example/x/app"]
    assert len({repo_id(u) for u in urls}) == 3
    assert all(repo_id(u).startswith("app-") for u in urls)


@given(st.text(min_size=1, max_size=50).filter(lambda s: "\x00" not in s))
def test_a_repository_id_is_one_safe_path_part(source: str) -> None:
    name = repo_id("https://host/" + source)
    assert "/" not in name and not name.startswith((".", "-")) and len(name) < 64


@pytest.mark.parametrize(
    ("source", "identity"),
    [
        ("https://[::1]:8443/team/app.git", "[::1]/team/app"),
        ("git@[fe80::1]:team/app.git", "[fe80::1]/team/app"),
        ("https://git.example.com:port/team/app", "git.example.com/team/app"),
        ("https://git.example.com:/team/app", "git.example.com/team/app"),
        ("https://git.example.com", "git.example.com/"),
        ("https:///team/app", "nowhere/team/app"),
        ("svn+ssh://git.example.com/team/app", "git.example.com/team/app"),
        ("FILE:///src/app.git", "/src/app.git"),
        ("/src/app/.git", "/src/app"),
        ("/src/app/.git/", "/src/app"),
    ],
)
def test_odd_addresses_have_an_identity_too(source: str, identity: str) -> None:
    assert repo_identity(source) == identity


@pytest.mark.parametrize("source", ["~nobody-by-this-name/app", "a\0b", "\ud800", "x" * 10_000])
def test_paths_that_cannot_exist_are_local_ones(source: str) -> None:
    assert repo_identity(source).startswith("/")
    assert repo_id(source) == repo_id(source)


def test_what_is_said_elsewhere_is_taken_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "app")
    assert identity_as_said(f"{tmp_path}/x/../link/.git") == f"{tmp_path}/link"
    assert identity_as_said("~root/app").endswith("/~root/app")
    assert identity_as_said("git@git.example.com:team/app.git") == "git.example.com/team/app"


@given(st.text(max_size=50))
def test_a_url_is_never_taken_for_a_path(rest: str) -> None:
    assert not repo_identity("https://" + rest).startswith("/")
    assert repo_identity(rest)
    repo_id(rest)


def test_a_bare_repository_beside_a_work_tree_is_another_one() -> None:
    assert repo_identity("/src/app") != repo_identity("/src/app.git")
    assert repo_id("/src/app") != repo_id("/src/app.git")
    assert repo_id("/src/app.git").startswith("app-")


def test_a_folder_inside_a_repository_is_that_repository(tmp_path: Path) -> None:
    (tmp_path / "r" / ".git").mkdir(parents=True)
    (tmp_path / "r" / "deep" / "er").mkdir(parents=True)
    whole = str(tmp_path / "r")
    for inside in ("r", "r/.git", "r/deep", "r/deep/er"):
        assert repo_identity_on_disk(str(tmp_path / inside)) == whole
    assert repo_identity_on_disk(f"{whole}/gone") == f"{whole}/gone"
    assert repo_identity_on_disk("https://h/a") == "h/a"


UNREADABLE = (
    "https://[bad/s3cret",
    "https://user:s3/cret@host/x",
    "https://user:12/s3cret@host/x",
    "https://user:s3cr\u2100t@host/x",
    "https://user:s3#cret@host/x",
    "https://user:s3?cret@host/x",
    "https://user:s3 cret@host/x",
    "https://user:s3\ncret@host/x",
    "ssh://user:s3/cret@host/x",
    "ftp://user:s3/cret@host/x",
    "https://host:s3cret/x",
    " https://host:99999/s3cret",
)


@pytest.mark.parametrize("url", UNREADABLE)
def test_a_url_that_cannot_be_taken_apart_is_named_by_its_scheme(url: str) -> None:
    """urlsplit's own messages hold what it stumbled over, which may be half a password."""
    message = why_unreadable(url)
    assert message is not None and "special characters in a password must be percent-encoded" in message
    assert not any(word in message for word in ("s3", "cret", "user", "host", "bad", "999", "\n"))


@pytest.mark.parametrize(
    "source",
    [
        "https://git.example.com/team/app.git",
        "https://ada:p%2Fss@git.example.com:8443/team/app",
        "https://ada:p@ss@git.example.com/a b",
        "ssh://git@[::1]:22/~ada/app",
        "git@git.example.com:team/app",
        "/src/a@b",
        "file:///src/a@b",
    ],
)
def test_other_sources_are_clear(source: str) -> None:
    assert why_unreadable(source) is None


def test_without_its_credentials_a_url_is_the_same_repository() -> None:
    for url in ("https://ada:p@ss@h:8443/team/app", "ssh://git@h/team/app.git", "git@h:team/app"):
        assert repo_identity(hide_credentials(url)) == repo_identity(url) == "h/team/app"
