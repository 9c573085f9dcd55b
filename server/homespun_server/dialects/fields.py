"""Reading JSON bodies. What makes no sense is a BadRequestError that names the field and never repeats its value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_STOPS = 64
"""Continue sends a good dozen of sentinels and keywords."""
MAX_TEMPERATURE = 2.0
MAX_NAME_CHARS = 256
MAX_STOP_CHARS = 256
_MAX_ITEMS = 256
_MAX_TOP_K = 1_000_000
"""More tokens than any model has."""


class BadRequestError(Exception):
    """A body that makes no sense. The message is one line and never repeats what was sent."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


@dataclass(frozen=True, slots=True)
class Fields:
    """One object of a body. A field that is null counts as absent."""

    values: Mapping[str, Any]
    where: str = ""
    """How messages name the object: `segments.`, or nothing for the body itself."""

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if not isinstance(value, str | None):
            raise self.wrong(name, "must be a text")
        return None if value is None else clean(value)

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise self.missing(name)
        return value

    def name(self, name: str) -> str | None:
        """A short text: a user, a client."""
        value = self.text(name)
        if value is not None and len(value) > MAX_NAME_CHARS:
            raise self.wrong(name, f"has {len(value)} characters; at most {MAX_NAME_CHARS} are allowed")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        if not isinstance(value, bool | None):
            raise self.wrong(name, "must be true or false")
        return value

    def integer(self, name: str) -> int | None:
        value = self.values.get(name)
        if isinstance(value, float) and value.is_integer():
            return int(value)  # JSON knows one kind of number: 3.0 is 3
        if isinstance(value, bool) or not isinstance(value, int | None):
            raise self.wrong(name, "must be a whole number")
        return value

    def count(self, name: str, most: int | None = None) -> int | None:
        value = self.integer(name)
        if value is not None and value < 0:
            raise self.wrong(name, "must not be negative")
        if value is not None and most is not None and value > most:
            raise self.wrong(name, f"must be {most} at most")
        return value

    def limit(self, name: str) -> int | None:
        """A number of tokens; below 0 is as many as the server makes, as llama.cpp and Ollama have it."""
        value = self.integer(name)
        return None if value is not None and value < 0 else value

    def temperature(self) -> float:
        """0 when absent: an editor wants the likeliest text, and the same one twice."""
        value = self.values.get("temperature")
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TEMPERATURE:
            raise self.wrong("temperature", f"must be a number from 0 to {MAX_TEMPERATURE:g}")
        return float(value)

    def top_p(self) -> float:
        """1 when absent: all there is."""
        value = self.values.get("top_p")
        if value is None:
            return 1.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.wrong("top_p", "must be a number from 0 to 1")
        return float(value)

    def top_k(self) -> int:
        """0 and less is all there is, as llama.cpp and Ollama have it."""
        return min(max(self.integer("top_k") or 0, 0), _MAX_TOP_K)

    def milliseconds(self, name: str) -> int | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, "must be a number of milliseconds")
        return int(value)

    def stops(self, name: str = "stop") -> tuple[str, ...]:
        value = self.values.get(name)
        if not isinstance(value, str | list | None):
            raise self.wrong(name, "must be a text or a list of texts")
        values: Sequence[Any] = [value] if isinstance(value, str) else value or []
        if len(values) > MAX_STOPS:
            raise self.wrong(name, f"has {len(values)} texts; at most {MAX_STOPS} are allowed")
        if not all(isinstance(v, str) and 0 < len(v) <= MAX_STOP_CHARS for v in values):
            raise self.wrong(name, f"may hold texts of 1 to {MAX_STOP_CHARS} characters")
        return tuple(clean(v) for v in values)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.values.get(name)
        if not isinstance(value, list | None) or not all(isinstance(v, str) for v in value or []):
            raise self.wrong(name, "must be a list of texts")
        return tuple(clean(v) for v in value or [])

    def inside(self, name: str) -> Fields:
        """The object of that name; an empty one when absent."""
        value = self.values.get(name)
        if not isinstance(value, dict | None):
            raise self.wrong(name, "must be an object")
        return Fields(value or {}, f"{self.where}{name}.")

    def items(self, name: str) -> Iterator[Fields]:
        """The objects of a list; its first ones, where it is longer than any client's."""
        value = self.values.get(name)
        if not isinstance(value, list | None) or not all(isinstance(v, dict) for v in value or []):
            raise self.wrong(name, "must be a list of objects")
        for item in (value or [])[:_MAX_ITEMS]:
            yield Fields(item, f"{self.where}{name}.")

    def wrong(self, name: str, what: str, code: str = "invalid_value") -> BadRequestError:
        shown = f"{self.where}{name}"
        return BadRequestError(f"{shown} {what}", param=shown, code=code)

    def missing(self, name: str) -> BadRequestError:
        return self.wrong(name, "is required", "missing_field")

    def unsupported(self, name: str, what: str) -> BadRequestError:
        return self.wrong(name, what, "unsupported_value")


def parse_body(raw: bytes) -> Mapping[str, Any]:
    """The JSON object in a body; raises BadRequestError for anything else."""
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadRequestError("the body is nested too deeply", code="invalid_json") from None
    except ValueError:
        raise BadRequestError("the body is not valid JSON in UTF-8", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object", code="invalid_json")
    return body


def clean(text: str) -> str:
    r"""JSON may hold half a surrogate pair (`"\ud83d"`, an emoji cut in two), which is no text; it becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON
