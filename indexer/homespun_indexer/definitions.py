"""Definitions of the names in reach of a cursor: through the imports of the file where they tell, by name where not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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

Find = Callable[[str, Collection[str] | None, int | None], Sequence[Definition]]
"""The definitions of a name, in the order of their paths; in these files only, of this parent only."""


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

    @cached_property
    def visible(self) -> set[str]:
        """Files whose names are visible without naming them."""
        found = set(self._resolver.neighbours(self._path, self._language))
        return found.union(*map(self.files, self._all))


def _of_reach(reach: Reach, scope: _Scope, find: Find) -> Iterator[Definition]:
    own, owner = scope.imported(reach.name), scope.imported(reach.qualifier)
    imported = own if own is not None and not reach.qualifier else owner
    name = own.name if imported is own and own is not None and own.name else reach.name
    if imported is not None:
        files, around = scope.files(imported), parent_hash(reach.qualifier)
        inside = find(name, files, None) if files else ()
        yield from sorted(inside, key=lambda p: (p.parent != around, files.index(p.path)))[:1]
    elif reach.qualifier:
        yield from _in_family(find(name, None, parent_hash(reach.qualifier)), scope)[:1]
    else:
        yield from _by_name_alone(name, scope, find)


def _by_name_alone(name: str, scope: _Scope, find: Find) -> Sequence[Definition]:
    """A top-level definition in a file that is visible, or wherever it is if there are few."""
    near = _in_family(find(name, scope.visible, 0), scope) if scope.visible else []
    if near:
        return near[:1]
    top = _in_family(find(name, None, 0), scope) or _in_family(find(name, None, None), scope)
    return top if len(top) <= _MAX_PLACES else []


def _in_family(places: Sequence[Definition], scope: _Scope) -> list[Definition]:
    return [place for place in places if _family(place.language) == scope.family]
