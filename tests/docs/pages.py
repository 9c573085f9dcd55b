"""What a page of the site links to and loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_LOADED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


@dataclass(slots=True)
class Page:
    links: set[str] = field(default_factory=set)
    of_the_text: set[str] = field(default_factory=set)
    """Links that aren't of the navigation."""
    loaded: set[str] = field(default_factory=set)
    anchors: set[str] = field(default_factory=set)


def read(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text("utf-8"))
    return reader.page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag not in _VOID:
            self._open.append(tag)
        if "id" in given:
            self.page.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.page.links.add(given["href"])
            if "article" in self._open:
                self.page.of_the_text.add(given["href"])
        if tag != "a":
            self.page.loaded |= _loaded(tag, given)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass


def _loaded(tag: str, given: dict[str, str]) -> set[str]:
    found = {given[name] for name in ("src", "data", "poster", "action") if given.get(name)}
    found |= {part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()}
    if tag == "link" and _LOADED_LINKS & set(given.get("rel", "").split()):
        found.add(given["href"])
    return found
