"""Imports are read from any text, complete or not, in linear time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homespun_indexer
from homespun_core.languages import language_named
from homespun_indexer.imports import Import, in_text
from homespun_indexer.parse import parse

PYTHON = [
    ("import os", [("os", "", "")]),
    ("import a.b as c, d", [("a.b", "", "c"), ("d", "", "")]),
    ("from . import x", [(".", "x", "")]),
    ("from ..y.z import A as B, C  # note", [("..y.z", "A", "B"), ("..y.z", "C", "")]),
    ("from a import (\n    B,  # (first)\n    C as D,\n)", [("a", "B", ""), ("a", "C", "D")]),
    ("from a import *", [("a", "*", "")]),
    ("if x:\n    from a import b; b()", [("a", "b", "")]),
    ("from a import \\\n    b", [("a", "b", "")]),
    ("from a import (b,\n  c\n\ndef f(x):\n    pass", [("a", "b", "")]),
    ("from a import", []),
    ("important = 1", []),
]
JAVASCRIPT = [
    ("import A from './x'", [("./x", "default", "A")]),
    (
        "import A, {B as C, type D} from './x'",
        [("./x", "default", "A"), ("./x", "B", "C"), ("./x", "D", "")],
    ),
    ('import type { F } from "@/f";', [("@/f", "F", "")]),
    ("import type from './x'", [("./x", "default", "type")]),
    ("import * as ns from 'ns'", [("ns", "", "ns")]),
    ("import './side'", [("./side", "", "")]),
    ("import {\n  k, // note\n  l,\n} from '../k'", [("../k", "k", ""), ("../k", "l", "")]),
    ("export * from './all'", [("./all", "*", "")]),
    ("export { h, i as j } from './h'", [("./h", "h", ""), ("./h", "i", "j")]),
    ("const x = require('./x')", [("./x", "", "x")]),
    ("const { m, n: o } = require('./x');", [("./x", "m", ""), ("./x", "n", "o")]),
    ("const {\n  m,\n} = await import('./x')", [("./x", "m", "")]),
    ("const r = require('./r').s", [("./r", "s", "r")]),
    ("import fs = require('fs');", [("fs", "", "fs")]),
    ("export const z = 'text'", []),
    ("export class A { x: 'text' }", []),
    ("import {incomplete, ", []),
]
GO = [
    ('import "fmt"', [("fmt", "", "")]),
    ('import f "x/fmt"', [("x/fmt", "", "f")]),
    (
        'import (\n\t"net/http" // c (d)\n\n\t// note\n\t_ "side"\n\t. "dot"\n)\nvar x = "no"',
        [("net/http", "", ""), ("side", "", "_"), ("dot", "*", "")],
    ),
    ('import (\n\t"a"\nfunc main() {', [("a", "", "")]),
]
JAVA = [
    ("import a.b.C;", [("a.b.C", "C", "")]),
    ("import a.b.*;", [("a.b", "*", "")]),
    ("import static a.b.C.of;", [("a.b.C", "of", "")]),
    ("import static a.b.C.*;", [("a.b.C", "*", "")]),
    ("import", []),
]
RUST = [
    ("use std::fmt;", [("std", "fmt", "")]),
    (
        "pub use a::{b, c::{d, self}, e as f, *};",
        [("a", "b", ""), ("a::c", "d", ""), ("a::c", "", ""), ("a", "e", "f"), ("a", "*", "")],
    ),
    ("pub(crate) use super::x::Y as Z;", [("super::x", "Y", "Z")]),
    ("use serde;", [("serde", "", "")]),
    ("mod inner;\nmod tests {", [("self::inner", "", "")]),
    ("use a::b\nuse c::d;", [("a", "b", ""), ("c", "d", "")]),
    ("use a::{b, ", [("a", "b", "")]),
]
CASES = [
    (language, text, expected)
    for language, cases in (
        ("python", PYTHON),
        ("javascript", JAVASCRIPT),
        ("typescript", JAVASCRIPT),
        ("tsx", JAVASCRIPT),
        ("go", GO),
        ("java", JAVA),
        ("rust", RUST),
    )
    for text, expected in cases
]
LANGUAGES = ["python", "typescript", "go", "java", "rust"]


@pytest.mark.parametrize(("language", "text", "expected"), CASES)
def test_imports_are_read(language: str, text: str, expected: list[tuple[str, str, str]]) -> None:
    assert list(in_text(text, language)) == [Import(*row) for row in expected]


@pytest.mark.parametrize(
    ("imported", "local"),
    [
        (Import("a", "b", "c"), "c"),
        (Import("a", "b"), "b"),
        (Import("a.b", ""), "a.b"),
        (Import("github.com/a/b/v2", ""), "b"),
        (Import("crate::a", ""), "a"),
    ],
)
def test_an_import_knows_its_local_name(imported: Import, local: str) -> None:
    assert imported.local == local


@pytest.mark.parametrize(
    "path", sorted(Path(homespun_indexer.__file__).parent.glob("*.py")), ids=lambda path: path.name
)
def test_python_agrees_with_its_own_parser(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    expected: list[Import] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            expected += [Import(alias.name, "", alias.asname or "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            expected += [Import(module, alias.name, alias.asname or "") for alias in node.names]
    assert set(in_text(text, "python")) == set(expected)


@pytest.mark.parametrize(
    ("language", "kind", "text"),
    [
        ("java", "import_declaration", "package a;\nimport a.B;\nimport static a.C.d;\nimport e.*;\nclass F {}\n"),
        ("go", "import_spec", 'package a\n\nimport (\n\t"x/y"\n\tz "w"\n)\n\nimport "v"\n'),
        ("rust", "use_declaration", "use a::b;\nuse c::D;\n\nfn f() {\n    use e::g;\n}\n"),
        ("typescript", "import_statement", "import a from './a'\nimport {\n  b\n} from './b'\nconst c = 'import'\n"),
    ],
)
def test_there_are_as_many_imports_as_in_the_syntax_tree(language: str, kind: str, text: str) -> None:
    known = language_named(language)
    parsed = parse(text, known) if known else None
    assert parsed is not None
    nodes = [parsed.root]
    for node in nodes:
        nodes.extend(node.children)
    assert len(in_text(text, language)) == sum(node.type == kind for node in nodes)


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_text_can_be_read(language: str) -> None:
    words = st.sampled_from(
        [
            *("import ", "from ", "use ", "mod ", "export ", "require(", "const ", "a", ".", "::", "{", "}", "(", ")"),
            *('"', "'", ",", "as ", "*", "\n", " ", "=", "//", "#", "\\\n", "é", "\u2028", "\x00"),
        ]
    )

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.lists(words | st.text(max_size=5), max_size=60))
    def holds(parts: list[str]) -> None:
        for imported in in_text("".join(parts), language):
            assert imported.module

    holds()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "part", ["import ", "import {", "from a import (", "use a::{", "use a::", "import (\n", "const {a", " ", "(", "\\"]
)
@pytest.mark.timeout(10)
def test_hostile_text_takes_no_exponential_time(language: str, part: str) -> None:
    in_text(part * (200_000 // len(part)), language)
