"""What a corpus is made of, in numbers and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from homespun_core.types import Document


def counts(trained_on: Sequence[Document]) -> dict[str, object]:
    """The report on what is trained on."""
    return {
        "documents": len(trained_on),
        "characters": sum(len(d.text) for d in trained_on),
        "languages": dict(Counter(d.language for d in trained_on).most_common()),
        "shares": shares(trained_on),
        "recent_places": sum(len(d.recent) for d in trained_on),
    }


def shares(trained_on: Sequence[Document]) -> dict[str, float]:
    """Of the examples, by language."""
    mass: dict[str, float] = {}
    for document in trained_on:
        mass[document.language] = mass.get(document.language, 0.0) + document.mass
    total = sum(mass.values()) or 1.0
    return {name: round(part / total, 4) for name, part in sorted(mass.items(), key=lambda item: -item[1])}


def summary(report: Mapping[str, Any]) -> str:
    """What went in, what not and why, in a few lines."""
    examples = ", ".join(f"{name} {share:.0%}" for name, share in report["shares"].items())
    lines = [
        f"corpus: {report['documents']:,} files, {report['characters']:,} characters as of {report['cut_time'][:10]}"
    ]
    lines.append(f"  examples:  {examples}")
    for title, found in (("left out", report["skipped"]), ("redacted", report["redactions"])):
        if found:
            listed = ", ".join(f"{name} {n:,}" for name, n in sorted(found.items(), key=lambda item: -item[1]))
            lines.append(f"  {title}:  {listed}")
    return "\n".join(lines)
