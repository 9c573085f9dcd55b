"""Syntax trees through tree-sitter: definitions with their signatures, and where a file may be cut.

What differs between languages is data: the node types that define something. A grammar that isn't installed, a parse
that takes too long or a tree too deep are no errors: the file is then treated as lines.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tree_sitter import Language as Grammar
from tree_sitter import Node, Parser, Tree

from homespun_core.languages import Language

logger = logging.getLogger(__name__)

PARSE_TIMEOUT_S = 2.0
_READ_BYTES = 1 << 16
_MAX_SIGNATURE = 400

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
"""Node types that define a name. Names bound to a function (`const f = () => ...`) are found by `_bound_function`."""

_FUNCTION_VALUES = frozenset({"arrow_function", "function_expression", "function", "generator_function"})
_NAMES = frozenset(
    {"identifier", "type_identifier", "field_identifier", "property_identifier", "constant", "word", "name"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """Lines are 1-based and inclusive."""

    name: str
    start_line: int
    end_line: int
    scope: str
    """Keyword and name, as a heading: `def total`."""
    signature: str
    parent: int | None
    """Index of the definition around it."""


class ParsedFile:
    """A syntax tree and its source; `None` instead of one means: treat the file as lines."""

    def __init__(self, tree: Tree, source: bytes, definition_types: frozenset[str]) -> None:
        self.root = tree.root_node
        self._source = source
        self._types = definition_types

    def definitions(self) -> list[Definition]:
        """In order of their start. Single-line nodes aren't entered: nothing that is defined inside one is looked
        for."""
        found: list[Definition] = []
        stack: list[tuple[Node, int | None]] = [(self.root, None)]
        while stack:
            node, parent = stack.pop()
            if self._defines(node):
                definition = self._definition(node, parent)
                if definition is not None:
                    parent = len(found)
                    found.append(definition)
            if node.start_point.row != node.end_point.row:
                stack.extend((child, parent) for child in reversed(node.named_children))
        return found

    def _defines(self, node: Node) -> bool:
        return node.type in self._types or (node.type == "variable_declarator" and _bound_function(node))

    def _definition(self, node: Node, parent: int | None) -> Definition | None:
        name = _name_of(node)
        if name is None or name.text is None:
            return None
        return Definition(
            name=name.text.decode("utf-8", "replace"),
            start_line=node.start_point.row + 1,
            end_line=last_row(node) + 1,
            scope=self._one_line(node.start_byte, min(name.end_byte, node.start_byte + _MAX_SIGNATURE)),
            signature=self._signature(node),
            parent=parent,
        )

    def _signature(self, node: Node) -> str:
        """All up to the body on one line; what has no body (a Go struct, a type alias) as it stands."""
        body = _body_of(node)
        limit = node.start_byte + _MAX_SIGNATURE
        if body is None:
            lines = self._source[node.start_byte : min(node.end_byte, limit)].decode("utf-8", "ignore").rstrip()
            return lines if node.end_byte <= limit else lines.rpartition("\n")[0] or lines
        comments = [c.start_byte for c in node.children if c.type.endswith("comment")]  # Python: between colon and body
        head = self._one_line(node.start_byte, min(body.start_byte, limit, *comments))
        return head.rstrip("{ ").removesuffix("=>").rstrip()

    def _one_line(self, start: int, end: int) -> str:
        return " ".join(self._source[start:end].decode("utf-8", "ignore").split())


def parse(text: str, language: Language) -> ParsedFile | None:
    """None where there is no grammar, it isn't installed, or parsing takes longer than PARSE_TIMEOUT_S."""
    parser = _parser(language)
    if parser is None:
        return None
    source = text.encode()
    deadline = time.monotonic() + PARSE_TIMEOUT_S
    try:
        # A callback as source, since the progress callback (our time limit) is ignored for plain bytes.
        tree = parser.parse(
            lambda offset, _: source[offset : offset + _READ_BYTES],
            progress_callback=lambda *_: time.monotonic() > deadline,
        )
    except ValueError:
        parser.reset()
        logger.info("parsing %s took more than %.0f s; its file is read as lines", language.name, PARSE_TIMEOUT_S)
        return None
    return ParsedFile(tree, source, DEFINITIONS.get(language.name, frozenset()))


def last_row(node: Node) -> int:
    """Row of the node's last character: one that ends with a line break ends, for tree-sitter, at column 0 of the next
    row."""
    row, column = node.end_point
    return row - 1 if column == 0 and row > node.start_point.row else row


@cache
def _parser(language: Language) -> Parser | None:
    if language.grammar is None:
        return None
    module, function = language.grammar
    try:
        return Parser(Grammar(getattr(importlib.import_module(module), function)()))
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # not installed, or of an ABI we can't read
        logger.warning("no grammar for %s (%s); its files are read as lines", language.name, error)
        return None


def _bound_function(node: Node) -> bool:
    value = node.child_by_field_name("value")
    return value is not None and value.type in _FUNCTION_VALUES


def _name_of(node: Node) -> Node | None:
    """The `name` field; in C inside the declarators (`int *(*f)(void)`); for `impl Trait for Type` the type."""
    named = node.child_by_field_name("name") or node.child_by_field_name("type")
    if named is not None and node.type not in ("function_definition", "type_definition"):
        return named
    if named is not None and node.child_by_field_name("declarator") is None:
        return named
    inner = node.child_by_field_name("declarator")
    while inner is not None and inner.type not in _NAMES:
        inner = inner.child_by_field_name("declarator") or next(_identifiers(inner), None)
    return inner or next(_identifiers(node), None)


def _identifiers(node: Node) -> Iterator[Node]:
    return (child for child in node.named_children if child.type in _NAMES)


def _body_of(node: Node) -> Node | None:
    value = node.child_by_field_name("value")
    owner = value if value is not None and node.type == "variable_declarator" else node
    body = owner.child_by_field_name("body")
    return body or next((c for c in owner.named_children if c.type.endswith(("_body", "block"))), None)
