"""Drift week by week as one HTML page with everything in it: no script, no style or picture from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from homespun_core.acceptance import week_of
from homespun_core.retraining import FreshScore

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


def page(chapters: Sequence[Chapter]) -> str:
    body = "\n".join(_chapter(chapter) for chapter in chapters)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Homespun: drift</title><style>{_STYLE}</style>\n'
        "<h1>How live adapters do on fresh code</h1>\n"
        "<p>Bits per byte of lines written after the live adapter was trained: less is better. Dashed: the same on the"
        f" places it was judged on. Red: an alarm, by that or by acceptance.</p>\n{body}\n</html>\n"
    )


def _chapter(chapter: Chapter) -> str:
    rows = weeks(chapter.scores)
    head = f"<h2>{html.escape(chapter.name)}</h2><p>{html.escape(chapter.now)}</p>"
    if not rows:
        return f"{head}<p>Nothing was measured yet: too little was written since the live adapter was trained.</p>"
    return head + _plot(rows) + _table(rows, chapter.acceptance)


def _table(rows: Sequence[Week], acceptance: Mapping[str, float]) -> str:
    accepted = "<th>accepted</th>" if acceptance else ""
    lines = []
    for week in rows:
        share = acceptance.get(week.name)
        shown = f"<td>{f'{share:.0%}' if share is not None else '–'}</td>" if acceptance else ""
        judged = f"{week.baseline:.3f}" if week.baseline else "–"
        adapters = html.escape(", ".join(week.adapters))
        lines.append(
            f"<tr><td>{week.name}</td><td>{week.bits_per_byte:.3f}</td><td>{judged}</td><td>{week.places}</td>"
            f"<td>{adapters}</td>{shown}</tr>"
        )
    titles = "<th>week</th><th>bits per byte</th><th>when judged</th><th>places</th><th>adapter</th>"
    return f"<table><tr>{titles}{accepted}</tr>{''.join(lines)}</table>"


def _plot(rows: Sequence[Week]) -> str:
    values = [w.bits_per_byte for w in rows] + [w.baseline for w in rows if w.baseline]
    low, high = min(values) * 0.95, max(values) * 1.05
    xs = [_LEFT + (_WIDTH - _LEFT - 20) * (i + 0.5) / len(rows) for i in range(len(rows))]

    def y(value: float) -> float:
        return 10 + (_HEIGHT - _BELOW - 10) * (high - value) / (high - low)

    fresh = " ".join(f"{x:.1f},{y(w.bits_per_byte):.1f}" for x, w in zip(xs, rows, strict=True))
    judged = " ".join(f"{x:.1f},{y(w.baseline):.1f}" for x, w in zip(xs, rows, strict=True) if w.baseline)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y(w.bits_per_byte):.1f}" r="4" fill="{"#c33" if w.is_alarm else "#26c"}">'
        f"<title>{w.name}: {w.bits_per_byte:.3f}</title></circle>"
        for x, w in zip(xs, rows, strict=True)
    )
    every = max(1, len(rows) // 8)
    labels = "".join(
        f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{w.name}</text>'
        for i, (x, w) in enumerate(zip(xs, rows, strict=True))
        if i % every == 0
    )
    scale = "".join(
        f'<text x="{_LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.2f}</text>'
        f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#8884"/>'
        for v in (low, (low + high) / 2, high)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="bits per byte by week">{scale}{labels}'
        f'<polyline points="{judged}" fill="none" stroke="#888" stroke-dasharray="5 4"/>'
        f'<polyline points="{fresh}" fill="none" stroke="#26c" stroke-width="2"/>{dots}</svg>'
    )
