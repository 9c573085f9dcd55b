"""axe: finds in a page what keeps out whoever can't see it, or not well."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from playwright.sync_api import Page

from tests.e2e.clients import node

_PROJECT = Path(__file__).parent / "axe"


def violations(page: Page) -> list[str]:
    """One line for each, with the elements."""
    page.evaluate(_source())
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{one['id']}: {', '.join(str(node['target']) for node in one['nodes'])}" for one in found]


@cache
def _source() -> str:
    return (node.installed(_PROJECT) / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
