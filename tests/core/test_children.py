"""Children of `homespun up` and `retrain`: what they are given; the rest is tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core import children
from homespun_core.children import sources_as_arguments
from homespun_core.config import SETTINGS, Settings
from homespun_core.loading import LoadedSettings
from homespun_core.repositories import RepositoryConfig

SECRET = RepositoryConfig(source="https://ada:hunter2@git.example.com/team/shop.git", groups=("staff",))
OVER_SSH = RepositoryConfig(source="ssh://git@git.example.com/team/till.git", name="till")
LOADED = LoadedSettings(Settings(), {}, (SECRET, OVER_SSH))


def test_children_find_a_configured_repository_without_its_credentials() -> None:
    """Arguments can be read by everybody on the machine."""
    words = sources_as_arguments(LOADED, [])
    assert "hunter2" not in " ".join(words)
    assert LOADED.chosen(words) == (SECRET, OVER_SSH)
    assert LOADED.chosen(sources_as_arguments(LOADED, ["till"])) == (OVER_SSH,)


@pytest.mark.parametrize("source", ["ssh://git@git.example.com/other", "git@git.example.com:other", "/src/other"])
def test_what_is_not_configured_stays_as_it_was_typed(source: str) -> None:
    assert sources_as_arguments(LOADED, [source]) == [source]


def test_a_folder_inside_a_configured_repository_is_passed_as_that(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "open").mkdir()
    whole = RepositoryConfig(source=str(tmp_path))
    assert sources_as_arguments(LoadedSettings(Settings(), {}, (whole,)), [str(tmp_path / "open")]) == [str(tmp_path)]


def test_no_secret_is_left_out_of_what_children_get() -> None:
    """Each is kept off the command line, so it must go with the environment."""
    named = {name for name in SETTINGS if name.endswith(("_token", "_secret"))}
    assert set(children._SECRETS) == named | {"database_url"}  # which may hold a password
