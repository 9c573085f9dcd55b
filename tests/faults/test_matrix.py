"""The table of faults is whole, and what it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_TABLE = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


def test_every_fault_has_its_row_in_order() -> None:
    assert [int(row[1]) for row in _ROW.finditer(_TABLE)] == list(range(1, 51))


def test_every_row_names_tests_that_exist() -> None:
    for row in _ROW.finditer(_TABLE):
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", row[4])
        assert named and row[4] == ", ".join(f"`{path}::{name}`" for path, name in named), row[0]
        missing = [(path, name) for path, name in named if name not in _defined_in(_ROOT / path)]
        assert not missing, row[1]


@cache
def _defined_in(path: Path) -> frozenset[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, functions))
