"""What a training run leaves behind for people: report.json of an adapter, and a table of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from homespun_core import __version__
from homespun_core.estimates import spelled
from homespun_core.types import EvalTask
from homespun_trainer.control import Control
from homespun_trainer.evaluate import Arm, Score, Scores
from homespun_trainer.gate import Decision, Evidence
from homespun_trainer.job import Job
from homespun_trainer.summaries import Summary, differences, summarise
from homespun_trainer.train import Recipe, TrainResult

_CONTEXT_LINES = 6
_EXAMPLES_PER_KIND = 3
_NEW_SHOWN = 2
"""Differences that the table shows of new lines: those that come first. The page has all."""
_NARROW = (("identifier_f1", ".3f", 8), ("stop_accuracy", ".1%", 8), ("milliseconds", ".0f", 6))
"""Columns without their intervals: the page has these."""


def score_facts(
    tasks: Sequence[EvalTask], arms: Sequence[Arm], scores: Scores, changes: Mapping[tuple[str, str], Summary]
) -> dict[str, Any]:
    of_new = differences(tasks, scores, changes, [i for i, task in enumerate(tasks) if not task.seen])
    return {
        "arms": arm_scores(tasks, arms, scores) if tasks else {},
        "differences": {f"{a} - {b}": change.as_json() for (a, b), change in changes.items()},
        "new_lines": {f"{a} - {b}": change.as_json() for (a, b), change in of_new.items()},
    }


def evidence_facts(evidence: Evidence) -> dict[str, Any]:
    return {
        "languages": {name: summary.as_json() for name, summary in evidence.languages.items()},
        "repositories": {name: summary.as_json() for name, summary in evidence.repositories.items()},
        "general": [each.as_json() for each in evidence.forgetting],
        "untested": list(evidence.untested),
        "memory": evidence.memory.as_json() if evidence.memory else None,
    }


def arm_scores(tasks: Sequence[EvalTask], arms: Sequence[Arm], scores: Scores) -> dict[str, Any]:
    """Arm -> {all, seen, novel} -> scores; parts without places are left out, and arms without any."""
    parts = {
        "all": range(len(tasks)),
        "seen": [i for i, t in enumerate(tasks) if t.seen],
        "novel": [i for i, t in enumerate(tasks) if not t.seen],
    }
    return {
        arm.name: {
            name: summarise(tasks, scores[arm.name], which).as_json()
            for name, which in parts.items()
            if any(scores[arm.name][i] for i in which)
        }
        for arm in arms
        if any(scores[arm.name])
    }


def corpus_facts(job: Job) -> dict[str, Any]:
    """What it was trained on: flat for one repository, by id and name for those that share an adapter."""
    parts = job.parts
    if not job.is_shared:
        corpus = parts[0].corpus
        return {"corpus": dict(corpus.sources), "corpus_report": dict(corpus.report)}
    return {
        "corpus": {f"{part.name}, {key}": value for part in parts for key, value in part.corpus.sources.items()},
        "corpora": {
            part.id: {"name": part.name, "sources": dict(part.corpus.sources), "report": dict(part.corpus.report)}
            for part in parts
        },
        "left_out": {each.id: each.head for each in job.left_out},
    }


def choose_example(
    tasks: Sequence[EvalTask], before: Sequence[Score | None], after: Sequence[Score | None]
) -> dict[str, str] | None:
    """One real place, by rule: the longest line only the adapter got right; else its greatest gain in edit similarity.

    None when it gained nowhere.
    """
    rows = [(t, b, a) for t, b, a in zip(tasks, before, after, strict=True) if b is not None and a is not None]
    won = [row for row in rows if row[2].exact and not row[1].exact]
    gained = [row for row in rows if row[2].similarity > row[1].similarity]
    if won:
        task, b, a = max(won, key=lambda row: (not row[0].seen, len(row[0].middle)))
        rule = "the longest line only the adapter got right"
    elif gained:
        task, b, a = max(gained, key=lambda row: row[2].similarity - row[1].similarity)
        rule = "the greatest gain in edit similarity; it got no further line right"
    else:
        return None
    return _example(task, b, a, rule)


def choose_examples(
    tasks: Sequence[EvalTask],
    before: Sequence[Score | None],
    after: Sequence[Score | None],
    names: tuple[str, str],
) -> list[dict[str, str]]:
    """Real places, good and bad: the longest lines that only one of the two arms (`names`) got right, and that neither
    did."""
    rows = [(t, b, a) for t, b, a in zip(tasks, before, after, strict=True) if b is not None and a is not None]
    rows.sort(key=lambda row: (row[0].seen, -len(row[0].middle)))
    kinds = {
        f"only {names[1]} got it right": [r for r in rows if r[2].exact and not r[1].exact],
        f"only {names[0]} got it right": [r for r in rows if r[1].exact and not r[2].exact],
        "neither got it right": [r for r in rows if not r[1].exact and not r[2].exact],
    }
    return [_example(*row, rule) for rule, found in kinds.items() for row in found[:_EXAMPLES_PER_KIND]]


def _example(task: EvalTask, before: Score, after: Score, rule: str) -> dict[str, str]:
    return {
        "path": task.path,
        "commit": task.commit,
        "context": "\n".join(task.prefix.split("\n")[-_CONTEXT_LINES:]),
        "written": task.middle,
        "before": before.text,
        "after": after.text,
        "rule": rule,
    }


def training_facts(result: TrainResult, recipe: Recipe, placement: str, num_threads: int) -> dict[str, Any]:
    state = result.state
    return {
        "recipe": {**recipe.as_json(), "learning_rate": result.learning_rate},
        "trainable_parameters": result.num_trainable,
        "steps": state.step,
        "tokens": state.tokens,
        "seconds": round(state.elapsed_s, 1),
        "tokens_per_second": round(state.tokens / state.elapsed_s) if state.elapsed_s else None,
        "loss": [{"tokens": t, "seconds": s, "loss": x} for t, s, x in state.losses],
        "held_out_loss": [{"step": s, "loss": round(x, 4)} for s, x in state.dev_losses],
        "kept_step": state.best_step,
        "placement": placement,
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count(), "threads": num_threads},
        "versions": {"homespun": __version__, **{name: version(name) for name in ("torch", "transformers", "peft")}},
    }


def decision_facts(decision: Decision, arm: str, against: Control) -> dict[str, Any]:
    """`arm`: in which the control wrote."""
    instead = [f"{against.passed_over}: it is compared with {against.in_words}"] if against.passed_over else []
    return {
        "promote": decision.promote,
        "reasons": [*decision.reasons, *instead],
        "control": arm,
        "control_adapter": against.name,
        "compared_with": against.in_words,
    }


def render(report: Mapping[str, Any]) -> str:
    """The arms and their differences as a table, then what was decided and why."""
    verdict = "the gate lets the adapter go live" if report["promote"] else "the adapter does not go live"
    reasons = (f"  {reason}" for reason in report["reasons"])
    against = f", compared with {said}" if (said := report.get("compared_with")) else ""
    return "\n".join([render_scores(report), *_by_repository(report), f"{verdict}{against}:", *reasons])


def _by_repository(report: Mapping[str, Any]) -> list[str]:
    """The difference that decides, for each of those that share the adapter."""
    rows = list(report.get("repositories", {}).items())
    if not rows:
        return []
    width = max(len(name) for name, _ in rows)
    table = (f"  {name:<{width}}{_row(summary, '+')}" for name, summary in rows)
    return [f"in each repository, {report['deciding']}:", *table]


def render_scores(report: Mapping[str, Any]) -> str:
    """The arms and their differences as a table."""
    rows = [(name, parts["all"], "") for name, parts in report["arms"].items()]
    rows += [(name, change, "+") for name, change in report["differences"].items()]
    new = report.get("new_lines", {})  # reports of before had none
    rows += [(f"of new lines, {name}", new[name], "+") for name in [*new][:_NEW_SHOWN]]
    width = max((len(name) for name, _, _ in rows), default=0)
    head = (
        f"  {'':<{width}}{'places':>8}  {'exact match':>22}  {'edit similarity':>24}  {'bits per byte':>24}"
        f"{'names':>8}{'ends':>8}{'ms':>6}"
    )
    lines = [f"  {name:<{width}}{_row(summary, sign)}" for name, summary, sign in rows]
    note = (
        "  in brackets: 95 % intervals; differences are paired, place by place. names: F1 of the names in the line;"
        "\n  ends: of the lines right so far, those that end where the developer's did; ms: search and completion,"
        "\n  where this run measured it; new: that stood nowhere in the code before"
    )
    return "\n".join([head, *lines, note])


def render_example(example: Mapping[str, str] | None) -> str:
    """One completion at a real place, before and after; empty without one."""
    if example is None:
        return ""
    lines = [f"one place in {example['path']}, written after what the adapter learned from ({example['rule']}):"]
    for label in ("context", "written", "before", "after"):
        lines += [f"  {label:>8} | {line}" for line in example[label].split("\n")]
    return "\n".join(lines)


def _row(summary: Mapping[str, Any], sign: str) -> str:
    exact, similar, bits = (summary[key] for key in ("exact_match", "edit_similarity", "bits_per_byte"))
    return (
        f"{summary['tasks']:>8}"
        f"  {spelled(exact, f'{sign}.1%'):>22}  {spelled(similar, f'{sign}.3f'):>24}"
        f"  {spelled(bits, f'{sign}.3f'):>24}"
        + "".join(f"{_value(summary[key], sign + form):>{width}}" for key, form, width in _NARROW)
    )


def _value(estimate: Mapping[str, float | None] | None, form: str) -> str:
    value = estimate["value"] if estimate else None
    return "-" if value is None else format(value, form)
