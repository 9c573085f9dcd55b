"""What the usage page of the console asks the database: `python -m benchmarks.usage --completions 300000`.

Time is of this process's CPU, SQLite's included, so other work on the machine hardly matters.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from homespun_server.console import usage
from homespun_server.database.opening import open_database
from homespun_server.feedback.facts import CompletionFact, Event, Fact
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.sums import DAY_S

_DAYS = 90
_BATCH = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--completions", type=int, default=300_000, help="in 90 days (default: 300,000)")
    number = parser.parse_args().completions
    with tempfile.TemporaryDirectory() as folder:
        database = open_database("", Path(folder) / "usage.db")
        _fill(FeedbackStore(database), number)
        for days in (1, 7, 30, _DAYS):
            wanted = usage.Wanted(since=time.time() - days * DAY_S)
            found = usage.cells(database, wanted)
            parts = {
                "cells": _cpu_ms(lambda wanted=wanted: usage.cells(database, wanted)),
                "latencies": _cpu_ms(lambda wanted=wanted: usage.latencies(database, wanted)),
                "sums": _cpu_ms(lambda found=found: usage.grouped(found, lambda cell: cell.day)),
            }
            said = ", ".join(f"{name} {ms:,.0f} ms" for name, ms in parts.items())
            print(f"{days} days: {usage.total(found).opportunities:,} completions, {len(found):,} cells; {said}")
        database.dispose()


def _fill(store: FeedbackStore, number: int) -> None:
    chance, now = random.Random(7), time.time()
    batch: list[Fact] = []
    for n in range(number):
        id, at = f"c{n}", now - 120 - chance.random() * _DAYS * DAY_S
        batch.append(
            CompletionFact(
                id=id,
                time=at,
                user=f"u{n % 200}",
                repository=f"r{n % 20}",
                language=chance.choice(("python", "go", "typescript")),
                adapter=chance.choice(("v1", "v2", None)),
                characters=30,
                first_line=30,
                latency_ms=chance.lognormvariate(2.8, 0.7),
                editor=chance.choice(("Neovim", "VS Code")),
            )
        )
        if n % 10 < 7:
            batch.append(Event(completion=id, kind="shown", time=at, characters=0))
        if n % 10 < 2:
            batch.append(Event(completion=id, kind="accepted", time=at, characters=30))
            batch.append(Event(completion=id, kind="kept", time=at, characters=20))
        if n % _BATCH == 0:
            store.write(batch)
            batch.clear()
    store.write(batch)


def _cpu_ms(work: Callable[[], object]) -> float:
    """The best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, (time.process_time() - start) * 1e3)
    return best


if __name__ == "__main__":
    main()
