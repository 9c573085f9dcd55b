"""Syntax trees through tree-sitter: definitions with their signatures, and where a file may be cut.

What differs between languages is data, in `grammars`. A grammar that isn't installed, a parse that takes too long or a
tree too deep are no errors: the file is then treated as lines.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tree_sitter import Node, Tree, TreeCursor

from homespun_core.languages import Language
from homespun_indexer.grammars import NEW, Syntax, syntax_of

logger = logging.getLogger(__name__)

PARSE_TIMEOUT_S = 2.0
_READ_BYTES = 1 << 16
_is_parsing = True
_MAX_SIGNATURE = 400
_MAX_DEPTH = 200

_WORD_BYTES = frozenset(bytes([byte]) for byte in range(128) if chr(byte).isalnum() or byte == ord("_"))
_COMMENT = re.compile(rb"#|//|/\*")


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

    def __init__(self, tree: Tree, source: bytes, syntax: Syntax) -> None:
        self.root = tree.root_node
        self.comments = syntax.comments
        """Kinds of node, as numbers."""
        self._source = source
        self._syntax = syntax

    def definitions(self) -> list[Definition]:
        """In order of their start. Nothing that is defined inside a single-line node is looked for. Where the source
        has errors every node is looked at, since there a definition may have lost its keyword or its parent."""
        found: list[Definition] = []
        around: list[tuple[int, int]] = []
        for node in self._defining_nodes():
            end = node.end_byte
            while around and around[-1][0] < end:
                around.pop()
            definition = self._definition(node, around[-1][1] if around else None)
            if definition is not None:
                around.append((end, len(found)))
                found.append(definition)
        return found

    def _defining_nodes(self) -> list[Node]:
        by_keyword = self._syntax.keywords and not self.root.has_error
        nodes = self._at_keywords() if by_keyword else None
        return sorted(self._anywhere() if nodes is None else nodes, key=lambda node: (node.start_byte, -node.end_byte))

    def _at_keywords(self) -> Iterable[Node] | None:
        """None where the tree is too deep to go down it for every keyword."""
        definitions, holders = self._syntax.definitions, self._syntax.holders
        found: dict[int, Node] = {}
        cursor = self.root.walk()
        for at in (at for word in self._syntax.keywords for at in _positions(self._source, word)):
            owner = self._owner_of_token(cursor, at)
            if owner is None:
                return None
            kind = owner.kind_id
            if kind in definitions and (self._has_break(owner) or self._has_break(owner.parent or owner)):
                found[owner.id] = owner
            if kind in holders:
                found.update([(node.id, node) for node in self._held(owner)])
        return found.values()

    def _owner_of_token(self, cursor: TreeCursor, at: int) -> Node | None:
        cursor.reset(self.root)
        down = cursor.goto_first_child_for_byte
        while down(at) is not None:
            pass
        too_deep = cursor.depth > _MAX_DEPTH
        cursor.goto_parent()
        return None if too_deep else cursor.node

    def _held(self, holder: Node) -> list[Node]:
        """What is defined right in a holder, or in others in it."""
        definitions, holders = self._syntax.definitions, self._syntax.holders
        found: list[Node] = []
        stack = [holder]
        while stack:
            node = stack.pop()
            if not self._has_break(node):
                continue
            for child in node.children:
                kind = child.kind_id
                if kind in definitions:
                    found.append(child)
                elif kind in holders:
                    stack.append(child)
        return found

    def _anywhere(self) -> list[Node]:
        definitions, declarators = self._syntax.definitions, self._syntax.declarators
        found: list[Node] = []
        stack = [self.root] if self._has_break(self.root) else []
        while stack:
            for child in stack.pop().children:
                if not child.child_count:
                    continue
                kind = child.kind_id
                if kind in definitions or (kind in declarators and self._binds_function(child)):
                    found.append(child)
                if self._has_break(child):
                    stack.append(child)
        return found

    def _has_break(self, node: Node) -> bool:
        return self._source.find(b"\n", node.start_byte, node.end_byte) >= 0

    def _binds_function(self, node: Node) -> bool:
        value = node.child_by_field_id(self._syntax.value)
        return value is not None and value.kind_id in self._syntax.functions

    def _definition(self, node: Node, parent: int | None) -> Definition | None:
        name = self._name_of(node)
        if name is None:
            return None
        start = node.start_byte
        return Definition(
            name=self._source[name.start_byte : name.end_byte].decode("utf-8", "replace"),
            start_line=node.start_point[0] + 1,
            end_line=last_row(node) + 1,
            scope=self._one_line(start, min(name.end_byte, start + _MAX_SIGNATURE)),
            signature=self._signature(node, start),
            parent=parent,
        )

    def _signature(self, node: Node, start: int) -> str:
        """All up to the body on one line; what has no body (a Go struct, a type alias) as it stands."""
        body = self._body_of(node)
        limit = start + _MAX_SIGNATURE
        if body is None:
            lines = self._source[start : min(node.end_byte, limit)].decode("utf-8", "ignore").rstrip()
            return lines if node.end_byte <= limit else lines.rpartition("\n")[0] or lines
        end = min(body.start_byte, limit)
        if _COMMENT.search(self._source, start, end):
            comments = (c.start_byte for c in node.children if c.kind_id in self.comments)
            end = min(end, *comments, end)  # Python's comments between colon and body, for one
        return self._one_line(start, end).rstrip("{ ").removesuffix("=>").rstrip()

    def _one_line(self, start: int, end: int) -> str:
        return " ".join(self._source[start:end].decode("utf-8", "ignore").split())

    def _name_of(self, node: Node) -> Node | None:
        """The `name` field; in C inside the declarators (`int *(*f)(void)`); for `impl Trait for Type` the type."""
        syntax = self._syntax
        named = node.child_by_field_id(syntax.name) or node.child_by_field_id(syntax.type)
        if named is not None and node.kind_id not in syntax.typed:
            return named
        inner = node.child_by_field_id(syntax.declarator)
        if named is not None and inner is None:
            return named
        while inner is not None and inner.kind_id not in syntax.names:
            inner = inner.child_by_field_id(syntax.declarator) or self._first_name(inner)
        return inner or self._first_name(node)

    def _first_name(self, node: Node) -> Node | None:
        return next((child for child in node.named_children if child.kind_id in self._syntax.names), None)

    def _body_of(self, node: Node) -> Node | None:
        value = node.child_by_field_id(self._syntax.value) if node.kind_id in self._syntax.declarators else None
        owner = value if value is not None else node
        body = owner.child_by_field_id(self._syntax.body)
        return body or next((c for c in owner.named_children if c.kind_id in self._syntax.blocks), None)


def parse(text: str, language: Language) -> ParsedFile | None:
    """None where there is no grammar, it isn't installed, or parsing takes longer than PARSE_TIMEOUT_S.

    The limit isn't hard: tree-sitter seldom asks, and never in 10 kB of `x=>` lines, on which its C grammar spends 2
    GB.
    """
    syntax = syntax_of(language)
    if syntax is None or not _is_parsing:
        return None
    source = text.encode()
    deadline = time.monotonic() + PARSE_TIMEOUT_S
    try:
        # A callback as source, since the progress callback (our time limit) is ignored for plain bytes. It costs
        # nothing: 1.24 s against 1.20 s for 12 MB of Kafka.
        tree = syntax.parser.parse(
            lambda offset, _: source[offset : offset + _READ_BYTES],
            progress_callback=lambda *_: time.monotonic() > deadline,
        )
    except ValueError:
        syntax.parser.reset()
        logger.info("parsing %s took more than %.0f s; its file is read as lines", language.name, PARSE_TIMEOUT_S)
        return None
    return ParsedFile(tree, source, syntax)


def read_as_lines() -> None:
    """No more parsing in this process: a file has crashed a parser."""
    global _is_parsing
    _is_parsing = False


def is_parsing() -> bool:
    return _is_parsing


def last_row(node: Node) -> int:
    """Row of the node's last character: one that ends with a line break ends, for tree-sitter, at column 0 of the next
    row."""
    row, column = node.end_point
    return row - 1 if column == 0 and row > node.start_point[0] else row


def _positions(source: bytes, word: bytes) -> Iterator[int]:
    """Where the word, or the end of a longer one, stands; of Java's `new` those that may have a class body."""
    at = source.find(word)
    while at >= 0:
        end = at + len(word)
        if source[end : end + 1] not in _WORD_BYTES and (word != NEW or _brace_comes_first(source, end)):
            yield at
        at = source.find(word, end)


def _brace_comes_first(source: bytes, start: int) -> bool:
    semicolon = source.find(b";", start)
    return source.find(b"{", start, semicolon if semicolon >= 0 else len(source)) >= 0
