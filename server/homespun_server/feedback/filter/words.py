"""A filter and its report for people. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from homespun_server.feedback.filter.training import MAX_LOST, Before, Check, Report
from homespun_server.feedback.filter.verdicts import EXPLORED, Filter

_WORDS: Mapping[str, str] = {
    "mean_logprob": "surer of its tokens on average",
    "min_logprob": "surer of its least sure token",
    "log_characters": "longer",
    "num_lines": "more lines",
    "log_line_before": "more on the line before the cursor",
    "is_space_after": "nothing behind the cursor",
    "num_snippets": "more snippets in the prompt",
    "log_score": "snippets that fit better",
    "is_adapted": "written by an adapter",
    "after_indent": "on an empty line",
    "after_word": "behind a letter or digit",
    "after_space": "behind a space",
    "after_dot": "behind a dot",
    "after_opener": "behind an opening bracket",
    "after_sign": "behind another sign",
}
_SWITCHES = ("is_", "after_")
_LEAST = 0.01
"""Of log odds: less is not worth a line."""


def explained(filter: Filter) -> str:
    """What makes a completion likelier to be kept, strongest first: the odds are multiplied by that much."""
    effects = {name: w * _step(name, filter.spreads.get(name, 1.0)) for name, w in filter.weights.items()}
    strongest = sorted((n for n in effects if abs(effects[n]) >= _LEAST), key=lambda n: -abs(effects[n]))
    lines = [f"  ×{math.exp(effects[n]):<7.2f}{_WORDS.get(n, n)}{_unit(n)}" for n in strongest]
    return "\n".join(
        [
            f"filter {filter.version}: the odds that something of a completion is kept are multiplied by",
            *(lines or ["  nothing: it gives all completions the same odds"]),
            *(["and what that foretells is mended by a curve, since a slope alone didn't fit"] if filter.knots else []),
            "hidden is what is less likely to be kept than",
            f"  {_limit(filter.threshold)} in any {'other ' if filter.thresholds else ''}language",
            *(f"  {_limit(value)} in {language}" for language, value in sorted(filter.thresholds.items())),
            f"{EXPLORED:.0%} of it is shown all the same, so that the next training sees it;"
            " what was asked for by a key is never hidden",
        ]
    )


def _step(name: str, spread: float) -> float:
    return 1.0 if name.startswith(_SWITCHES) else spread


def _unit(name: str) -> str:
    return "" if name.startswith(_SWITCHES) else " (by one standard deviation)"


def _limit(threshold: float) -> str:
    return f"{threshold:.1%}" if threshold else "0 (nothing is hidden)"


def reported(report: Report) -> str:
    lines = [f"learned from {report.num_shown:,} shown completions, of {report.num_kept:,} something was kept"]
    lines += ["on the newest quarter of them:", *(f"  {_checked(check)}" for check in report.checks)]
    lines += [
        f"  {name}: {found.hidden:.1%} hidden, {found.lost:.1%} of the kept characters lost ({found.num_shown:,} shown)"
        for name, found in {"all": report.judged, **report.languages}.items()
    ]
    return "\n".join([*lines, decided(report.checks), *([judged_again(report.before)] if report.before else [])])


def decided(checks: Sequence[Check]) -> str:
    failed = [check for check in checks if not check.is_met]
    if not failed:
        return "published: a server with show_filter = auto uses it"
    return f"not published: {'; '.join(map(_checked, failed))}"


def judged_again(before: Before) -> str:
    fate = "is withdrawn, so nothing is hidden" if before.is_withdrawn else "stays"
    return (
        f"the filter before, {before.version}, {fate}: of the newest quarter's kept characters it loses"
        f" {before.judged.lost:.1%} (at most {MAX_LOST:.0%})"
    )


def _checked(check: Check) -> str:
    is_count = check.limit >= 1
    form, whole = (".1f", ".0f") if is_count else (".1%", ".0%")
    value, limit = format(check.value, form), format(check.limit, whole)
    bound = "at most" if check.name in ("calibration error", "kept characters lost") else "at least"
    return f"{check.name} {value} ({bound} {limit}{'' if check.is_met else ', not met'})"
