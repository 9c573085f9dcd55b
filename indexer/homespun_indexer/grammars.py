"""Languages to the parser, as data: which node types define something, and which words announce them."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from functools import cache

from tree_sitter import Language as Grammar
from tree_sitter import Parser

from homespun_core.languages import Language

logger = logging.getLogger(__name__)

_JAVASCRIPT = ("class_declaration", "function_declaration", "generator_function_declaration", "method_definition")
_TYPESCRIPT = (
    *_JAVASCRIPT,
    "abstract_class_declaration",
    "interface_declaration",
    "type_alias_declaration",
    "enum_declaration",
    "internal_module",
    "method_signature",
)
_C = ("function_definition", "struct_specifier", "enum_specifier", "union_specifier", "type_definition")
_JAVA = (
    "class_declaration",
    "interface_declaration",
    "enum_declaration",
    "record_declaration",
    "method_declaration",
    "constructor_declaration",
)
DEFINITIONS: dict[str, frozenset[str]] = {
    name: frozenset(types)
    for name, types in {
        "python": ("class_definition", "function_definition"),
        "javascript": _JAVASCRIPT,
        "typescript": _TYPESCRIPT,
        "tsx": _TYPESCRIPT,
        "go": ("function_declaration", "method_declaration", "type_spec", "method_elem"),
        "java": (*_JAVA, "annotation_type_declaration"),
        "rust": (
            "function_item",
            "function_signature_item",
            "struct_item",
            "enum_item",
            "trait_item",
            "impl_item",
            "mod_item",
            "macro_definition",
            "type_item",
        ),
        "c": _C,
        "cpp": (*_C, "class_specifier", "namespace_definition"),
        "csharp": (
            *_JAVA,
            "struct_declaration",
            "property_declaration",
            "namespace_declaration",
            "delegate_declaration",
        ),
        "ruby": ("class", "module", "method", "singleton_method"),
        "php": (
            "class_declaration",
            "interface_declaration",
            "trait_declaration",
            "enum_declaration",
            "function_definition",
            "method_declaration",
        ),
        "kotlin": ("class_declaration", "object_declaration", "function_declaration"),
        "bash": ("function_definition",),
    }.items()
}
"""Node types that define a name. Names bound to a function (`const f = () => ...`) are found by `_binds_function`."""

_FUNCTION_VALUES = ("arrow_function", "function_expression", "function", "generator_function")
_NAMES = ("identifier", "type_identifier", "field_identifier", "property_identifier", "constant", "word", "name")

NEW = b"new"
_KEYWORDS: dict[str, tuple[bytes, ...]] = {
    "python": (b"class", b"def"),
    "go": (b"func", b"type", b"interface"),
    "java": (b"class", b"interface", b"enum", b"record", NEW),
    "rust": (b"fn", b"struct", b"enum", b"trait", b"impl", b"mod", b"macro_rules!", b"type"),
    "csharp": (b"class", b"interface", b"enum", b"record", b"struct", b"namespace", b"delegate"),
    "ruby": (b"class", b"module", b"def"),
    "php": (b"class", b"interface", b"trait", b"enum", b"function"),
    "kotlin": (b"class", b"interface", b"object", b"fun"),
}
"""Every definition is the parent of one of these words, or below it through `_HOLDERS` only. So definitions are found
from where the words stand in the text, without looking at every node. Other languages define things without a word."""
_HOLDERS: dict[str, tuple[str, ...]] = {
    "go": ("type_declaration", "interface_type"),
    "java": (
        *(kind for kind in _JAVA if kind.startswith(("class", "interface", "enum", "record"))),
        *("annotation_type_declaration", "annotation_type_body", "object_creation_expression"),
        *("class_body", "interface_body", "enum_body", "enum_body_declarations", "enum_constant"),
    ),
    "csharp": (
        *("class_declaration", "interface_declaration", "enum_declaration", "record_declaration", "struct_declaration"),
        *("namespace_declaration", "declaration_list"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """A parser, and what we look for in its trees as numbers: of kinds of nodes, and of fields (0, which no node has,
    where the grammar lacks it)."""

    parser: Parser
    definitions: frozenset[int]
    declarators: frozenset[int]
    holders: frozenset[int]
    comments: frozenset[int]
    blocks: frozenset[int]
    names: frozenset[int]
    functions: frozenset[int]
    """Values that make a declarator a definition."""
    typed: frozenset[int]
    """Kinds whose `type` isn't what they define."""
    name: int
    type: int
    declarator: int
    value: int
    body: int
    keywords: tuple[bytes, ...]


@cache
def syntax_of(language: Language) -> Syntax | None:
    if language.grammar is None:
        return None
    module, function = language.grammar
    try:
        grammar = Grammar(getattr(importlib.import_module(module), function)())
        return _found_in(grammar, language.name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # not installed, or of an ABI we can't read
        logger.warning("no grammar for %s (%s); its files are read as lines", language.name, error)
        return None


def _found_in(grammar: Grammar, language: str) -> Syntax:
    kinds = [(n, grammar.node_kind_for_id(n) or "") for n in range(grammar.node_kind_count)]
    named = [(number, kind) for number, kind in kinds if grammar.node_kind_is_named(number)]

    def numbers(*wanted: str) -> frozenset[int]:
        return frozenset(number for number, kind in named if kind in wanted)

    return Syntax(
        parser=Parser(grammar),
        definitions=numbers(*DEFINITIONS.get(language, ())),
        declarators=numbers("variable_declarator"),
        holders=numbers(*_HOLDERS.get(language, ())),
        comments=frozenset(number for number, kind in kinds if kind.endswith("comment")),
        blocks=frozenset(number for number, kind in named if kind.endswith(("_body", "block"))),
        names=numbers(*_NAMES),
        functions=numbers(*_FUNCTION_VALUES),
        typed=numbers("function_definition", "type_definition"),
        name=grammar.field_id_for_name("name") or 0,
        type=grammar.field_id_for_name("type") or 0,
        declarator=grammar.field_id_for_name("declarator") or 0,
        value=grammar.field_id_for_name("value") or 0,
        body=grammar.field_id_for_name("body") or 0,
        keywords=_KEYWORDS.get(language, ()),
    )
