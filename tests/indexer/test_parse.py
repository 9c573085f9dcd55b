"""Definitions of every language that has a grammar."""

from __future__ import annotations

import pytest

from homespun_core.languages import Language, language_named, languages
from homespun_indexer.parse import DEFINITIONS, parse

EXAMPLES: dict[str, tuple[str, dict[str, str | None]]] = {
    "python": (
        "@decorated\nclass A(B):\n    x = 1\n\n    async def f(self, a: int) -> str:  # note\n        return ''\n",
        {"A": "class A(B):", "f": "async def f(self, a: int) -> str:"},
    ),
    "javascript": (
        "class A extends B {\n  f(x) {\n    return x\n  }\n}\nconst g = (y) => {\n  return y\n}\n",
        {"A": "class A extends B", "f": "f(x)", "g": "g = (y)"},
    ),
    "typescript": (
        "interface A {\n  x: number;\n}\nexport function f<T>(x: T): T {\n  return x;\n}\ntype B = string;\n",
        {"A": "interface A", "f": "function f<T>(x: T): T", "B": "type B = string;"},
    ),
    "tsx": ("function View(props: Props) {\n  return <div />;\n}\n", {"View": "function View(props: Props)"}),
    "go": (
        "package a\n\ntype B struct {\n\tx int\n}\n\nfunc (b *B) F(y int) error {\n\treturn nil\n}\n",
        {"B": "B struct {\n\tx int\n}", "F": "func (b *B) F(y int) error"},
    ),
    "java": ("class A {\n  int f(int x) {\n    return x;\n  }\n}\n", {"A": "class A", "f": "int f(int x)"}),
    "rust": (
        "pub struct A {\n    x: i32,\n}\nimpl B for A {\n    fn f(&self) -> i32 {\n        1\n    }\n}\n",
        {"A": None, "f": "fn f(&self) -> i32"},
    ),
    "c": (
        "struct s {\n  int x;\n};\nstatic char *f(int x)\n{\n  return 0;\n}\n",
        {"s": "struct s", "f": "static char *f(int x)"},
    ),
    "cpp": (
        "namespace n {\nclass A {\n  int f(int x) {\n    return x;\n  }\n};\n}\n",
        {"n": "namespace n", "A": "class A", "f": "int f(int x)"},
    ),
    "csharp": (
        "class A {\n  public int F(int x) {\n    return x;\n  }\n}\n",
        {"A": "class A", "F": "public int F(int x)"},
    ),
    "ruby": ("class A < B\n  def f(x)\n    x\n  end\nend\n", {"A": None, "f": None}),
    "php": ("<?php\nclass A {\n  function f($x) {\n    return $x;\n  }\n}\n", {"A": "class A", "f": "function f($x)"}),
    "kotlin": (
        "class A {\n  fun f(x: Int): Int {\n    return x\n  }\n}\n",
        {"A": "class A", "f": "fun f(x: Int): Int"},
    ),
    "bash": ("f() {\n  echo 1\n}\n", {"f": "f()"}),
}


def test_every_grammar_of_the_language_table_has_definitions_and_an_example() -> None:
    with_grammar = {name for name, language in languages().items() if language.grammar}
    assert with_grammar == set(DEFINITIONS) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_definitions_are_found_with_their_signatures(name: str) -> None:
    text, expected = EXAMPLES[name]
    language = language_named(name)
    assert language is not None
    parsed = parse(text, language)
    assert parsed is not None, f"the grammar of {name} is missing"
    found: dict[str, str] = {}
    for definition in parsed.definitions():
        found.setdefault(definition.name, definition.signature)
    assert set(found) == set(expected)
    assert {k: v for k, v in found.items() if expected[k] is not None} == {k: v for k, v in expected.items() if v}


def test_nesting_is_known_by_parent() -> None:
    language = language_named("python")
    assert language is not None
    parsed = parse("class A:\n    def f(self):\n        def g():\n            pass\n", language)
    assert parsed is not None
    assert [(d.name, d.parent) for d in parsed.definitions()] == [("A", None), ("f", 0), ("g", 1)]


def test_a_missing_grammar_is_no_error() -> None:
    unknown = Language(name="x", comment="#", grammar=("tree_sitter_of_nowhere", "language"))
    assert parse("text", unknown) is None
    assert parse("text", Language(name="y", comment="#", grammar=("json", "loads"))) is None
