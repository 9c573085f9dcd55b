"""A made-up company's repository, small and in a style of its own, that can be typed and pushed to."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

_ENTITIES = ("order", "parcel", "voucher", "invoice", "loom", "weaver", "yarn", "dye", "pattern", "bale")
_FIELDS = ("customer_id", "state", "depot", "supplier_id", "season", "currency")
_BEGINNING = '''"""Access to {name}s, the house way."""

from loomworks.base import BaseRepository
from loomworks.spans import span


class {title}Repository(BaseRepository):
'''
_METHOD = """
    def find_by_{field}(self, {field}: str) -> list[{title}]:
        with span("{name}.find_by_{field}") as current:
            rows = self.session.fetch_all({name}s.where({field}={field}))
            current.annotate(rows=len(rows))
        return [{title}.from_row(row) for row in rows]
"""
_KEYS = 4
"""Typed between two requests."""


class Company:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "loomworks").mkdir(parents=True)
        for name in _ENTITIES[:6]:
            (folder / "loomworks" / f"{name}s.py").write_text(_source(name, _FIELDS))
        self._git("init", "-q", "-b", "main")
        self._commit("first")

    @property
    def beginning(self) -> str:
        return _BEGINNING.format(name="hall", title="Hall")

    def typing(self, chooser: random.Random) -> Iterator[str]:
        """What stands before the cursor, a few keys later each time; without end."""
        while True:
            beginning, text = written(chooser)
            yield from (beginning + text[:at] for at in range(0, len(text), _KEYS))

    def push(self, number: int) -> str:
        """A commit with a new file; its id."""
        name = f"depot{number}"
        (self.folder / "loomworks" / f"{name}s.py").write_text(_source(name, _FIELDS[:2]))
        self._commit(name)
        return self._git("rev-parse", "HEAD")

    def _commit(self, words: str) -> None:
        self._git("add", "-A")
        self._git("-c", "user.name=c", "-c", "user.email=c@example.com", "commit", "-q", "-m", words)

    def _git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()


def written(chooser: random.Random) -> tuple[str, str]:
    """How a file of theirs begins, and what somebody writes there."""
    name = chooser.choice(_ENTITIES)
    beginning = _BEGINNING.format(name=name, title=name.title())
    return beginning, _source(name, chooser.sample(_FIELDS, 3)).removeprefix(beginning)


def _source(name: str, fields: tuple[str, ...] | list[str]) -> str:
    title = name.title()
    methods = (_METHOD.format(name=name, title=title, field=field) for field in fields)
    return _BEGINNING.format(name=name, title=title) + "".join(methods)
