"""`[[prompt]]` tables: checked as strictly as settings."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_core.loading import load_settings
from homespun_core.prompt_versions import VARIED, PromptVersion


def loaded(tmp_path: Path, *tables: str) -> tuple[PromptVersion, ...]:
    file = tmp_path / "homespun.toml"
    file.write_text("snippet_count = 3\n" + "".join(f"[[prompt]]\n{table}\n" for table in tables))
    return load_settings({}, {}, file).prompts


def test_a_version_is_what_it_changes_and_for_how_many(tmp_path: Path) -> None:
    five = 'name = "five-snippets"\nsnippet_count = 5\nmax_prompt_tokens = 1600'
    none = 'name = "bare"\npercent = 12.5\nretrieval = false\neditor_context = false'
    assert loaded(tmp_path, five, none) == (
        PromptVersion(name="five-snippets", changes={"snippet_count": 5, "max_prompt_tokens": 1600}),
        PromptVersion(name="bare", changes={"retrieval": False, "editor_context": False}, percent=12.5),
    )
    assert loaded(tmp_path) == ()


def test_whatever_can_be_tried_can_become_the_default() -> None:
    assert set(VARIED) < {field.name for field in fields(Settings)}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("snippet_count = 5", "name: None is no name; write up to 40 letters"),
        ('name = "five snippets"\nsnippet_count = 5', "'five snippets' is no name"),
        ('name = "plain"\nsnippet_count = 5', "what it is compared with; choose another"),
        ('name = "five"', "changes nothing; set one of retrieval, snippet_count"),
        ('name = "five"\nmax_snippets = 5', "max_snippets: can't be varied; did you mean 'snippet_count'"),
        ('name = "five"\nkv_cache_mb = 64', "kv_cache_mb: can't be varied; the keys are name, percent, retrieval"),
        ('name = "five"\nsnippet_count = -1', "homespun.toml: prompt 1: snippet_count: -1 is below 0"),
        ('name = "five"\nsnippet_count = "many"', "prompt 1: snippet_count: 'many' is not a whole number"),
        ('name = "five"\nretrieval = "maybe"', "retrieval: 'maybe' is not true or false"),
        (
            'name = "five"\nsnippet_count = 5\npercent = 0',
            "percent: 0 is no share of the users; write a number above 0",
        ),
        ('name = "five"\nsnippet_count = 5\npercent = 100', "percent: 100 is no share"),
        ('name = "five"\nsnippet_count = 5\npercent = true', "percent: True is no share"),
        ('name = "five"\nsnippet_count = 5\npercent = nan', "percent: nan is no share"),
        ('name = "a"\nsnippet_count = 5\n[[prompt]]\nname = "a"\nsnippet_count = 6', "'a' is there twice; choose"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, table)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_one_table_instead_of_several_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "homespun.toml"
    file.write_text('[prompt]\nname = "five"\nsnippet_count = 5\n')
    with pytest.raises(ConfigError, match=r"write \[\[prompt\]\] above each"):
        load_settings({}, {}, file)
