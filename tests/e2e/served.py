"""The real server on a small company's repository, for clients to ask."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.command import homespun, running
from tests.repos import make_repo

_CLASS = '''"""Access to {name}s, the house way."""

from loomworks.base import BaseRepository
from loomworks.spans import span


class {title}Repository(BaseRepository):
    def find_by_customer(self, customer_id: str) -> list[{title}]:
        with span("{name}.find_by_customer") as current:
            rows = self.session.fetch_all({name}s.where(customer_id=customer_id))
            current.annotate(rows=len(rows))
        return [{title}.from_row(row) for row in rows]
'''
PREFIX = """from loomworks.base import BaseRepository
from loomworks.spans import span


class InvoiceRepository(BaseRepository):
    def find_by_customer(self, customer_id: str) -> list[Invoice]:
        with span("invoice.find_by_customer") as current:
            rows = self.session.fetch_all(invoices.where(customer_id=customer_id))
            current.annotate(rows=len(rows))
        return [Invoice."""
SUFFIX = "\n"
EXPECTED = "from_row(row) for row in rows]"
"""What the house style says there. Without the company's other files the built-in model writes something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    url: str
    model: str


def company(root: Path) -> Path:
    """Its repository."""
    files = {f"loomworks/{n}s.py": _CLASS.format(name=n, title=n.title()) for n in ("order", "parcel", "voucher")}
    return make_repo(root / "loomworks", dict(files))


@contextmanager
def served(root: Path) -> Iterator[Served]:
    company(root)
    done = homespun("index", "loomworks", "--data-dir=data", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    words = ("serve", "--port=0", "--data-dir=data", "--retrieve-deadline-ms=5000", "--max-requests=64")
    with running(*words, cwd=root) as server:
        line = server.wait_for("http://")
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        _wait_until_ready(found.group())
        yield Served(url=found.group(), model="homespun")


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10):
                return
        except OSError:
            assert time.monotonic() < deadline, "the server isn't ready after a minute"
            time.sleep(0.1)
