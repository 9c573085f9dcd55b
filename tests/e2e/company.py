"""A made-up company's repository with its own idioms and a year of history: small, but worth learning.

Every entity gets a repository module with a handful of methods, all written the house way (spans, `fetch_all`,
`from_row`), which no public model has seen. The methods arrive one commit at a time, so that a time split has something
to hold out.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

ENTITIES = {
    "order": ("customer_id", "status", "total_cents", "currency"),
    "invoice": ("order_id", "due_date", "amount_cents", "state"),
    "parcel": ("order_id", "carrier", "weight_grams", "depot"),
    "customer": ("email", "country", "segment", "language"),
    "supplier": ("country", "rating", "contact_email", "currency"),
    "product": ("supplier_id", "colour", "price_cents", "category"),
    "voucher": ("customer_id", "code", "percent", "campaign"),
    "return_case": ("parcel_id", "reason", "refund_cents", "state"),
    "loom": ("hall", "width_mm", "maker", "state"),
    "weaver": ("hall", "shift", "craft", "language"),
    "yarn": ("supplier_id", "fibre", "weight_grams", "colour"),
    "dye": ("supplier_id", "shade", "price_cents", "batch"),
    "pattern": ("designer", "season", "repeat_mm", "licence"),
    "bale": ("depot", "fibre", "weight_grams", "grade"),
    "contract": ("customer_id", "start_date", "amount_cents", "terms"),
    "complaint": ("order_id", "topic", "severity", "state"),
}

_BASE = '''"""Access to the tables of Loomworks, the house way: every query in a span, every row through `from_row`."""

from loomworks.spans import span
from loomworks.session import Session


class BaseRepository:
    """What every repository shares."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def refresh(self) -> None:
        with span("base.refresh") as current:
            current.annotate(tables=len(self.session.tables))
'''

_HEAD = '''"""{title} of Loomworks."""

from loomworks.base import BaseRepository
from loomworks.rows import {title}
from loomworks.spans import span
from loomworks.tables import {table}


class {title}Repository(BaseRepository):
    """Reads and writes {name} rows."""
'''

_FIND = """
    def find_by_{field}(self, {field}: str) -> list[{title}]:
        with span("{name}.find_by_{field}") as current:
            rows = self.session.fetch_all({table}.where({field}={field}))
            current.annotate(rows=len(rows))
        return [{title}.from_row(row) for row in rows]
"""

_COUNT = """
    def count_by_{field}(self, {field}: str) -> int:
        with span("{name}.count_by_{field}") as current:
            total = self.session.fetch_value({table}.where({field}={field}).count())
            current.annotate(total=total)
        return int(total or 0)
"""

_UPDATE = """
    def set_{field}(self, {name}_id: int, {field}: str) -> None:
        with span("{name}.set_{field}") as current:
            changed = self.session.execute({table}.where(id={name}_id).update({field}={field}))
            current.annotate(changed=changed)
        self.session.publish("{name}.{field}_changed", {name}_id={name}_id)
"""


def make_company(path: Path) -> Path:
    """A repository of about 200 commits over a year and a half; the same commits every time."""
    path.mkdir(parents=True)
    _git(path, "init", "-q", "-b", "main")
    _write(path, "loomworks/base.py", _BASE)
    for name in ENTITIES:
        _write(path, _module(name), _HEAD.format(**_names(name)))
    _commit(path, 0, "Start the repositories")
    for day, (name, method, subject) in enumerate(_history(), 1):
        module = path / _module(name)
        module.write_text(module.read_text() + method)
        _commit(path, day, subject)
    return path


def _history() -> Iterator[tuple[str, str, str]]:
    for position in range(4):
        for template, verb in ((_FIND, "Find"), (_COUNT, "Count"), (_UPDATE, "Set")):
            for name, fields in ENTITIES.items():
                field = fields[position]
                yield name, template.format(field=field, **_names(name)), f"{verb} {name} by {field}"


def _names(name: str) -> dict[str, str]:
    return {"name": name, "title": name.title().replace("_", ""), "table": f"{name.upper()}S"}


def _module(name: str) -> str:
    return f"loomworks/{name}s.py"


def _write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def _commit(root: Path, day: int, subject: str) -> None:
    date = f"{1_735_700_000 + day * 3 * 86_400} +0000"
    when = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    _git(root, "add", "-A")
    subprocess.run(
        ["git", "-c", "user.name=Ada", "-c", "user.email=ada@loomworks.example", "commit", "-q", "-m", subject],
        cwd=root,
        env=os.environ | when,
        check=True,
    )


def _git(root: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=root, check=True)
