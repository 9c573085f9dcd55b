"""The site that `make docs` builds: whole, and of nothing but itself."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag

from homespun_core.cli import VERBS
from homespun_core.config import SETTINGS
from tests.docs.pages import Page

ROOT = Path(__file__).parents[2]
ELSEWHERE = re.compile(r"^(?:[a-z]+:)?//|^(?:https?|data|javascript):", re.IGNORECASE)


def led_to(page: str, link: str) -> tuple[str, str]:
    """Place in the site and anchor."""
    path, anchor = urldefrag(link)
    return (posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(path))) if path else page), anchor


def test_every_link_leads_to_a_page_and_an_anchor_on_it(site: Path, pages: dict[str, Page]) -> None:
    inside = {(page, link) for page, found in pages.items() for link in found.links if not ELSEWHERE.match(link)}
    assert len(inside) > 1000
    dead = []
    for page, link in inside:
        place, anchor = led_to(page, link)
        there = (
            (site / place).is_file() if place not in pages else not anchor or unquote(anchor) in pages[place].anchors
        )
        if not there and not link.startswith("mailto:"):
            dead.append(f"{page}: {link}")
    assert dead == []


def test_no_page_loads_anything_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    foreign = {f"{page}: {asset}" for page, found in pages.items() for asset in found.loaded if ELSEWHERE.match(asset)}
    assert foreign == set()
    missing = {
        f"{page}: {asset}"
        for page, found in pages.items()
        for asset in found.loaded
        if not (site / led_to(page, asset.partition("?")[0])[0]).exists()
    }
    assert missing == set()


def test_no_style_loads_anything_from_elsewhere(site: Path) -> None:
    styles = list(site.rglob("*.css"))
    imported = [found for style in styles for found in re.findall(r"@import[^;]*|url\(([^)]*)\)", style.read_text())]
    assert styles
    assert [found for found in imported if not found.startswith(("data:", "../", "#", "'data:", '"data:'))] == []


def test_every_page_is_two_clicks_from_the_first_without_the_navigation(pages: dict[str, Page]) -> None:
    def next_to(reached: set[str]) -> set[str]:
        return {led_to(page, link)[0] for page in reached for link in pages[page].of_the_text} & pages.keys()

    first = next_to({"index.html"})
    reached = {"index.html"} | first | next_to(first)
    assert {page for page in pages if not page.startswith("files/")} - reached == set()


def test_every_page_of_docs_is_in_the_navigation() -> None:
    listed = set(re.findall(r"\S+\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} == listed


def test_lists_and_tables_are_no_running_text(site: Path, pages: dict[str, Page]) -> None:
    """Forges begin a list without a blank line before it, the site doesn't."""
    texts = {page: (site / page).read_text() for page in pages}
    paragraphs = {page: re.findall(r"<p>(.*?)</p>", text, re.DOTALL) for page, text in texts.items()}
    broken = re.compile(r"^(?:- |\d+\. |\|)", re.MULTILINE)
    assert [(page, p[:80]) for page, found in paragraphs.items() for p in found if broken.search(p)] == []


def test_no_line_that_should_have_included_something_is_left(site: Path, pages: dict[str, Page]) -> None:
    assert [page for page in pages if "<p>→" in (site / page).read_text()] == []


def test_the_reference_has_every_setting_verb_and_route(site: Path, pages: dict[str, Page]) -> None:
    assert pages["reference/settings.html"].anchors >= set(SETTINGS)
    assert pages["reference/command-line.html"].anchors >= {f"homespun-{verb}" for verb in VERBS}
    shown = (site / "reference/api.html").read_text()
    routes = json.loads((site / "reference/openapi.json").read_text())["paths"]
    assert [path for path in routes if path not in shown] == []


def test_search_knows_the_prose_and_not_the_files_that_are_shown(site: Path) -> None:
    known = {
        entry["location"].partition("#")[0]
        for entry in json.loads((site / "search/search_index.json").read_text())["docs"]
    }
    assert {"quick-start.html", "runbooks/HomespunDown.html", "security/threat-model.html"} <= known
    assert [page for page in known if page.startswith("files/")] == []


def test_what_is_written_for_readers_of_the_site_is_a_page_of_it_and_no_file_to_look_at(site: Path) -> None:
    shown = {path.relative_to(site / "files").as_posix() for path in site.glob("files/**/README*.html")}
    assert shown == set()
