import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.paths import repo_id, repo_identity


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
        ("FILE:///src/app.git", "/src/app"),
    ],
)
def test_odd_addresses_have_an_identity_too(source: str, identity: str) -> None:
    assert repo_identity(source) == identity


@pytest.mark.parametrize("source", ["~nobody-by-this-name/app", "a\0b", "\ud800", "x" * 10_000])
def test_paths_that_cannot_exist_are_local_ones(source: str) -> None:
    assert repo_identity(source).startswith("/")
    assert repo_id(source) == repo_id(source)


@given(st.text(max_size=50))
def test_a_url_is_never_taken_for_a_path(rest: str) -> None:
    assert not repo_identity("https://" + rest).startswith("/")
    assert repo_identity(rest)
    repo_id(rest)
