"""When to train again: one pure decision per repository, one run at a time over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from homespun_core.config import Settings
from homespun_core.retraining import FreshScore, Run
from homespun_trainer.retrain.times import Times, times_of

_DAY, _HOUR, _MINUTE = 86_400.0, 3_600.0, 60.0
_QUIET_CAP = 5
"""Pushes that never cease delay training by this many quiet times at most."""
_TRIED_AT_MOST = 30 * _DAY
"""Where hardly anybody completes, what users do never ends a rollout."""
_FIRST_PAUSE, _LONGEST_PAUSE = 10 * _MINUTE, _DAY
"""After a run that failed; each pause is twice the one before."""


class Action(Enum):
    TRAIN = "train"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings, in bytes, seconds and per cent."""

    changed: int = 150_000
    changed_share: float = 0.02
    age: float = 7 * _DAY
    gap: float = 12 * _HOUR
    quiet: float = 60.0
    drift_percent: float = 3.0
    trains_on_drift: bool = False
    rolls_out: bool = False
    """Whether a candidate is tried until what users do with it ends that."""
    times: Times = field(default_factory=Times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a decision about one repository is made from. Times are seconds since 1970."""

    head: str
    total: int
    """Bytes of source that count, at the head."""
    trained: str | None = None
    """The commit that the last run was about; None: there was none with this base model."""
    trained_at: float | None = None
    has_adapter: bool = True
    """Whether that run made one, live or not. None is made of too little code."""
    changed: int = 0
    """Bytes of source that were added since then."""
    is_forgotten: bool = False
    """Whether all of it is to be."""
    is_recipe_new: bool = False
    """Whether the settings of training are others than those of the last run."""
    is_control_gone: bool = False
    """Whether the last run's adapter was turned down against one that is live no longer."""
    tried: tuple[str, float] | None = None
    """A candidate, and when the gate let it pass."""
    running: Run | None = None
    """A run by this recipe that was begun and has not ended, and that nobody is working on."""
    pushed: tuple[float, float] | None = None
    """First and last push that no run has seen; None when they came before we looked."""
    failures: int = 0
    failed_at: float | None = None
    has_drifted: bool = False
    is_accepted_less: bool = False
    """Of what is shown, than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    action: Action
    reason: str
    """In words, for people."""
    commit: str
    """What to train: the head, or that of a run to go on with."""
    until: float | None = None
    """When waiting: the time at which the answer will be another one if nothing happens; None is never."""
    until_in_words: str = ""
    """By the clock that schedule and window go by."""


def rules_of(settings: Settings) -> Rules:
    """Raises ConfigError."""
    return Rules(
        changed=settings.retrain_changed_kb * 1_000,
        changed_share=settings.retrain_changed_percent / 100,
        age=settings.retrain_days * _DAY,
        gap=settings.retrain_gap_hours * _HOUR,
        quiet=settings.retrain_quiet_s,
        drift_percent=settings.drift_percent,
        trains_on_drift=settings.retrain_on_drift,
        rolls_out=settings.rollout == "automatic" and bool(settings.canary_percent or settings.shadow_percent),
        times=times_of(settings),
    )


def decide(scope: Scope, rules: Rules, now: float) -> Decision:
    made = _decided(scope, rules, now)
    return made if made.until is None else replace(made, until_in_words=rules.times.in_words(made.until))


def _decided(scope: Scope, rules: Rules, now: float) -> Decision:
    """Hindrances that pass by themselves come last, so that their end is when training starts."""
    scope = _by_this_clock(scope, rules, now)
    due = _due(scope, rules, now)
    if due.action is Action.WAIT:
        return due
    for until, why in _hindrances(scope, rules, now):
        if until > now:
            return _wait(scope, f"{due.reason}; {why}", until)
    return due


def is_possible(at: float, now: float) -> bool:
    """Whether a clock that is right can have said so: they differ by minutes, and one that was ahead by days or years
    must not hold up anything until then."""
    return at <= now + _DAY


def _by_this_clock(scope: Scope, rules: Rules, now: float) -> Scope:
    """What is said to have been at a time that is yet to come was so long ago that nothing waits for it."""
    if scope.trained_at is not None and not is_possible(scope.trained_at, now):
        scope = replace(scope, trained_at=max(0.0, now - max(rules.age, rules.gap)))
    if scope.failed_at is not None and not is_possible(scope.failed_at, now):
        scope = replace(scope, failed_at=now - _LONGEST_PAUSE)
    if scope.pushed is not None and not is_possible(scope.pushed[1], now):
        scope = replace(scope, pushed=None)
    if scope.tried is not None and not is_possible(scope.tried[1], now):
        scope = replace(scope, tried=None)
    return scope


def choose(decisions: Mapping[str, Decision]) -> str | None:
    """The repository to train next, the first that may; one after the other, as they share the machine."""
    return next((name for name, decision in decisions.items() if decision.action is Action.TRAIN), None)


def is_measuring_due(scores: Sequence[FreshScore], adapter: str, head: str, now: float) -> bool:
    """Once a day, if something was pushed since."""
    own = [score for score in scores if score.adapter == adapter and is_possible(score.at, now)]
    return not own or (own[-1].head != head and now - own[-1].at >= _DAY)


def _due(scope: Scope, rules: Rules, now: float) -> Decision:
    """Whether there is a reason to train, whatever the hour."""
    if scope.is_forgotten:
        return _wait(scope, "all of it is to be forgotten: nothing to train")
    if scope.running is not None and now - scope.running.started < max(rules.age, _DAY):
        reason = f"goes on with the run of {rules.times.in_words(scope.running.started)}"
        return Decision(action=Action.TRAIN, commit=scope.running.commit, reason=reason)
    if scope.trained is None or scope.trained_at is None:
        return _train(scope, "there is no adapter yet")
    if scope.is_recipe_new:
        return _train(scope, "the settings of training have changed")
    if scope.is_control_gone:
        return _train(scope, "the adapter that the last one was turned down against is gone: to be judged again")
    if scope.trained == scope.head:
        return _wait(scope, f"nothing has changed since {rules.times.in_words(scope.trained_at)}: nothing to train")
    if scope.changed == 0:
        return _wait(scope, "nothing has changed since that counts as source: nothing to train")
    if not scope.has_adapter:
        return _train(scope, "there is no adapter yet, and more code than last time")
    if rules.trains_on_drift and (alarm := _alarm(scope)) is not None:
        return _train(scope, f"{_amount(scope, scope.trained_at, rules)}, and {alarm}")
    if rules.times.schedule is not None:
        return _by_schedule(scope, scope.trained_at, rules, now)
    return _by_amount(scope, scope.trained_at, rules, now)


def _alarm(scope: Scope) -> str | None:
    if scope.is_accepted_less:
        return "less is accepted of what is shown"
    return "the live adapter finds fresh code less likely" if scope.has_drifted else None


def _amount(scope: Scope, trained_at: float, rules: Rules) -> str:
    return f"{_kb(scope.changed)} of {_kb(scope.total)} have changed since {rules.times.in_words(trained_at)}"


def _by_schedule(scope: Scope, trained_at: float, rules: Rules, now: float) -> Decision:
    """A time that was missed (the machine was off) is made up for; several are one."""
    tick = rules.times.next_tick(trained_at)
    if tick is not None and tick <= now:
        return _train(scope, f"{_kb(scope.changed)} have changed, and the schedule says so")
    return _wait(scope, f"{_kb(scope.changed)} have changed; the schedule has the next time", tick)


def _by_amount(scope: Scope, trained_at: float, rules: Rules, now: float) -> Decision:
    wanted = max(rules.changed, int(rules.changed_share * scope.total))
    amount = _amount(scope, trained_at, rules)
    if scope.changed >= wanted:
        return _train(scope, f"{amount} (at least {_kb(wanted)})")
    if now >= trained_at + rules.age:
        return _train(scope, f"{amount}, {rules.age / _DAY:g} days ago")
    return _wait(scope, f"{amount}, less than {_kb(wanted)}", trained_at + rules.age)


def _hindrances(scope: Scope, rules: Rules, now: float) -> list[tuple[float, str]]:
    """(until when, why not yet). The candidate, the gap and the quiet don't hold up a first adapter, new settings or a
    paused run; the gap doesn't what was asked for at a given time."""
    found: list[tuple[float, str]] = []
    if scope.failed_at is not None and scope.failures:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(scope.failures - 1, 10))
        found.append((scope.failed_at + pause, f"{scope.failures} runs failed, trying again later"))
    is_asked = scope.trained is None or scope.is_recipe_new or scope.running is not None
    if not is_asked and rules.rolls_out and scope.tried is not None:
        candidate, since = scope.tried
        why = f"{candidate} is being tried, and a newer one would start that anew"
        found.append((since + _TRIED_AT_MOST, f"{why} (to end it: homespun adapters approve or reject)"))
    if not is_asked and scope.has_adapter and scope.trained_at is not None:
        ends = [scope.trained_at + rules.gap, rules.times.next_tick(scope.trained_at)]
        end = min(end for end in ends if end is not None)
        found.append((end, f"the last training is less than {rules.gap / _HOUR:g} hours ago"))
    if not is_asked and scope.pushed is not None:
        first, last = scope.pushed
        found.append((min(last + rules.quiet, first + _QUIET_CAP * rules.quiet), "waiting for the pushes to end"))
    found.append((rules.times.opens(now), "outside of the hours for training"))
    return found


def _train(scope: Scope, reason: str) -> Decision:
    return Decision(action=Action.TRAIN, reason=reason, commit=scope.head)


def _wait(scope: Scope, reason: str, until: float | None = None) -> Decision:
    return Decision(action=Action.WAIT, reason=reason, commit=scope.head, until=until)


def _kb(size: int) -> str:
    return f"{size / 1_000:,.0f} kB" if size >= 10_000 else f"{size:,} bytes"
