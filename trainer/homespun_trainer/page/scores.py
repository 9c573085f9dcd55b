"""Sections about how good completions are: arms, differences, languages, new and known lines, examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homespun_trainer.page.markup import Html, join, tag
from homespun_trainer.page.plots import Interval, forest

Facts = Mapping[str, Any]
_DECIDING = " - "
_METRICS = (
    ("exact_match", "exactly right", ".1%", 1),
    ("edit_similarity", "edit similarity", ".3f", 1),
    ("identifier_f1", "names F1", ".3f", 1),
    ("bits_per_byte", "bits per byte", ".3f", -1),
    ("stop_accuracy", "ends right", ".1%", 1),
    ("milliseconds", "ms", ".0f", -1),
)
"""Key, name, format, and whether more (1) or less (-1) is better."""
_PLOTTED = ("bits_per_byte", "exact_match", "edit_similarity")


def tiles(facts: Facts) -> Html | None:
    """The first difference is the one that decides."""
    name, change = next(iter(facts["differences"].items()), (None, None))
    if change is None:
        return None
    shown = [(key, label, form) for key, label, form, _ in _METRICS if key in _PLOTTED]
    boxes = [
        tag(
            "div",
            tag("b", _signed(change[key]["value"], form)),
            tag("span", f"{label} ({_range(change[key], form)})"),
            class_="tile",
        )
        for key, label, form in shown
    ]
    places = tag(
        "div", tag("b", f"{change['tasks']:,}"), tag("span", f"places of {change['commits']:,} commits"), class_="tile"
    )
    return join(
        tag("div", *boxes, places, class_="tiles"), tag("p", f"{name}; in brackets: 95 % intervals", class_="note")
    )


def arms(facts: Facts) -> Html | None:
    if not facts["arms"]:
        return None
    rows = [(name, parts["all"]) for name, parts in facts["arms"].items()]
    return tag(
        "section",
        tag("h2", "What each layer writes"),
        tag(
            "p",
            "At places that developers wrote after what the model knows of, the rest of the line, greedy, with the"
            " prompts and the post-processing of the server. Small print: 95 % intervals over commits.",
            class_="note",
        ),
        table(rows, signed=False),
        forest_of("Exactly right", rows, "exact_match", zero=False),
    )


def differences(facts: Facts) -> Html | None:
    rows = list(facts["differences"].items())
    if not rows:
        return None
    plots = [forest_of(label, rows, key, zero=True) for key, label, _, _ in _METRICS if key in _PLOTTED]
    return tag(
        "section",
        tag("h2", "Differences, place by place"),
        tag(
            "p",
            "Both sides at the same places. Left of zero is better for bits per byte, right of it for the others; an"
            " interval that holds zero says nothing.",
            class_="note",
        ),
        *plots,
        table(rows, signed=True),
        _swaps(rows),
    )


def languages(facts: Facts) -> Html | None:
    rows = list(facts.get("languages", {}).items())
    if not rows:
        return None
    return tag(
        "section",
        tag("h2", "By language"),
        tag("p", "The difference that decides, where there are places enough.", class_="note"),
        forest_of("Bits per byte", rows, "bits_per_byte", zero=True),
        table(rows, signed=True),
    )


def novelty(facts: Facts) -> Html | None:
    """Lines that stood in the corpus already are easier, and tell less."""
    rows = [
        (f"{name}, {label}", parts[part])
        for part, label in (("novel", "new lines"), ("seen", "known lines"))
        for name, parts in facts["arms"].items()
        if part in parts
    ]
    if not rows:
        return None
    return tag(
        "section",
        tag("h2", "New and known lines"),
        tag("p", "Known: the same line stood somewhere in the code that was learned from.", class_="note"),
        table(rows, signed=False),
    )


def examples(facts: Facts) -> Html | None:
    found = facts.get("examples") or []
    if not found:
        return None
    return tag("section", tag("h2", "Examples"), *(_example(example) for example in found))


def table(rows: Sequence[tuple[str, Facts]], *, signed: bool) -> Html:
    head = tag("tr", tag("th", ""), tag("th", "places"), *(tag("th", name) for _, name, _, _ in _METRICS))
    body = [
        tag(
            "tr",
            tag("td", name),
            tag("td", f"{summary['tasks']:,}"),
            *(_cell(summary.get(key), form, signed) for key, _, form, _ in _METRICS),
        )
        for name, summary in rows
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")


def forest_of(title: str, rows: Sequence[tuple[str, Facts]], key: str, *, zero: bool) -> Html:
    form, better = next((form, better) for name, _, form, better in _METRICS if name == key)
    sign = "+" if zero else ""
    intervals = [
        Interval(
            label=name,
            **{end: summary[key][end] for end in ("value", "low", "high")},
            text=f"{format(summary[key]['value'], sign + form)} [{_range(summary[key], form, sign)}]",
            tone=_tone(summary[key], better) if zero else "",
        )
        for name, summary in rows
    ]
    return tag("figure", tag("figcaption", title), forest(title, intervals, zero=zero, spell=_axis_form(form)))


def _axis_form(form: str) -> Any:
    return (lambda x: f"{100 * x:g} %") if form.endswith("%") else (lambda x: f"{x:g}")


def _tone(estimate: Facts, better: int) -> str:
    if better * estimate["low"] > 0 and better * estimate["high"] > 0:
        return "good"
    return "bad" if better * estimate["low"] < 0 and better * estimate["high"] < 0 else ""


def _cell(estimate: Facts | None, form: str, signed: bool) -> Html:
    if estimate is None:
        return tag("td", "–")
    sign = "+" if signed else ""
    value, interval = format(estimate["value"], sign + form), _range(estimate, form, sign)
    return tag("td", value, " ", tag("small", f"[{interval}]"))


def _swaps(rows: Sequence[tuple[str, Facts]]) -> Html:
    said = [
        tag(
            "li",
            f"{name}: {s['gained']} lines right that weren't, {s['lost']} no longer right (McNemar's p = {s['p']:.3f})",
        )
        for name, summary in rows
        if (s := summary.get("mcnemar"))
    ]
    return tag("ul", *said)


def _signed(value: float, form: str) -> str:
    return format(value, "+" + form)


def _range(estimate: Facts, form: str, sign: str = "+") -> str:
    return f"{format(estimate['low'], sign + form)}, {format(estimate['high'], sign + form)}"


def _example(example: Mapping[str, str]) -> Html:
    context, _, line = example["context"].rpartition("\n")
    written = example["written"]
    rows = [
        ("developer", written, "ghost"),
        *(
            (who, example[key], "right" if example[key].rstrip() == written.rstrip() else "wrong")
            for who, key in (("without", "before"), ("with", "after"))
        ),
    ]
    shown = [
        join("\n", tag("span", who, class_="who"), line.lstrip(), tag("span", text or "(nothing)", class_=kind))
        for who, text, kind in rows
    ]
    return tag(
        "figure",
        tag("figcaption", f"{example['path']}, commit {example['commit'][:10]}: {example['rule']}"),
        tag("pre", context, *shown),
    )
