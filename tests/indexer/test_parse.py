"""Definitions of every language that has a grammar."""

from __future__ import annotations

import pytest

from homespun_core.languages import Language, language_named, languages
from homespun_indexer.grammars import DEFINITIONS
from homespun_indexer.parse import parse

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


INSIDE = {
    "python": "class A:\n    if x:\n        def f(self): return 1\n\n        async def g(self):\n            pass\n",
    "go": "package a\n\ntype (\n\tA interface {\n\t\tF() int\n\t}\n\tB = int\n)\n",
    "java": (
        "class A {\n  enum E {\n    X {\n      int f() { return 1; }\n    };\n    int g() { return 2; }\n  }\n"
        '  Object h() {\n    record R(int x) {}\n    return new B("{") {\n      int i() {\n        return 3;\n      }\n'
        "    };\n  }\n  @interface N {\n    class C {}\n  }\n}\n"
    ),
    "rust": "mod m {\n    impl B {\n        pub async fn f() {\n            struct C;\n        }\n    }\n}\n",
    "csharp": "namespace N {\n  struct S {\n    int P { get; }\n    int F() => 1;\n    delegate void D();\n  }\n}\n",
    "ruby": "module M\n  class A\n    def self.f\n      1\n    end\n  end\nend\n",
    "php": "<?php\nclass A {\n  function f() {\n    function g() {\n    }\n  }\n}\n",
    "kotlin": "class A {\n  companion object {\n    fun f() = 1\n  }\n  interface I {\n    fun g()\n  }\n}\n",
}
NAMES = {
    "python": ["A", "f", "g"],
    "go": ["A", "F"],
    "java": ["A", "E", "f", "g", "h", "R", "i", "N", "C"],
    "rust": ["m", "B", "f", "C"],
    "csharp": ["N", "S", "P", "F", "D"],
    "ruby": ["M", "A", "f"],
    "php": ["A", "f", "g"],
    "kotlin": ["A", "f", "I", "g"],
}


@pytest.mark.parametrize("name", INSIDE)
def test_definitions_inside_others_are_found(name: str) -> None:
    language = language_named(name)
    assert language is not None
    parsed = parse(INSIDE[name], language)
    assert parsed is not None
    assert not parsed.root.has_error
    assert [d.name for d in parsed.definitions()] == NAMES[name]


@pytest.mark.parametrize("name", INSIDE)
def test_an_error_at_the_end_changes_no_definition_before(name: str) -> None:
    """Definitions are found by their keywords where the source is sound and by looking everywhere where it isn't."""
    language = language_named(name)
    assert language is not None
    parsed = parse(INSIDE[name] + "\n) ) }\n", language)
    assert parsed is not None
    assert parsed.root.has_error
    assert [d.name for d in parsed.definitions()] == NAMES[name]


def test_definitions_are_found_at_any_depth() -> None:
    """Going down to each of 20,000 nested classes once took 19 s."""
    language = language_named("java")
    assert language is not None
    parsed = parse("class A {\n" * 2_000 + "}\n" * 2_000, language)
    assert parsed is not None
    assert [d.parent for d in parsed.definitions()] == [None, *range(1_999)]


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
