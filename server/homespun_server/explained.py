"""One completion taken apart: its prompt, what was chosen for it, and what each layer of personalisation did. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from homespun_core.types import Completion
from homespun_server.engine.protocol import EngineStats


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What a completion may know of the company's code."""

    snippets: bool = False
    datastore: bool = False
    """What followed the text elsewhere, in its code or in the file, has a voice in each token; drafts from it make
    decoding faster."""
    adapter: bool = False

    @property
    def title(self) -> str:
        names = [name for name in ("snippets", "datastore", "adapter") if getattr(self, name)]
        return f"with {', '.join(names)}" if names else "base model"


Layer = Literal["snippets", "mixing", "adapter"]

_FIELDS: Mapping[Layer, str] = {"snippets": "snippets", "mixing": "datastore", "adapter": "adapter"}

LADDER = (
    Layers(),
    Layers(snippets=True),
    Layers(snippets=True, datastore=True),
    Layers(snippets=True, datastore=True, adapter=True),
)
"""Each with one layer more than the one before."""


def ladder(without: Iterable[Layer] = ()) -> tuple[Layers, ...]:
    """That without some of the layers."""
    gone = {_FIELDS[layer]: False for layer in without}
    return tuple(dict.fromkeys(replace(layers, **gone) for layers in LADDER))


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    is_control: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    layers: Layers
    completion: Completion
    prompt: Sequence[Piece]
    opening: str
    """The end of the prefix that the model spells again."""
    repository: str | None
    """Name of the one whose code it could know."""
    prompt_version: str | None
    """Name of the one that is theirs, where versions are tried."""
    stats: EngineStats | None
    """None where the engine gave nothing."""
    total_ms: float


def pieces(ids: Iterable[int], spelled: Sequence[bytes | None], controls: Mapping[str, int]) -> list[Piece]:
    """A prompt as a person can read it: text, and control tokens by their names."""
    names = {id: name for name, id in controls.items()}
    found = []
    for is_control, run in groupby(ids, key=lambda id: not spelled or spelled[id] is None):
        if is_control:
            found += [Piece(names.get(id, f"<{id}>"), True) for id in run]
        else:
            found.append(Piece(b"".join(spelled[id] or b"" for id in run).decode(errors="replace"), False))
    return found
