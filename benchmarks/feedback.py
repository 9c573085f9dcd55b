"""What a show/hide filter is worth to people whose tastes are known: real store, training and filter, made-up people.

    python -m benchmarks.feedback --seeds 10

Each seed is a company: a filter is trained on two weeks without one, and the next two are lived twice, with it and
without, in the same places and with the same luck. `wary` people look away after bad suggestions, so that hiding those
helps the good ones; the others judge each by itself, so that hiding can only lose. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from homespun_server.database.opening import open_database
from homespun_server.feedback.filter.examples import examples
from homespun_server.feedback.filter.live import LiveFilter
from homespun_server.feedback.filter.publishing import publish
from homespun_server.feedback.filter.training import MOST_SHOWN, Report, train
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.summary import Summary, summary

sys.path.append(str(Path(__file__).parents[1]))  # of the repository, for its tests
from tests.simulated_users import NO_TASTE, TASTE, Judge, lived, places, unfiltered

_TASTES: Mapping[str, tuple[Mapping[str, float], bool]] = {
    "tastes": (TASTE, False),
    "tastes, wary": (TASTE, True),
    "no tastes": (NO_TASTE, False),
}
_NUM_USERS = 25
_NUM_EACH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    is_published: bool
    calibration_error: float
    foretold_hidden: float
    foretold_lost: float
    hidden: float
    shown: float
    """After by before; as the next."""
    kept: float
    acceptance: tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="companies of each kind (default: 10)")
    args = parser.parse_args()
    found: defaultdict[str, list[Trial]] = defaultdict(list)
    for name, (taste, wary) in _TASTES.items():
        for seed in range(args.seeds):
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(_trial(Path(folder), taste, wary, seed))
        print(_line(name, found[name]), flush=True)
    print(json.dumps({name: [asdict(trial) for trial in trials] for name, trials in found.items()}))


def _trial(folder: Path, taste: Mapping[str, float], wary: bool, seed: int) -> Trial:
    report = _trained(folder, taste, wary, 2 * seed)
    live = LiveFilter(folder / "filters", may_hide=True)
    before = _lived(folder / "before.db", taste, wary, 2 * seed + 1, unfiltered)
    after = _lived(folder / "after.db", taste, wary, 2 * seed + 1, live.judged)
    return Trial(
        is_published=report.is_approved,
        calibration_error=report.checks[0].value,
        foretold_hidden=report.judged.hidden,
        foretold_lost=report.judged.lost,
        hidden=after.hidden / after.opportunities,
        shown=after.shown / before.shown,
        kept=after.kept_per_opportunity / before.kept_per_opportunity,
        acceptance=(before.acceptance, after.acceptance),
    )


def _trained(folder: Path, taste: Mapping[str, float], wary: bool, seed: int) -> Report:
    store = FeedbackStore(open_database("", folder / "learned.db"))
    store.write(list(lived(places(_NUM_USERS, _NUM_EACH, seed=seed, start=0.0), taste, unfiltered, wary=wary)))
    filter, report = train(examples(store.remembered(0, MOST_SHOWN)), f"v{seed}")
    store.close()
    publish(folder / "filters", filter, report)
    return report


def _lived(database: Path, taste: Mapping[str, float], wary: bool, seed: int, judge: Judge) -> Summary:
    store = FeedbackStore(open_database("", database))
    store.write(list(lived(places(_NUM_USERS, _NUM_EACH, seed=seed, start=0.0), taste, judge, wary=wary)))
    found = summary(store.outcomes(None, 0))
    store.close()
    return found


def _line(name: str, trials: Sequence[Trial]) -> str:
    used = [trial for trial in trials if trial.is_published]
    start = f"{name}: published {len(used)} of {len(trials)}"
    if not used:
        return start
    error, lost = fmean(t.calibration_error for t in used), fmean(t.foretold_lost for t in used)
    acceptance = " to ".join(f"{fmean(t.acceptance[n] for t in used):.1%}" for n in range(2))
    return (
        f"{start}; calibration error {error:.3f}, foretold: {lost:.1%} lost; then {fmean(t.hidden for t in used):.1%}"
        f" hidden, {_change([t.shown for t in used])} shown, {_change([t.kept for t in used])} characters kept per"
        f" opportunity, accepted {acceptance}"
    )


def _change(ratios: Sequence[float]) -> str:
    """With the standard error of the mean."""
    spread = stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
    return f"{fmean(ratios) - 1:+.1%} ± {spread:.1%}"


if __name__ == "__main__":
    main()
