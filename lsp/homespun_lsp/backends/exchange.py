"""What goes to a completion server of any kind, and what comes back. The kinds differ in the JSON between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from homespun_core.fim import FimFamily

if TYPE_CHECKING:  # it brings pygls, which the command has no need of before it serves
    from homespun_lsp.context import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    query: Query
    max_tokens: int
    client: str
    """Of this editor: what is typed now matters more than what was typed before."""
    user: str | None = None
    model: str = ""
    """Empty where the server has one model only, or knows which it wants to use."""
    template: FimFamily | None = None
    """Where the server wants prompts with the model's own control tokens in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One POST."""

    path: str
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    """Empty when there is nothing to suggest."""
    id: str | None = None
    is_truncated: bool = False
    """Whether the limit ended it, perhaps in the middle of a line."""


class Backend(Protocol):
    """The module of one kind of server. Both functions are pure."""

    def call(self, ask: Ask) -> Call: ...

    def answer(self, body: object) -> Answer:
        """Raises LookupError or TypeError when `body` isn't what this kind of server says."""
        ...


def text_in(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError("not an object")
    return value


def first_choice(body: object) -> Mapping[str, object]:
    """Of the reply that OpenAI's completions and those after its example have."""
    choices = mapping(body)["choices"]
    if not isinstance(choices, list):
        raise TypeError("not a list")
    return mapping(choices[0])
