"""Drift week by week as one HTML page with everything in it: no script, no style or picture from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from homespun_core.acceptance import week_of
from homespun_core.retraining import FreshScore, Reception

_WIDTH, _HEIGHT, _LEFT, _BELOW = 720, 240, 60, 30
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;padding:0 1em;color:#222}
svg text{font-size:11px;fill:#555}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}svg text{fill:#aaa}}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    name: str
    """ISO: 2026-W48."""
    bits_per_byte: float
    baseline: float | None
    """Of the adapter that was live last."""
    adapters: tuple[str, ...]
    places: int
    is_alarm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One repository."""

    name: str
    now: str
    scores: Sequence[FreshScore]
    acceptance: Mapping[str, float] = field(default_factory=dict)
    """Week -> share of the shown completions that were accepted, where somebody counts them."""
    receptions: Sequence[Reception] = ()


def weeks(scores: Sequence[FreshScore]) -> list[Week]:
    """Bits and bytes of all measurements of a week together, oldest week first."""
    found: dict[str, list[FreshScore]] = {}
    for score in sorted(scores, key=lambda s: s.at):
        found.setdefault(week_of(score.at), []).append(score)
    return [
        Week(
            name=name,
            bits_per_byte=sum(s.bits for s in own) / sum(s.bytes for s in own),
            baseline=own[-1].baseline,
            adapters=tuple(dict.fromkeys(s.adapter for s in own)),
            places=sum(s.places for s in own),
            is_alarm=own[-1].is_alarm,
        )
        for name, own in found.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    week: str
    value: float
    beside: float | None = None
    is_alarm: bool = False


def page(chapters: Sequence[Chapter]) -> str:
    body = "\n".join(_chapter(chapter) for chapter in chapters)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Homespun: drift</title><style>{_STYLE}</style>\n'
        "<h1>How live adapters do on fresh code</h1>\n"
        "<p>Bits per byte of lines written after the live adapter was trained: less is better. Dashed: the same on the"
        " places it was judged on. Red: an alarm. Below, where somebody counts it: the share"
        f" of the shown completions that was accepted.</p>\n{body}\n</html>\n"
    )


def _chapter(chapter: Chapter) -> str:
    rows = weeks(chapter.scores)
    parts = [f"<h2>{html.escape(chapter.name)}</h2><p>{html.escape(chapter.now)}</p>"]
    if rows:
        points = [_Point(week=w.name, value=w.bits_per_byte, beside=w.baseline, is_alarm=w.is_alarm) for w in rows]
        parts.append(_plot("bits per byte by week", points, "{:.2f}"))
    else:
        parts.append("<p>Nothing was measured yet: too little was written since the live adapter was trained.</p>")
    if chapter.acceptance:
        falls = {week_of(reception.at) for reception in chapter.receptions if reception.is_fall}
        weekly = sorted(chapter.acceptance.items())
        shares = [_Point(week=week, value=share, is_alarm=week in falls) for week, share in weekly]
        parts.append(_plot("share of the shown completions that were accepted, by week", shares, "{:.0%}", low=0.0))
    return "".join(parts) + (_table(rows, chapter.acceptance) if rows or chapter.acceptance else "")


def _table(rows: Sequence[Week], acceptance: Mapping[str, float]) -> str:
    measured = {week.name: week for week in rows}
    titles = ["bits per byte", "when judged", "places", "adapter", *(["accepted"] if acceptance else [])]
    lines = []
    for name in sorted({*measured, *acceptance}):
        share = acceptance.get(name)
        shown = [f"{share:.0%}" if share is not None else "–"] if acceptance else []
        cells = "".join(f"<td>{cell}</td>" for cell in [name, *_cells(measured.get(name)), *shown])
        lines.append(f"<tr>{cells}</tr>")
    head = "".join(f"<th>{title}</th>" for title in ["week", *titles])
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _cells(week: Week | None) -> tuple[str, str, str, str]:
    if week is None:
        return ("–", "–", "–", "–")
    judged = f"{week.baseline:.3f}" if week.baseline else "–"
    return (f"{week.bits_per_byte:.3f}", judged, str(week.places), html.escape(", ".join(week.adapters)))


def _plot(title: str, points: Sequence[_Point], spelled: str, low: float | None = None) -> str:
    """The scale begins at `low`, without it a little below the lowest value."""
    values = [p.value for p in points] + [p.beside for p in points if p.beside]
    bottom, top = min(values) * 0.95 if low is None else low, max(values) * 1.05 or 1.0
    xs = [_LEFT + (_WIDTH - _LEFT - 20) * (i + 0.5) / len(points) for i in range(len(points))]

    def y(value: float) -> float:
        return 10 + (_HEIGHT - _BELOW - 10) * (top - value) / (top - bottom)

    line = " ".join(f"{x:.1f},{y(p.value):.1f}" for x, p in zip(xs, points, strict=True))
    beside = " ".join(f"{x:.1f},{y(p.beside):.1f}" for x, p in zip(xs, points, strict=True) if p.beside)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y(p.value):.1f}" r="4" fill="{"#c33" if p.is_alarm else "#26c"}">'
        f"<title>{p.week}: {p.value:.3f}</title></circle>"
        for x, p in zip(xs, points, strict=True)
    )
    every = max(1, len(points) // 8)
    labels = "".join(
        f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{p.week}</text>'
        for i, (x, p) in enumerate(zip(xs, points, strict=True))
        if i % every == 0
    )
    scale = "".join(
        f'<text x="{_LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{spelled.format(v)}</text>'
        f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#8884"/>'
        for v in (bottom, (bottom + top) / 2, top)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{scale}{labels}'
        f'<polyline points="{beside}" fill="none" stroke="#888" stroke-dasharray="5 4"/>'
        f'<polyline points="{line}" fill="none" stroke="#26c" stroke-width="2"/>{dots}</svg>'
    )
