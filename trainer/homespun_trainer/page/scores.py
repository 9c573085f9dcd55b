"""Sections about how good completions are: arms, differences, languages, new and known lines, examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homespun_trainer.page.markup import Html, join, tag
from homespun_trainer.page.numbers import METRICS, metric, tick
from homespun_trainer.page.plots import Interval, forest

Facts = Mapping[str, Any]
Rows = Sequence[tuple[str, Facts]]
_PLOTTED = ("bits_per_byte", "exact_match", "edit_similarity")


def tiles(facts: Facts) -> Html | None:
    """The difference that decides, or that people ask for first."""
    name = facts.get("deciding")
    if name is None or name not in facts["differences"]:
        return None
    change = facts["differences"][name]
    boxes = [
        _tile(m.value(change[m.key], signed=True), m.name, m.interval(change[m.key], signed=True))
        for m in map(metric, _PLOTTED)
    ]
    places = _tile(f"{change['tasks']:,}", "places", f"of {change['commits']:,} commits")
    return join(
        tag("div", *boxes, places, class_="tiles"),
        tag("p", f"{_minus(name)}, place by place. Below each number: its 95 % interval.", class_="note"),
    )


def arms(facts: Facts) -> Html | None:
    rows = [(name, parts["all"]) for name, parts in facts["arms"].items() if "all" in parts]
    if not rows:
        return None
    return tag(
        "section",
        tag("h2", "What each layer writes"),
        _note(
            "The rest of the line, greedy, at places that developers wrote after what the model knows of, with the"
            " prompts and the post-processing of the server. Small print: 95 % intervals, from drawing commits."
        ),
        _table(rows, signed=False),
        _forest("exact_match", rows, is_difference=False),
    )


def differences(facts: Facts) -> Html | None:
    rows = [(_minus(name), change) for name, change in facts["differences"].items()]
    if not rows:
        return None
    return tag(
        "section",
        tag("h2", "Differences, place by place"),
        _note(
            "Both sides at the same places. Bits per byte: the fewer, the likelier the model found what was written."
            " Green is surely better, red surely worse; an interval that holds zero says neither."
        ),
        *(_forest(key, rows, is_difference=True) for key in _PLOTTED),
        _table(rows, signed=True),
        _swaps(rows),
    )


def languages(facts: Facts) -> Html | None:
    return _parts(facts, "languages", "By language", "language")


def repositories(facts: Facts) -> Html | None:
    """Of an adapter that several share."""
    return _parts(facts, "repositories", "By repository", "repository")


def _parts(facts: Facts, key: str, title: str, kind: str) -> Html | None:
    rows = list(facts.get(key, {}).items())
    if not rows:
        return None
    return tag(
        "section",
        tag("h2", title),
        _note(f"The difference that decides, in every {kind} with places enough."),
        _forest("bits_per_byte", rows, is_difference=True),
        _table(rows, signed=True),
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
    note = _note("Known: the same line stood somewhere in the code that was learned from. Differences: of new lines.")
    changes = [(_minus(name), change) for name, change in facts.get("new_lines", {}).items()]
    table = _table(changes, signed=True) if changes else None
    return tag("section", tag("h2", "New and known lines"), note, _table(rows, signed=False), table)


def examples(facts: Facts) -> Html | None:
    found = facts.get("examples") or []
    if not found:
        return None
    note = _note("Real places, chosen by rule: the longest lines of each kind, new ones first.")
    return tag("section", tag("h2", "Examples"), note, *(_example(example) for example in found))


def _table(rows: Rows, *, signed: bool) -> Html:
    head = tag("tr", tag("th", ""), tag("th", "places"), *(tag("th", m.name) for m in METRICS))
    body = [
        tag("tr", tag("td", name), tag("td", f"{summary['tasks']:,}"), *_cells(summary, signed=signed))
        for name, summary in rows
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")


def _cells(summary: Facts, *, signed: bool) -> list[Html]:
    return [
        tag("td", m.value(found, signed=signed), tag("small", m.interval(found, signed=signed)))
        if (found := summary.get(m.key))
        else tag("td", "–")
        for m in METRICS
    ]


def _forest(key: str, rows: Rows, *, is_difference: bool) -> Html | None:
    """Of the values that are known."""
    m = metric(key)
    intervals = [
        Interval(
            label=name,
            value=found["value"],
            low=found["low"],
            high=found["high"],
            text=f"{m.value(found, signed=is_difference)} [{m.interval(found, signed=is_difference)}]",
            tone=m.tone(found) if is_difference else "",
        )
        for name, found in ((name, summary[key]) for name, summary in rows)
        if found["value"] is not None
    ]
    if not intervals:
        return None
    plot = forest(m.name, intervals, zero=is_difference, spell=lambda x: tick(x, m.form))
    return tag("figure", tag("h3", m.name.capitalize()), plot)


def _swaps(rows: Rows) -> Html:
    said = [
        f"{name}: {s['gained']} lines more right, {s['lost']} no longer right; by chance as uneven in"
        f" {s['p']:.1%} of cases (McNemar)"
        for name, summary in rows
        if (s := summary.get("mcnemar"))
    ]
    return tag("ul", *(tag("li", text) for text in said))


def _example(example: Mapping[str, str]) -> Html:
    """The context, and its last line three times: as the developer went on, without and with what is judged."""
    context, _, line = example["context"].rpartition("\n")
    written = example["written"].rstrip()
    rows = [("developer", written, "ghost")]
    for who, key in (("without", "before"), ("with", "after")):
        rows.append((who, example[key], "right" if example[key].rstrip() == written else "wrong"))
    shown = [
        join("\n", tag("span", who, class_="who"), line.lstrip(), tag("span", text or "(nothing)", class_=kind))
        for who, text, kind in rows
    ]
    caption = tag("figcaption", f"{example['path']}, commit {example['commit'][:10]}: {example['rule']}")
    return tag("figure", caption, tag("pre", context, *shown))


def _tile(number: str, name: str, below: str) -> Html:
    return tag("div", tag("b", number), tag("span", name), tag("small", below), class_="tile")


def _note(text: str) -> Html:
    return tag("p", text, class_="note")


def _minus(name: str) -> str:
    return name.replace(" - ", " \N{MINUS SIGN} ")
