"""Definitions of the names in reach of a cursor: through the imports of the file where they tell, by name where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from homespun_core.languages import language_of_path
from homespun_core.types import SearchQuery
from homespun_indexer.imports import Import, in_text
from homespun_indexer.imports_paths import Resolver
from homespun_indexer.reach import Reach, names_in_reach
from homespun_indexer.segment import parent_hash

_MAX_PLACES = 2
"""A name defined more often (`get`, `__init__`), of which no import tells the file, may mean any of them."""
_IMPORT_CHARS = 20_000
"""Imports further down are rare, and reading on takes time."""


@dataclass(frozen=True, slots=True)
class Definition:
    """Where a name is defined: a segment of the index, a file of it, and one of the file's symbols."""

    part: int
    file: int
    number: int
    path: str
    language: str
    parent: int
    """`parent_hash` of the definition around it; 0 at top level."""


_FAMILIES = {"typescript": "javascript", "tsx": "javascript", "c": "cpp", "kotlin": "java", "scala": "java"}

Find = Callable[[str], Sequence[Definition]]
"""All definitions of a name, in the order of their paths."""


def definitions_in_reach(query: SearchQuery, resolver: Resolver, find: Find) -> list[Definition]:
    """Best first, none from the file itself; at most one a name where it can be told which is meant."""
    known = language_of_path(query.path or "")
    language = query.language or (known.name if known else "")
    scope = _Scope(query, language, resolver)
    found = (
        definition
        for reach in names_in_reach(query.prefix, query.suffix, language)
        for definition in _of_reach(reach, scope, find)
    )
    return [d for d in dict.fromkeys(found) if d.path != query.path]


def _family(language: str) -> str:
    """Languages that use one another's definitions."""
    return _FAMILIES.get(language, language)


class _Scope:
    """What the file being edited can see."""

    def __init__(self, query: SearchQuery, language: str, resolver: Resolver) -> None:
        self._path, self._language, self._resolver = query.path or "", language, resolver
        self.family = _family(language)
        imports = in_text(query.prefix[:_IMPORT_CHARS], language)
        self._named = {imported.local: imported for imported in imports if imported.name != "*"}
        self._all = [imported for imported in imports if imported.name == "*"]

    def imported(self, name: str) -> Import | None:
        return self._named.get(name)

    def files(self, imported: Import) -> tuple[str, ...]:
        return self._resolver.files_of(imported, self._path, self._language)

    def visible(self) -> set[str]:
        """Files whose names are visible without naming them."""
        found = set(self._resolver.neighbours(self._path, self._language))
        return found.union(*map(self.files, self._all))


def _of_reach(reach: Reach, scope: _Scope, find: Find) -> Iterator[Definition]:
    own, owner = scope.imported(reach.name), scope.imported(reach.qualifier)
    imported = own if own is not None and not reach.qualifier else owner
    name = own.name if imported is own and own is not None and own.name else reach.name
    owner_hash = parent_hash(reach.qualifier)
    places = [p for p in find(name) if _family(p.language) == scope.family]
    if imported is not None:
        files = scope.files(imported)
        inside = [p for p in places if p.path in files]
        yield from sorted(inside, key=lambda p: (p.parent != owner_hash, files.index(p.path)))[:1]
    elif reach.qualifier:
        yield from [p for p in places if p.parent == owner_hash][:1]
    else:
        top = [p for p in places if not p.parent] or list(places)
        visible = scope.visible() if top else set()
        yield from [p for p in top if p.path in visible][:1] or (top if len(top) <= _MAX_PLACES else [])
