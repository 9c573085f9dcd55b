from __future__ import annotations

from pathlib import Path

import pytest

from docs.gather import BrokenLinkError, gather

SERVER = """\
# The server

Back to the [README](../README.md).

How it [runs](#running).

## Running

### By hand

See [people](#people), the [page](../docs/index.md) and [its code](main.py).

## People

A ![picture](a.png).
"""

INDEX = """\
# Home

→ the beginning of [it](../server/README.md)

→ [people](../server/README.md#people)
"""
RUN = """\
→ [running](../../server/README.md#running)

→ made of [main](../../server/main.py): flags
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "server/README.md": SERVER,
        "server/main.py": "print('~~~')\n",
        "server/a.png": "a picture",
        "docs/index.md": INDEX,
        "docs/admin/run.md": RUN,
        "docs/assets/site.css": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def gathered(root: Path) -> Path:
    gather(root, root / "site", {"flags": "[all](run.md)"}, {"admin/made.json": "{}"})
    return root / "site"


def test_sections_become_pages_and_links_lead_to_them(root: Path) -> None:
    site = gathered(root)
    page = (site / "admin/run.md").read_text()
    assert page.startswith("# Running\n\n## By hand\n")
    assert "[people](../index.md#people), the [page](../index.md)" in page
    assert "[all](run.md)" in page


def test_a_page_with_prose_takes_sections_in_and_leaves_titles_out(root: Path) -> None:
    page = (gathered(root) / "index.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("#")] == ["# Home", "## People"]
    assert "Back to" not in page
    assert "[runs](admin/run.md#running)" in page


def test_files_that_are_linked_come_along(root: Path) -> None:
    site = gathered(root)
    assert (site / "files/server/a.png").read_text() == "a picture"
    assert "![picture](files/server/a.png)" in (site / "index.md").read_text()
    assert "[its code](../files/server/main.py.md)" in (site / "admin/run.md").read_text()
    assert "print('~~~')" in (site / "files/server/main.py.md").read_text()


def test_a_folder_that_is_linked_is_a_list_of_its_files(root: Path) -> None:
    (root / "docs/more.md").write_text("# More\n\n[Pictures](../pictures)\n")
    (root / "pictures/old").mkdir(parents=True)
    (root / "pictures/one.py").write_text("1\n")
    site = gathered(root)
    assert "- old/\n- [one.py](pictures/one.py.md)" in (site / "files/pictures.md").read_text()
    assert (site / "files/pictures/one.py.md").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("→ [x](../server/README.md#gone)", "#gone"),
        ("→ [x](../gone/README.md)", "gone/README.md"),
        ("→ made of [x](../server/main.py): gone", "gone"),
    ],
)
def test_what_is_not_there_is_named(root: Path, text: str, named: str) -> None:
    (root / "docs/bad.md").write_text(f"# Bad\n\n{text}\n")
    with pytest.raises(BrokenLinkError, match=named):
        gathered(root)
