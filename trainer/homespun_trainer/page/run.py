"""Sections about how an adapter came to be: the training run and the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homespun_trainer.page.markup import Html, tag
from homespun_trainer.page.plots import Line, curves

Facts = Mapping[str, Any]


def training(facts: Facts) -> Html | None:
    run = facts.get("training")
    if not run:
        return None
    recipe, machine = run["recipe"], run["machine"]
    rows = {
        "time": f"{run['seconds']:,.0f} s, {run['steps']:,} steps, {run['tokens']:,} tokens"
        + (f" ({run['tokens_per_second']:,} a second)" if run["tokens_per_second"] else ""),
        "kept": "the last step" if run["kept_step"] is None else f"step {run['kept_step']:,}, best on held-out files",
        "adapter": f"LoRA of rank {recipe['rank']}, {run['trainable_parameters']:,} parameters",
        "learning rate": f"{recipe['learning_rate']:g} at its peak" + _tried(run.get("trials", [])),
        "machine": f"{run['placement']}, {machine['architecture']}, {machine['threads']} threads",
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
    }
    return tag("section", tag("h2", "Training"), _loss(run), _list(rows))


def _tried(trials: Sequence[Facts]) -> str:
    rows = ", ".join(f"{t['learning_rate']:g}: {t['loss']:.4f}" for t in trials)
    return f"; loss on held-out files after a short run with each: {rows}" if rows else ""


def corpus(facts: Facts) -> Html | None:
    found, sources = facts.get("corpus_report") or {}, facts.get("corpus", {})
    rows = {
        "repository": sources.get("repository"),
        "cut at commit": sources.get("commit"),
        "of": found.get("cut_time"),
        "judged on": {"time": "lines written after it", "files": "files held out"}.get(sources.get("split", "")),
        "files": f"{found['documents']:,}, {found['characters']:,} characters" if "documents" in found else None,
        "languages": _counts(found.get("languages")),
        "weighed by what people ask for": _factors(found.get("demand_weights")),
        "files weighed by what people kept": _counts(
            {f"×{factor}:": n for factor, n in (found.get("file_weights") or {}).items()}
        ),
        "left out": _counts(found.get("skipped")),
        "redacted": _counts(found.get("redactions")),
    }
    for part in facts.get("corpora", {}).values():
        said, cut = part["report"], part["sources"].get("commit", "")[:10]
        rows[part["name"]] = f"{said['documents']:,} files, {said['characters']:,} characters, cut at {cut}"
    known = {name: text for name, text in rows.items() if text}
    return tag("section", tag("h2", "What it learned from"), _list(known)) if known else None


def _loss(run: Facts) -> Html | None:
    seconds = {p["tokens"]: p["seconds"] for p in run["loss"]}
    if len(seconds) < 2:
        return None
    per_step = run["seconds"] / run["steps"] if run["steps"] else 0.0
    lines = [
        Line(label="training examples", points=[(p["seconds"], p["loss"]) for p in run["loss"]]),
        Line(
            label="held-out files",
            points=[(p["step"] * per_step, p["loss"]) for p in run["held_out_loss"]],
            is_marked=True,
        ),
    ]
    return tag("figure", curves("Loss during training", lines, x_name="seconds", y_name="loss"))


def _list(rows: Mapping[str, str]) -> Html:
    return tag("dl", *(part for name, text in rows.items() for part in (tag("dt", name), tag("dd", text))))


def _factors(by: Mapping[str, float] | None) -> str | None:
    return ", ".join(f"{name} ×{factor:.2f}" for name, factor in by.items()) if by else None


def _counts(counts: Mapping[str, int] | None) -> str | None:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items()) if counts else None
