"""`MODEL_CARD.md` of an adapter: what it was made of, how good it is, and why it did or didn't go live.

Rendered from the facts of the manifest and the report; it holds no source code. Facts a report lacks are left out, so
those of earlier versions and of other recipes have a card as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from homespun_core.estimates import spelled
from homespun_core.storage import Manifest

_METRICS = (
    ("exact_match", "exact match", ".1%"),
    ("edit_similarity", "edit similarity", ".3f"),
    ("identifier_f1", "names F1", ".3f"),
    ("bits_per_byte", "bits per byte", ".3f"),
    ("stop_accuracy", "stop accuracy", ".1%"),
)
_CORPUS = (
    ("languages", "Learned from, files"),
    ("skipped", "Left out of the corpus, files"),
    ("redactions", "Replaced in the corpus, places"),
)


def render(version: str, manifest: Manifest, report: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """`digests`: file -> its SHA-256."""
    sources, training = manifest.sources, _mapping(report, "training")
    sections = [
        f"# Adapter {_plain(version)}\n",
        _facts(
            "Made of",
            {
                "repository": sources.get("repository"),
                "repositories, ids": sources.get("repositories"),
                "base model": sources.get("base_model_name"),
                "base model, digest": sources.get("base_model"),
                "corpus, fingerprint": sources.get("corpus"),
                **{f"corpus, {key}": value for key, value in _mapping(report, "corpus").items()},
                "inputs and options, fingerprint": manifest.fingerprint,
                "champion at that time": sources.get("champion"),
                "served on top of": sources.get("on_top_of"),
                **{f"SHA-256 of {name}": digest for name, digest in digests.items()},
            },
        ),
        _facts("Trained on top of, digest", _parents(training)),
        *(_facts(title, _counted(report, key)) for key, title in _CORPUS),
        _facts("Trained with", {**_mapping(training, "recipe"), **_scalars(training)}),
        _facts("Learning rates tried, loss on held-out files", _trials(training)),
        _facts("Machine", _mapping(training, "machine")),
        _facts("Versions", _mapping(training, "versions")),
        _scores(report),
        _forgotten(report),
        _memory(_mapping(report, "memory")),
        _decision(report),
    ]
    return "\n".join(section for section in sections if section)


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    rows = [
        (key if "." in key else key.replace("_", " "), value)
        for key, value in facts.items()
        if _is_scalar(value) and value != ""
    ]
    return _table(title, ("", ""), rows) if rows else ""


def _parents(training: Mapping[str, Any]) -> dict[str, Any]:
    return {row["name"]: row["digest"] for row in training.get("parents") or [] if isinstance(row, Mapping)}


def _counted(report: Mapping[str, Any], key: str) -> Counter[str]:
    """Of its corpus, or of all of those that it has."""
    parts = _mapping(report, "corpora").values()
    found = [_mapping(part, "report") for part in parts] or [_mapping(report, "corpus_report")]
    total: Counter[str] = Counter()
    for corpus in found:
        total.update(_mapping(corpus, key))
    return Counter(dict(total.most_common()))


def _trials(training: Mapping[str, Any]) -> dict[str, Any]:
    rows = training.get("trials") or []
    return {f"{row['learning_rate']:.3g}": round(row["loss"], 4) for row in rows if isinstance(row, Mapping)}


def _scores(report: Mapping[str, Any]) -> str:
    arms = {name: _mapping(parts, "all") for name, parts in _mapping(report, "arms").items()}
    rows = [_score_row(name, summary, "") for name, summary in arms.items() if summary]
    rows += [_score_row(name, summary, "+") for name, summary in _mapping(report, "differences").items()]
    if not rows:
        return ""
    head = ("", "places", "commits", *(title for _, title, _ in _METRICS))
    note = "In brackets: 95 % intervals, clustered by commit; differences are paired."
    return f"{_table('Measured', head, rows)}\n{note}\n"


def _score_row(name: str, summary: Mapping[str, Any], sign: str) -> tuple[object, ...]:
    estimates = (_estimate(summary.get(key), sign + form) for key, _, form in _METRICS)
    return (name, summary.get("tasks", ""), summary.get("commits", ""), *estimates)


def _estimate(estimate: Mapping[str, float] | None, form: str) -> str:
    return spelled(estimate, form) if estimate else ""


def _forgotten(report: Mapping[str, Any]) -> str:
    """Reports of before there were several libraries have one without a name."""
    found, untested = report.get("general"), report.get("untested") or ()
    tested = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    rows: list[tuple[object, ...]] = [
        (each["library"], each["places"], f"{each['base']:.3f}", _estimate(each["change"], "+.3f")) for each in tested
    ]
    rows += [(name, "not tested: no such library on this machine", "", "") for name in untested]
    return _table("Other code", ("", "places", "bits per byte before", "change"), rows) if rows else ""


def _memory(memory: Mapping[str, Any]) -> str:
    canaries = memory.get("canaries") or []
    bits = [c["bits"] for c in canaries if isinstance(c, Mapping) and "bits" in c]
    facts = {"planted canaries": len(canaries) or None, "greatest exposure of one, bits": max(bits, default=None)}
    return _facts("Learned by heart", {**facts, "leaked secrets": memory.get("leaks")})


def _decision(report: Mapping[str, Any]) -> str:
    if "promote" not in report:
        return ""
    verdict = "The gate let it pass" if report["promote"] else "The gate turned it down"
    against = f", compared with {_plain(said)}" if (said := report.get("compared_with")) else ""
    reasons = "".join(f"- {_plain(reason)}\n" for reason in report.get("reasons", ()))
    return f"## Gate\n\n{verdict}{against}:\n\n{reasons}"


def _table(title: str, head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    cells = [[_plain(cell) for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([f"## {title}\n", lines[0], "|" + "---|" * len(cells[0]), *lines[1:], ""])


def _mapping(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = of.get(key)
    return value if isinstance(value, Mapping) else {}


def _scalars(of: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in of.items() if _is_scalar(value)}


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


def _plain(value: object) -> str:
    """As one cell or line: names and URLs come from repositories, and must not make a table of their own."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
