"""Corpora of repositories that share an adapter: what was copied from one to another is learned once, and no line that
is learned in one is asked for in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from homespun_core.types import Document, EvalTask
from homespun_indexer import filters
from homespun_indexer.corpus_report import counts
from homespun_indexer.near_duplicates import near_duplicates
from homespun_indexer.tasks import stripped_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One repository's corpus."""

    documents: Sequence[Document]
    tasks: Sequence[EvalTask]
    report: Mapping[str, Any]


def apart(shares: Sequence[Share]) -> list[Share]:
    """Of files that are (nearly) the same, the one in the first of these stays. Tasks go whose line stands in another's
    documents, unless it stands in their own too: then it is seen, as such lines are in one repository alone."""
    documents = _once([share.documents for share in shares])
    lines = [stripped_lines(d.text for d in own) for own in documents]
    found = []
    for n, share in enumerate(shares):
        others = [known for m, known in enumerate(lines) if m != n]
        tasks = [t for t in share.tasks if t.seen or not any(_line(t) in known for known in others)]
        found.append(_with(share, documents[n], tasks))
    return found


def _once(each: Sequence[Sequence[Document]]) -> list[list[Document]]:
    used: set[str] = set()
    left = []
    for n, documents in enumerate(each):
        left += [(n, d) for d in documents if d.blob not in used]
        used |= {d.blob for d in documents}
    kept: list[list[Document]] = [[] for _ in each]
    for (n, document), twin in zip(left, near_duplicates(d.text for _, d in left), strict=True):
        if twin is None or left[twin][0] == n:
            kept[n].append(document)
    return kept


def _with(share: Share, documents: Sequence[Document], tasks: Sequence[EvalTask]) -> Share:
    copies, asked = len(share.documents) - len(documents), len(share.tasks) - len(tasks)
    skipped = share.report["skipped"] | ({filters.COPY: copies} if copies else {})
    report = {
        **share.report,
        **counts(documents),
        "skipped": skipped,
        "tasks": len(tasks),
        "tasks_in_others": asked,
    }
    return replace(share, documents=documents, tasks=tasks, report=report)


def _line(task: EvalTask) -> str:
    return (task.prefix.rpartition("\n")[2] + task.middle).strip()
