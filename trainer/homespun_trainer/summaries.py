"""What the scores of an arm, or of two against each other, come to: every metric with its interval."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from homespun_core.types import EvalTask
from homespun_trainer.evaluate import Score, Scores
from homespun_trainer.intervals import Estimate, Share, Swaps, change, ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One arm, or the difference of two, over some tasks."""

    num_tasks: int
    num_commits: int
    exact: Estimate
    similarity: Estimate
    identifiers: Estimate
    bits_per_byte: Estimate
    text_bits_per_byte: Estimate
    """Without the end."""
    stop_accuracy: Estimate | None
    """Of the completions that were right as far as they went: those that ended where the developer's line ended. None
    without any such."""
    milliseconds: Estimate | None
    """Of what this process measured; of a difference, where it measured both."""
    num_ended: int = 0
    """Completions that stop accuracy is of; of a difference, in the arm with fewer."""
    swaps: Swaps | None = None
    """Of a difference: lines that only one of the two got right."""

    def as_json(self) -> dict[str, object]:
        facts: dict[str, object] = {
            "tasks": self.num_tasks,
            "commits": self.num_commits,
            "exact_match": self.exact.as_json(),
            "edit_similarity": self.similarity.as_json(),
            "identifier_f1": self.identifiers.as_json(),
            "bits_per_byte": self.bits_per_byte.as_json(),
            "text_bits_per_byte": self.text_bits_per_byte.as_json(),
            "stop_accuracy": self.stop_accuracy.as_json() if self.stop_accuracy else None,
            "milliseconds": self.milliseconds.as_json() if self.milliseconds else None,
            "ended": self.num_ended,
        }
        return facts | ({"mcnemar": self.swaps.as_json()} if self.swaps else {})


def summarise(tasks: Sequence[EvalTask], scores: Sequence[Score | None], which: Iterable[int] | None = None) -> Summary:
    """One arm over the tasks `which` (all without it). Raises ValueError when it was asked at none of them."""
    rows = [(tasks[i], s) for i in (range(len(tasks)) if which is None else which) if (s := scores[i]) is not None]
    commits, made = [task.commit for task, _ in rows], [score for _, score in rows]
    return _summary(commits, lambda parts: ratio(_share(parts, made), commits), _num_ended(made))


def difference(
    tasks: Sequence[EvalTask],
    a: Sequence[Score | None],
    b: Sequence[Score | None],
    which: Iterable[int] | None = None,
) -> Summary:
    """a minus b, paired by task, where both were asked. Raises ValueError when that is nowhere."""
    numbers = range(len(tasks)) if which is None else which
    rows = [
        (tasks[i].commit, *_timed_alike(x, y)) for i in numbers if (x := a[i]) is not None and (y := b[i]) is not None
    ]
    commits, left, right = [c for c, _, _ in rows], [x for _, x, _ in rows], [y for _, _, y in rows]
    swaps = Swaps(
        gained=sum(x.exact and not y.exact for x, y in zip(left, right, strict=True)),
        lost=sum(y.exact and not x.exact for x, y in zip(left, right, strict=True)),
    )
    num_ended = min(_num_ended(left), _num_ended(right))
    return _summary(commits, lambda parts: change(_share(parts, left), _share(parts, right), commits), num_ended, swaps)


def by_language(
    tasks: Sequence[EvalTask], a: Sequence[Score | None], b: Sequence[Score | None], least: int
) -> dict[str, Summary]:
    """Language -> a minus b, for those with at least so many places, the most first."""
    return by_name([task.language for task in tasks], tasks, a, b, least)


def by_name(
    names: Sequence[str],
    tasks: Sequence[EvalTask],
    a: Sequence[Score | None],
    b: Sequence[Score | None],
    least: int,
) -> dict[str, Summary]:
    """Name -> a minus b over the tasks that `names` gives that name, for those with at least so many places, the most
    first."""
    asked = [i for i in range(len(tasks)) if a[i] is not None and b[i] is not None]
    groups: dict[str, list[int]] = {}
    for i in asked:
        groups.setdefault(names[i], []).append(i)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name: difference(tasks, a, b, which) for name, which in ordered if len(which) >= least}


def differences(
    tasks: Sequence[EvalTask],
    scores: Scores,
    pairs: Iterable[tuple[str, str]],
    which: Sequence[int] | None = None,
) -> dict[tuple[str, str], Summary]:
    """(a, b) -> a minus b over the tasks `which` (all without it), for the pairs that share places among them."""
    numbers = range(len(tasks)) if which is None else which
    shared = [
        (a, b)
        for a, b in dict.fromkeys(pairs)
        if a in scores and b in scores and any(scores[a][i] and scores[b][i] for i in numbers)
    ]
    return {(a, b): difference(tasks, scores[a], scores[b], numbers) for a, b in shared}


def _timed_alike(a: Score, b: Score) -> tuple[Score, Score]:
    if a.milliseconds is None or b.milliseconds is None:
        return replace(a, milliseconds=None), replace(b, milliseconds=None)
    return a, b


_Parts = Callable[[Score], tuple[float, float]]
"""What a place adds above and below the line."""


def _share(parts: _Parts, scores: Sequence[Score]) -> Share:
    pairs = [parts(score) for score in scores]
    return Share(tops=[top for top, _ in pairs], bottoms=[bottom for _, bottom in pairs])


def _num_ended(scores: Sequence[Score]) -> int:
    return sum(score.ending is not None for score in scores)


def _summary(
    commits: Sequence[Hashable],
    estimate: Callable[[_Parts], Estimate],
    num_ended: int,
    swaps: Swaps | None = None,
) -> Summary:
    return Summary(
        num_tasks=len(commits),
        num_commits=len(set(commits)),
        exact=estimate(lambda s: (s.exact, 1)),
        similarity=estimate(lambda s: (s.similarity, 1)),
        identifiers=estimate(lambda s: (s.identifiers, 1)),
        bits_per_byte=estimate(lambda s: (s.bits, s.num_bytes)),
        text_bits_per_byte=estimate(lambda s: (s.bits - s.end_bits, s.num_bytes)),
        stop_accuracy=_where_possible(estimate, lambda s: (s.ending == "right", s.ending is not None)),
        milliseconds=_where_possible(estimate, lambda s: (s.milliseconds or 0.0, s.milliseconds is not None)),
        num_ended=num_ended,
        swaps=swaps,
    )


def _where_possible(estimate: Callable[[_Parts], Estimate], parts: _Parts) -> Estimate | None:
    try:
        return estimate(parts)
    except ValueError:
        return None
