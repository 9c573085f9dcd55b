"""Name -> where it is defined and what its definition says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from homespun_indexer.chunks import Symbol

_MAX_PLACES = 8
"""A name defined more often (`get`, `__init__`) says nothing about which of them is meant."""


@dataclass(frozen=True, slots=True)
class Place:
    file: int
    line: int
    signature: str


class SymbolTable:
    """Safe for concurrent reading."""

    def __init__(self, places: dict[str, list[tuple[int, int, str]]]) -> None:
        self._places = places

    @staticmethod
    def build(files: Sequence[Sequence[Symbol]]) -> SymbolTable:
        places: dict[str, list[tuple[int, int, str]]] = {}
        for number, symbols in enumerate(files):
            for symbol in symbols:
                places.setdefault(symbol.name, []).append((number, symbol.line, symbol.signature))
        return SymbolTable({name: found for name, found in places.items() if len(found) <= _MAX_PLACES})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self._places, ensure_ascii=False, sort_keys=True), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> SymbolTable:
        return SymbolTable(json.loads(path.read_text(encoding="utf-8")))

    def __len__(self) -> int:
        return len(self._places)

    def find(self, name: str) -> list[Place]:
        """Where `name` is defined; empty when it isn't, or in too many places."""
        return [Place(*place) for place in self._places.get(name, ())]
