"""Numbers as a page spells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homespun_core.estimates import UNKNOWN

Estimate = Mapping[str, float | None]
"""As reports have it."""

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    key: str
    name: str
    form: str
    """A format specification; one in per cent says points where differences are spelled."""
    is_more_better: bool = True

    def value(self, estimate: Estimate, *, signed: bool = False) -> str:
        value = estimate["value"]
        return UNKNOWN if value is None else spelled(value, self.form, signed=signed)

    def interval(self, estimate: Estimate, *, signed: bool = False) -> str:
        low, high = estimate["low"], estimate["high"]
        if low is None or high is None:
            return UNKNOWN
        return " … ".join(spelled(end, self.form, signed=signed) for end in (low, high))

    def tone(self, estimate: Estimate) -> str:
        """`good` or `bad` where the interval lies on one side of zero."""
        low, high = estimate["low"], estimate["high"]
        if low is None or high is None or low <= 0 <= high:
            return ""
        return "good" if (low > 0) == self.is_more_better else "bad"


METRICS = (
    Metric(key="exact_match", name="exactly right", form=".1%"),
    Metric(key="edit_similarity", name="edit similarity", form=".3f"),
    Metric(key="identifier_f1", name="names (F1)", form=".3f"),
    Metric(key="bits_per_byte", name="bits per byte", form=".3f", is_more_better=False),
    Metric(key="stop_accuracy", name="ends right", form=".1%"),
    Metric(key="milliseconds", name="milliseconds", form=".0f", is_more_better=False),
)


def metric(key: str) -> Metric:
    return next(m for m in METRICS if m.key == key)


def spelled(value: float, form: str, *, signed: bool = False) -> str:
    text = format(value, ("+" if signed else "") + form)
    return text.replace("-", _MINUS).replace("%", " %")


def tick(value: float, form: str) -> str:
    number = f"{100 * value:g} %" if form.endswith("%") else f"{value:g}"
    return number.replace("-", _MINUS)
