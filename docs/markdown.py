"""Markdown as text: its headings, sections and links. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pymdownx.slugs import slugify

_FENCE = re.compile(r"\s*(```+|~~~+)")
_HEADING = re.compile(r"(#{1,6}) +(.+?)\s*$")
_LINK = re.compile(r'(\]\(|\b(?:src|srcset|href)=")([^)"\s]+)')
_CODE = re.compile(r"(`+[^`]*`+)")
_slug_of = slugify(case="lower")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    level: int
    slug: str
    line: int


def headings(text: str) -> list[Heading]:
    """With anchors as forges make them; the site's configuration makes the same."""
    found = [(number, _HEADING.match(line)) for number, line in _prose(text)]
    return [
        Heading(level=len(match[1]), slug=slug(match[2]), line=number) for number, match in found if match is not None
    ]


def slug(title: str) -> str:
    shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
    return str(_slug_of(shown, "-"))


def section(text: str, anchor: str) -> str:
    """From its heading to the next one that isn't below it. Raises KeyError where there is none."""
    known = headings(text)
    begin = next((one for one in known if one.slug == anchor), None)
    if begin is None:
        raise KeyError(f"no section #{anchor}; there are: {', '.join(one.slug for one in known)}")
    end = next((one.line for one in known if one.line > begin.line and one.level <= begin.level), None)
    return _lines(text, begin.line, end)


def beginning(text: str) -> str:
    """Up to the first section."""
    return _lines(text, 0, next((one.line for one in headings(text) if one.level > 1), None))


def without_title(text: str) -> str:
    first = next(iter(headings(text)), None)
    return text if first is None else _lines(text, first.line + 1, None)


def with_first_at(text: str, level: int) -> str:
    """All headings moved so that the first has this level."""
    known = headings(text)
    if not known:
        return text
    lines = text.splitlines()
    for one in known:
        lines[one.line] = "#" * (one.level + level - known[0].level) + lines[one.line].lstrip("#")
    return "\n".join(lines)


def relinked(text: str, target: Callable[[str], str]) -> str:
    """Links and pictures, in Markdown or HTML, but for those in code."""
    lines = text.splitlines()
    for numbers in _paragraphs(text):
        parts = _CODE.split("\n".join(lines[number] for number in numbers))
        parts[::2] = [_LINK.sub(lambda match: match[1] + target(match[2]), part) for part in parts[::2]]
        lines[numbers[0] : numbers[-1] + 1] = "".join(parts).split("\n")
    return "\n".join(lines)


def _paragraphs(text: str) -> Iterator[list[int]]:
    """Numbers of lines that belong together: code in a line may begin in the one before."""
    together: list[int] = []
    for number, line in _prose(text):
        if together and (not line.strip() or number != together[-1] + 1):
            yield together
            together = []
        if line.strip():
            together.append(number)
    if together:
        yield together


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Numbers and lines outside of fenced code."""
    fence = ""
    for number, line in enumerate(text.splitlines()):
        match = _FENCE.match(line)
        if match is None:
            if not fence:
                yield number, line
        elif not fence:
            fence = match[1]
        elif match[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""


def _lines(text: str, begin: int, end: int | None) -> str:
    return "\n".join(text.splitlines()[begin:end]).strip("\n")
