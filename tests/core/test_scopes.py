from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.errors import ConfigError
from homespun_core.loading import LoadedSettings, load_settings
from homespun_core.paths import repo_id
from homespun_core.scopes import is_scope, lender, scope_id, why_kept_back

REPOSITORIES = """
[[repository]]
source = "https://git.example.com/team/shop.git"
name = "shop"

[[repository]]
source = "https://git.example.com/team/web.git"
name = "web"

[[repository]]
source = "https://git.example.com/team/tools.git"
"""


def loaded(tmp_path: Path, tables: str) -> LoadedSettings:
    file = tmp_path / "homespun.toml"
    file.write_text(REPOSITORIES + tables)
    return load_settings({}, {}, file)


def test_a_shared_adapter_is_of_the_repositories_it_names(tmp_path: Path) -> None:
    found = loaded(tmp_path, '[[adapter]]\nname = "team"\nrepositories = ["web", "shop"]\ngroups = ["developers"]\n')
    (scope,) = found.scopes
    assert [repo.name for repo in scope.repositories] == ["web", "shop"] and scope.groups == ("developers",)
    assert found.scope("team") == found.scope("@team") == scope and scope.id == "@team"
    assert found.scope("shop") is None


def test_all_is_all_that_are_configured_named_or_not(tmp_path: Path) -> None:
    (scope,) = loaded(tmp_path, '[[adapter]]\nname = "everybody"\nrepositories = "all"\n').scopes
    assert [repo.name for repo in scope.repositories] == ["shop", "web", None]


def test_a_directory_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(tmp_path, '[[adapter]]\nname = "team"\nrepositories = "all"\n')
    (tmp_path / "team").mkdir()
    monkeypatch.chdir(tmp_path)
    assert found.scope("team") is None and found.scope("@team") is not None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('name = "team"\nrepositories = ["shop", "wbe"]', "did you mean 'web'"),
        ('name = "team"\nrepositories = ["shop", "shop"]', "name at least two"),
        ('name = "team"\nrepositories = "some"', "not a list of names"),
        ('name = "team"', "not a list of names"),
        ('repositories = "all"', "None is no name"),
        ('name = "../team"\nrepositories = "all"', "is no name"),
        ('name = "shop"\nrepositories = "all"', "is there twice"),
        ('name = "team"\nrepositories = "all"\ngroup = []', "did you mean 'groups'"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_the_remedy(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        loaded(tmp_path, f"[[adapter]]\n{table}\n")
    assert "adapter 1" in str(error.value) or "twice" in said


@given(st.text())
def test_no_repository_has_the_directory_of_a_shared_adapter(source: str) -> None:
    assert not is_scope(repo_id(source)) and is_scope(scope_id("team"))


@given(st.frozensets(st.sampled_from("abcd")), st.frozensets(st.sampled_from("abcd")))
def test_an_adapter_goes_only_to_who_may_read_all_it_has_seen(seen: frozenset[str], readable: frozenset[str]) -> None:
    assert (why_kept_back("@team", seen, readable) is None) == (bool(seen) and seen <= readable)
    assert (why_kept_back("a", seen, readable) is None) == (seen <= readable | {"a"})


@given(st.dictionaries(st.sampled_from(["a", "@x", "@y", "@z"]), st.frozensets(st.sampled_from("abcd"))))
def test_what_is_lent_saw_the_repository_and_is_the_closest(live: dict[str, frozenset[str]]) -> None:
    found = lender("a", live)
    fitting = [id for id in live if is_scope(id) and "a" in live[id]]
    assert (found is None) == (not fitting and "a" not in live)
    if found is not None and found != "a":
        assert "a" not in live and all(len(live[found]) <= len(live[id]) for id in fitting)
