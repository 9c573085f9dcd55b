"""One look at all repositories, or one after the other for ever: train what is due, in a process that can be stopped.

One run at a time where they share the machine with completions; workers may have several. Training sees a fixed commit,
so what is pushed meanwhile is in one run that follows, however many pushes there were.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from homespun_core.children import Children, StopRequest
from homespun_core.cli import BUSY, INTERRUPTED
from homespun_core.errors import HomespunError, ServiceError, explain_os_error
from homespun_core.paths import hide_credentials
from homespun_core.personal import owner_of, repository_of
from homespun_core.retraining import FreshScore, Reception
from homespun_trainer.heads import is_joined
from homespun_trainer.retrain.policy import Action, Decision, Rules, choose
from homespun_trainer.retrain.subject import Subject

logger = logging.getLogger(__name__)

_OPEN = ("queued", "running")
_LOOK_S = 5.0
"""A look costs a few git commands, about 20 ms, where nothing was pushed."""
_LATER_S = 60.0
"""After what couldn't even be begun; each time it is said."""

Train = Callable[[str, str, Callable[[], bool]], int | None]
"""(source, commit, is enough?) -> exit status; None when it was stopped because it was enough."""


def train_in_child(children: Children, sources: Mapping[str, str]) -> Train:
    """`homespun train`, on our terminal. Raises KeyboardInterrupt when we are asked to stop; it saves a checkpoint.

    `sources`: by id, for people's own adapters, which are asked for by theirs."""

    def train(source: str, commit: str, is_enough: Callable[[], bool]) -> int | None:
        owner = owner_of(source)
        flags = ["--commit", commit, *(["--for", owner] if owner else [])]
        return children.run_until(is_enough, "train", [sources[repository_of(source)] if owner else source], flags)

    return train


class TrainingQueue(Protocol):
    """The server's: workers do what is asked of it. Each of these may raise ServiceError when it can't be reached."""

    def ask(self, kind: str, repository: str, commit: str | None) -> dict[str, Any]: ...

    def job(self, id: int) -> dict[str, Any]: ...

    def cancel(self, id: int) -> None: ...


def train_by_worker(queue: TrainingQueue, request: StopRequest) -> Train:
    """Asks for a job and waits for its end. Raises KeyboardInterrupt when we are asked to stop: the job goes on, and
    its adapter is found the next time."""

    def train(source: str, commit: str, is_enough: Callable[[], bool]) -> int | None:
        id: int | None = None
        while True:
            try:
                if id is None:
                    wanted = None if is_joined(commit) else commit  # of several repositories, the newest there is
                    id = int(queue.ask("train", source, wanted)["id"])
                job = queue.job(id)
                if job["state"] not in _OPEN:
                    return _status(job["state"], is_enough())
                if is_enough() and not job["is_unwanted"]:
                    queue.cancel(id)
            except ServiceError as error:  # the server restarts; its queue outlives that
                logger.info("training waits: %s", error)
            request.wait(timeout_s=_LOOK_S)
            if request.is_made:
                raise KeyboardInterrupt

    return train


def _status(state: str, is_enough: bool) -> int | None:
    """As of a child process. What a person cancelled is like what they interrupted: it goes on after a while."""
    if state == "cancelled":
        return None if is_enough else INTERRUPTED
    return int(state != "done")


def look(subjects: Sequence[Subject], now: float) -> dict[str, Decision | None]:
    """Decisions by source; None where somebody trains already. What can't be read is said in one line and left out."""
    found: dict[str, Decision | None] = {}
    for subject in subjects:
        with _apart(subject):
            found[subject.source] = subject.decision(now)
    return found


def once(subjects: Sequence[Subject], rules: Rules, train: Train, *, measures: bool, is_dry: bool) -> int:
    """Train what is due, each repository once. Returns 1 when something failed."""
    decisions = look(subjects, time.time())
    failed = len(decisions) < len(subjects)
    for subject in subjects:
        if subject.source not in decisions:
            continue
        decision = decisions[subject.source]
        say(f"{subject.name}: {in_words(decision)}")
        if is_dry:
            continue
        if decision is not None and decision.action is Action.TRAIN:
            status: int | None = 1
            with _apart(subject):
                status = run(subject, decision, rules, train)
            failed |= status not in (0, None, BUSY)
            continue
        receive(subject)
        if measures:
            measure(subject)
    return int(failed)


class _Runs:
    """Those under way. With room for one, whoever begins it waits for its end."""

    def __init__(self, most: int) -> None:
        self._most, self._pool = most, ThreadPoolExecutor(most, thread_name_prefix="runs")
        self._under_way: dict[str, Future[int | None]] = {}

    def __enter__(self) -> _Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def begin(self, source: str, run: Callable[[], int | None]) -> None:
        if self._most == 1:
            run()
        else:
            self._under_way[source] = self._pool.submit(run)

    def sources(self) -> frozenset[str]:
        """Raises what a run that has ended has raised."""
        for source in [source for source, run in self._under_way.items() if run.done()]:
            self._under_way.pop(source).result()
        return frozenset(self._under_way)

    @property
    def has_room(self) -> bool:
        return len(self._under_way) < self._most


def watch(
    subjects: Iterable[Subject],
    rules: Rules,
    train: Train,
    request: StopRequest,
    *,
    most: int = 1,
    measures: bool = True,
) -> None:
    """Until we are asked to stop; who is among `subjects` is asked anew each time. What fails is tried again later; it
    says something when a decision changes. At most so many runs at a time, each of another subject."""
    with _Runs(most) as runs:
        _watch(subjects, rules, train, request, runs, measures=measures)


def _watch(
    subjects: Iterable[Subject], rules: Rules, train: Train, request: StopRequest, runs: _Runs, *, measures: bool
) -> None:
    said: dict[str, str] = {}
    while not request.is_made:
        under_way = runs.sources()
        by_source = {subject.source: subject for subject in subjects if subject.source not in under_way}
        decisions = look(list(by_source.values()), time.time())
        for source, decision in decisions.items():
            words = in_words(decision)
            if said.get(source) != words:
                say(f"{by_source[source].name}: {words}")
            said[source] = words
        chosen = choose({source: d for source, d in decisions.items() if d is not None}) if runs.has_room else None
        if chosen is not None:
            decision = decisions[chosen]
            assert decision is not None
            runs.begin(chosen, partial(_tried, by_source[chosen], decision, rules, train, request))
        else:
            for source in decisions:
                receive(by_source[source])
                if measures:
                    measure(by_source[source])
            request.wait(timeout_s=_LOOK_S)


def _tried(subject: Subject, decision: Decision, rules: Rules, train: Train, request: StopRequest) -> int | None:
    """A run. One that can't be noted, as on a full disk, or has another process in its way is tried again, and not at
    once."""
    with _apart(subject):
        status = run(subject, decision, rules, train)
        if status != BUSY:
            return status
    request.wait(timeout_s=_LATER_S)
    return None


def run(subject: Subject, decision: Decision, rules: Rules, train: Train) -> int | None:
    """One run, paused when the window of hours closes. Where another process was faster it is that one's."""

    def is_enough() -> bool:
        now = time.time()
        return rules.times.opens(now) > now

    subject.begin(decision, time.time())
    status = train(subject.source, decision.commit, is_enough)
    if status == BUSY:
        say(f"{subject.name}: another process is at it; looking again later")
        return status
    subject.end(status, time.time())
    if status is None:
        say(f"{subject.name}: paused; it goes on when the hours for training begin again")
    elif status != 0:
        _complain(f"{subject.name}: training ended with status {status}; trying again later")
    return status


def measure(subject: Subject) -> None:
    with _apart(subject):
        score = subject.measure(time.time())
        if score is not None:
            say(f"{subject.name}: {score_in_words(score)}")


def receive(subject: Subject) -> None:
    with _apart(subject):
        reception = subject.receive(time.time())
        if reception is not None:
            say(f"{subject.name}: {reception_in_words(reception)}")


@contextmanager
def _apart(subject: Subject) -> Iterator[None]:
    """What goes wrong with one repository is said in one line, and mustn't end the others."""
    try:
        yield
    except HomespunError as error:
        _complain(str(error))
    except OSError as error:
        _complain(f"{subject.name}: {explain_os_error(error) or error}")
    except Exception as error:  # a job loop
        _complain(f"{subject.name}: {hide_credentials(repr(error))}; please report this")
        logger.debug("%s", subject.name, exc_info=True)


def in_words(decision: Decision | None) -> str:
    if decision is None:
        return "is being trained on"
    if decision.action is Action.TRAIN:
        return f"due: {decision.reason}"
    until = "" if decision.until is None else f", until {decision.until_in_words}"
    return f"not now: {decision.reason}{until}"


def score_in_words(score: FreshScore) -> str:
    drift = score.drift_percent
    beside = "" if drift is None else f", {drift:+.1f} % beside when it was judged"
    alarm = " (alarm)" if score.is_alarm else ""
    places = f"fresh code costs {score.bits_per_byte:.3f} bits per byte at {score.places} places{beside}"
    return f"{places}{_accepted(score)}{alarm}"


def _accepted(score: FreshScore) -> str:
    if score.accepted is None or score.accepted_before is None:
        return ""
    return f"; of what is shown {score.accepted:.0%} is accepted, {score.accepted_before:.0%} before"


def reception_in_words(found: Reception) -> str:
    share = f"of what is shown {found.lately:.0%} is accepted, {found.before:.0%} before"
    return f"{share} (alarm)" if found.is_fall else f"{share}: the alarm is over"


def say(line: str) -> None:
    print(f"homespun: {line}", flush=True)


def _complain(line: str) -> None:
    print(f"homespun: {line}", file=sys.stderr, flush=True)
