"""The pages of the site, gathered: prose in docs/, and parts of the documents that stand beside the code.

A page includes with a line of its own, which on a forge is a link, so that nothing is written twice:

    → [any text](../../server/README.md#people-and-access)    a section; the whole document without `#…`
    → the beginning of [any text](../../server/README.md)     what stands before its first section
    → made of [any text](../../core/config.py): settings      a text that is made of the code, by its name

Links count from the document that they stand in, as on a forge. Here they become links to the page that has the
section; pictures are copied along, and other files of the repository become pages that show them. So the site is whole
by itself.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from docs import markdown

_INCLUDED = re.compile(r"^→ (the beginning of |made of |)\[[^]]+\]\(([^)]+)\)(?:: (\S+))?$", re.MULTILINE)
_WAY_BACK = re.compile(r"^Back to the \[README\].*\n", re.MULTILINE)
"""What a document says to whoever came from the README; the site has a navigation."""
_ELSEWHERE = ("http://", "https://", "mailto:")
_PICTURES = {".png", ".svg"}
_FENCE = "~" * 12


class BrokenLinkError(Exception):
    """A page names what isn't there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    text: str
    source: str
    """The document its links count from, as a path in the repository."""


def gather(root: Path, folder: Path, generated: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Fills `folder` with the site's pages, pictures, and `files`, whose names are places in it.

    Raises BrokenLinkError.
    """
    names = sorted(path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md"))
    pages = {name.removeprefix("docs/"): parts_of(name, root, generated) for name in names}
    site = _Site(root, folder, pages, files)
    for place, text in files.items():
        site.put(place, text)
    for page, parts in pages.items():
        site.put(page, "\n\n".join(site.relinked(part, page) for part in parts))
    site.show_the_rest()
    shutil.copytree(root / "docs/assets", folder / "assets")


def parts_of(name: str, root: Path, generated: Mapping[str, str]) -> list[Part]:
    """`name` is a page's path in the repository."""
    parts: list[Part] = []
    text, at = (root / name).read_text("utf-8"), 0
    for match in _INCLUDED.finditer(text):
        parts += _prose(text[at : match.start()], name)
        parts.append(_included(match, name, root, generated, is_first=not parts))
        at = match.end()
    return parts + _prose(text[at:], name)


def _prose(text: str, name: str) -> list[Part]:
    return [Part(text=text.strip("\n"), source=name)] if text.strip() else []


def _included(match: re.Match[str], name: str, root: Path, generated: Mapping[str, str], *, is_first: bool) -> Part:
    kind, link, what = match[1], match[2], match[3]
    try:
        if kind == "made of ":
            return Part(text=generated[what], source=name)
        path, _, anchor = link.partition("#")
        source = _joined(name, path)
        text = _WAY_BACK.sub("", (root / source).read_text("utf-8"))
        if anchor:
            text = markdown.with_first_at(markdown.section(text, anchor), 1 if is_first else 2)
    except (KeyError, FileNotFoundError) as error:
        raise BrokenLinkError(f"{name} includes {what or link}: {error}") from error
    if kind:
        text = markdown.beginning(text)
    return Part(text=text if is_first or anchor else markdown.without_title(text), source=source)


def _joined(source: str, link: str) -> str:
    """Path in the repository that a link in `source` leads to."""
    return posixpath.normpath(PurePosixPath(source).parent / link)


class _Site:
    """Where everything is, and what else has to be there because a page links to it."""

    def __init__(self, root: Path, folder: Path, pages: Mapping[str, list[Part]], files: Iterable[str]) -> None:
        self._root, self._folder = root, folder
        self._homes = {f"docs/{place}": place for place in [*pages, *files]}
        self._anchors: dict[tuple[str, str], str] = {}
        for page, parts in pages.items():
            for part in parts:
                self._homes.setdefault(part.source, page)
                for heading in markdown.headings(part.text):
                    self._anchors.setdefault((part.source, heading.slug), page)
        self._unseen: list[str] = []
        self._shown: set[str] = set()

    def put(self, page: str, text: str) -> None:
        path = self._folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", "utf-8")

    def relinked(self, part: Part, page: str) -> str:
        return markdown.relinked(part.text, lambda link: self._target(link, part.source, page))

    def show_the_rest(self) -> None:
        while self._unseen:
            path = self._unseen.pop()
            self.put(_shown_at(path), self._listing(path) if (self._root / path).is_dir() else self._text(path))

    def _target(self, link: str, source: str, page: str) -> str:
        if link.startswith(_ELSEWHERE):
            return link
        name, _, anchor = link.partition("#")
        path = _joined(source, name) if name else source
        place = self._place(path, anchor)
        if place is None:
            raise BrokenLinkError(f"{source} links to {link}, which isn't there")
        return posixpath.relpath(place, PurePosixPath(page).parent) + (f"#{anchor}" if anchor else "")

    def _place(self, path: str, anchor: str) -> str | None:
        """Of a file or folder of the repository in the site."""
        page = self._anchors.get((path, anchor)) or self._homes.get(path) or self._homes.get(f"{path}/README.md")
        if page is not None or not (self._root / path).exists():
            return page
        if Path(path).suffix in _PICTURES:
            return self._copied(path)
        if path not in self._shown:
            self._shown.add(path)
            self._unseen.append(path)
        return _shown_at(path)

    def _copied(self, path: str) -> str:
        place = f"files/{path}"
        (self._folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._root / path, self._folder / place)
        return place

    def _text(self, path: str) -> str:
        language = Path(path).suffix.removeprefix(".") or "text"
        return _unsearched(path, f"{_FENCE}{language}\n{(self._root / path).read_text('utf-8').rstrip()}\n{_FENCE}")

    def _listing(self, path: str) -> str:
        """Of the files in a folder, each a link, and of the names of its folders."""
        inside = sorted(one for one in (self._root / path).iterdir() if one.name != "__pycache__")
        return _unsearched(path, "\n".join(f"- {self._listed(path, one)}" for one in inside))

    def _listed(self, path: str, one: Path) -> str:
        page = _shown_at(path)
        return f"{one.name}/" if one.is_dir() else f"[{one.name}]({self._target(one.name, f'{path}/{one.name}', page)})"


def _shown_at(path: str) -> str:
    return f"files/{path}.md"


def _unsearched(path: str, text: str) -> str:
    """A page that the search leaves out: whoever searches wants prose."""
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n{text}"
