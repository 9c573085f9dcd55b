"""`homespun explain`: one completion taken apart by the server, as the console's playground has it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from homespun_core.config import JOBS
from homespun_core.errors import ConfigError
from homespun_core.loading import add_flags, settings_from_args
from homespun_lsp import repository
from homespun_server.access.cli.opened import table
from homespun_server.explained import Layer
from homespun_server.jobs.client import Client

_EPILOG = """\
The completion at a place in a file as it is on disk: by the base model, then with one layer of your own code after the
other; the snippets and why each was chosen; the prompt; drafts and times. Nothing computed before is used, so the times
compare, and nothing of it is counted as usage.

examples:
  homespun explain src/orders.py:120:9        line and column count from 1; column 1 is before the first character
  homespun explain src/orders.py:120          at the end of the line
  homespun explain src/orders.py:120:9 --without snippets --without adapter
  homespun explain src/orders.py:120:9 --json

The server is asked: --server-url says where it is, HOMESPUN_API_TOKEN who you are.
"""
_PATH = "/v1/homespun/explain"
_PATIENCE_S = 120.0
_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d{1,9})(?::(?P<column>\d{1,9}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    path: str
    repo: str | None
    prefix: str
    suffix: str


class PlaygroundClient(Client):
    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token, _PATH)

    def explain(self, place: Place, without: Sequence[Layer]) -> dict[str, Any]:
        body = {"path": place.path, "repo": place.repo, "prefix": place.prefix, "suffix": place.suffix}
        found: dict[str, Any] = self._call("POST", "", body | {"without": list(without)}, wait_s=_PATIENCE_S)
        return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("place", metavar="FILE:LINE:COLUMN", help="where the cursor is")
    help = "leave this layer out; may be given several times"
    parser.add_argument("--without", action="append", default=[], choices=get_args(Layer), help=help)
    parser.add_argument("--repo", metavar="REPO", help="name, path or URL (default: what the file lies in)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_flags(parser, (JOBS,))


def run(args: argparse.Namespace) -> int:
    place = place_of(args.place, args.repo)
    settings = settings_from_args(args).settings
    client = PlaygroundClient(settings.server_url, settings.api_token)
    try:
        found = client.explain(place, args.without)
    finally:
        client.close()
    print(json.dumps(found, indent=1) if args.json else render(found))
    return 0


def place_of(word: str, repo: str | None) -> Place:
    """Raises ConfigError for what isn't a place in a file that can be read."""
    match = _PLACE.fullmatch(word)
    if match is None:
        raise ConfigError(f"{word}: names no place; write it as FILE:LINE:COLUMN, src/orders.py:120:9")
    file = Path(match["file"])
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = "it isn't UTF-8" if isinstance(error, ValueError) else error.strerror
        raise ConfigError(f"{file}: can't be read ({why}); give a text file") from None
    before, after = _split(text, int(match["line"]), match["column"], word)
    root = repository.find(file.absolute().parent)
    path = file.absolute().relative_to(root.root).as_posix() if root else file.name
    return Place(path=path, repo=repo or (root.name if root else None), prefix=before, suffix=after)


def _split(text: str, line: int, column: str | None, word: str) -> tuple[str, str]:
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise ConfigError(f"{word}: the file has {len(lines):,} lines; count them from 1")
    width = len(lines[line - 1].removesuffix("\r"))
    at = width if column is None else int(column) - 1
    if not 0 <= at <= width:
        raise ConfigError(f"{word}: line {line} has columns 1 to {width + 1}")
    cut = sum(len(one) + 1 for one in lines[: line - 1]) + at
    return text[:cut], text[cut:]


def render(found: Mapping[str, Any]) -> str:
    return "\n".join(map(_printable, _parts(found)))


def _parts(found: Mapping[str, Any]) -> Iterator[str]:
    known = f"with what is known of {found['repository']}" if found["repository"] else "no repository is known here"
    yield f"{found['path'] or 'a file'}: {known}"
    for arm in found["arms"]:
        yield f"\n{arm['title']}:\n{_indented(arm['text']) if arm['text'] else '  nothing worth showing'}"
    titles = [arm["title"] for arm in found["arms"]]
    yield "\n" + table([("", *titles), *((row["title"], *row["values"]) for row in found["compared"])])
    yield "\nsnippets, best first:" if found["snippets"] else "\nno snippet was found, or none fitted into the prompt"
    for one in found["snippets"]:
        score = f", score {one['score']:.2f}" if one["score"] else ""
        shared = f"; shares {', '.join(one['shared'])} with the lines around the cursor" if one["shared"] else ""
        yield f"\n{one['path']}:{one['start_line']}: {one['why']}{score}{shared}\n{_indented(one['text'])}"
    yield f"\nprompt, {found['prompt_tokens']:,} tokens:\n" + "".join(piece["text"] for piece in found["prompt"])
    if found["opening"]:
        yield f"\nthe model spells {found['opening']!r} again, the end of what stands before the cursor"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _printable(text: str) -> str:
    """Code of others mustn't turn colours, titles and keys of a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text.replace("\r\n", "\n"))
