from __future__ import annotations

import pytest

from homespun_core.errors import ConfigError
from homespun_trainer.pretrain.allowlist import MEASURED_ON, PERMISSIVE, chosen, parse, read_allow_list


def test_the_built_in_list_is_permissive_and_large() -> None:
    allowed = read_allow_list(None)
    assert len(allowed) > 300
    assert all(set(entry.licence.split("-or-")) <= PERMISSIVE for entry in allowed)


@pytest.mark.parametrize("name", sorted(MEASURED_ON))
def test_repositories_that_are_measured_on_are_on_no_list(name: str) -> None:
    owner, _, own = name.partition("/")
    with pytest.raises(ConfigError, match=r"list:1: .* is what models are measured on"):
        parse(f"{owner.title()}/{own} MIT python -", "list")


def test_a_line_says_name_licence_languages_and_commit() -> None:
    (entry, at_head) = parse("# ours\na/b  MIT  python,cpp  0123abc\n\nc/d ISC go -  # late\n", "list")
    assert (entry.name, entry.folder, entry.short, entry.commit) == ("a/b", "a+b", "b", "0123abc")
    assert entry.languages == {"python", "cpp", "c"}
    assert at_head.commit is None


@pytest.mark.parametrize(
    "line",
    ["a/b  GPL-3.0  python  -", "a/b  MPL-2.0  python  -", "a/b  MIT-or-GPL-2.0  python  -", "a/b  Custom  go  -"],
)
def test_a_licence_that_is_not_permissive_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match=r"list:1: a/b is under"):
        parse(line, "list")


@pytest.mark.parametrize(
    "line",
    [
        "a/b MIT python",
        "ab MIT python -",
        "/b MIT python -",
        "a/b/c MIT python -",
        "../b MIT python -",
        "a/.. MIT python -",
        "a/b;c MIT python -",
    ],
)
def test_a_malformed_line_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match="list:1"):
        parse(line, "list")


def test_a_repository_stands_once() -> None:
    with pytest.raises(ConfigError, match="twice"):
        parse("a/b MIT python -\na/b MIT go -\n", "list")


def test_only_names_what_is_on_the_list() -> None:
    allowed = parse("a/b MIT python -\nc/d MIT python -\n", "list")
    assert chosen(allowed, ["c/d"]) == allowed[1:]
    assert chosen(allowed, []) == allowed
    with pytest.raises(ConfigError, match="x/y is not on the allow-list"):
        chosen(allowed, ["a/b", "x/y"])
