"""`homespun feedback`: what became of completions, and how to have it forgotten."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from homespun_core import storage
from homespun_core.config import SERVE, Settings
from homespun_core.errors import ConfigError, StorageError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_server.console import usage
from homespun_server.console.usage import Cell
from homespun_server.database.opening import failures_in_one_line, open_database
from homespun_server.feedback.filter import words
from homespun_server.feedback.filter.examples import examples
from homespun_server.feedback.filter.publishing import live, load, load_report, new_version, publish, withdrawn
from homespun_server.feedback.filter.training import MOST_SHOWN, train
from homespun_server.feedback.store import FeedbackStore, days_ago
from homespun_server.feedback.summary import Summary
from homespun_server.feedback.sums import whole_days_ago

_DAYS = 7.0
_MOST_DAYS = 36_500.0
_GROUPS: Mapping[str, Callable[[Cell], str | None]] = {
    "language": lambda cell: cell.language,
    "adapter": lambda cell: cell.adapter or "base model",
    "repository": lambda cell: cell.repository,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "train", "explain"),
        default="show",
        help="show what became of completions (default), train a show/hide filter on it and publish it if it passes, or"
        " explain the filter that is published",
    )
    parser.add_argument(
        "--days",
        type=_days,
        metavar="X",
        help="how far to look back (default: 7; to train, all there is; that takes the newest"
        f" {MOST_SHOWN:,} completions that were shown, at most)",
    )
    parser.add_argument("--forget", metavar="USER", help="delete all that is known of a user's completions instead")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_flags(parser, (SERVE,))


def run(args: argparse.Namespace) -> int:
    settings = settings_from_args(args).settings
    data = DataDir(settings.data_root)
    if args.forget is not None and args.action != "show":
        raise ConfigError(f"--forget: doesn't go with {args.action}; run `homespun feedback --forget USER` by itself")
    if args.forget is not None and not args.forget.strip():
        raise ConfigError(f"--forget {args.forget!r}: names nobody")
    if args.action == "explain":
        return _explain(data, is_json=args.json)
    with failures_in_one_line():
        return _done(args, settings, data)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days above 0")
    return days


def _done(args: argparse.Namespace, settings: Settings, data: DataDir) -> int:
    engine = open_database(settings.database_url, data.database)
    store = FeedbackStore(engine)
    try:
        if args.action == "train":
            since = 0.0 if args.days is None else days_ago(args.days)
            return _train(store, data, since, is_json=args.json)
        if args.forget is not None:
            print(f"{store.forget_user(args.forget):,} completions of {args.forget} are forgotten")
            return 0
        days = _DAYS if args.days is None else args.days
        cells = usage.cells(engine, usage.Wanted(since=whole_days_ago(days)))
    finally:
        store.close()
    table = grouped(cells)
    print(json.dumps(as_json(table), indent=1) if args.json else render(table, days))
    return 0


def _train(store: FeedbackStore, data: DataDir, since: float, *, is_json: bool) -> int:
    with storage.locked(data.locks / "filter", "`homespun feedback train`"):
        version = new_version(data.filters)
        filter, report = train(examples(store.remembered(since, MOST_SHOWN)), version, live(data.filters))
        publish(data.filters, filter, report)
    print(json.dumps(asdict(report), indent=1) if is_json else words.reported(report))
    return 0


def _explain(data: DataDir, *, is_json: bool) -> int:
    path = storage.current(data.filters)
    if path is None:
        before = withdrawn(data.filters)
        why = f" ({words.judged_again(before)})" if before else ""
        raise StorageError(f"{data.filters}: no show/hide filter is published{why}; run `homespun feedback train`")
    filter, report = load(path), load_report(path)
    if is_json:
        print(json.dumps({"filter": asdict(filter), "report": asdict(report)}, indent=1))
    else:
        print(f"{words.explained(filter)}\n{words.reported(report)}")
    return 0


def grouped(cells: Sequence[Cell]) -> Mapping[tuple[str, str], Summary]:
    """By (kind of group, its name), all of them together first."""
    found = usage.added_up(
        ((kind, name(cell) or "unknown"), cell.summary) for kind, name in _GROUPS.items() for cell in cells
    )
    return {("all", ""): usage.total(cells)} | dict(sorted(found.items()))


def as_json(table: Mapping[tuple[str, str], Summary]) -> Sequence[Mapping[str, Any]]:
    return [
        {"group": kind, "name": name, "kept_per_opportunity": found.kept_per_opportunity, **asdict(found)}
        for (kind, name), found in table.items()
    ]


def render(table: Mapping[tuple[str, str], Summary], days: float) -> str:
    if not table["all", ""].opportunities:
        return (
            f"no completions in the last {days:g} days; they are counted a minute after they were made, while"
            " `homespun serve` runs with feedback_days above 0"
        )
    title = f"last {days:g} days"
    lines = [f"{title:<44}{'places':>9}{'hidden':>9}{'shown':>9}{'accepted':>15}{'kept chars/place':>18}"]
    lines += [_line(f"{kind} {name}".strip(), found) for (kind, name), found in table.items()]
    return "\n".join([*lines, *_watched(table["all", ""])])


def _watched(found: Summary) -> Sequence[str]:
    """What a filter that isn't used would do."""
    if not found.would_hide:
        return []
    share = found.would_hide / found.opportunities
    return [f'the published filter would have hidden {share:.0%} more; show_filter = "auto" lets it']


def _line(label: str, found: Summary) -> str:
    accepted = f"{found.accepted:,} ({found.acceptance:.0%})"
    hidden = f"{found.hidden / found.opportunities:.0%}"
    counts = f"{found.opportunities:>9,}{hidden:>9}{found.shown:>9,}{accepted:>15}"
    return f"{label[:43]:<44}{counts}{found.kept_per_opportunity:>18.2f}"
