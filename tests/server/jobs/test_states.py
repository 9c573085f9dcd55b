"""What may become of a job, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.jobs import states
from homespun_server.jobs.states import Ending, Job, LeaseLost, Refused, State

QUEUED = Job(id=7, kind="train", repository="shop", source="shop")
RUNNING = states.leased(QUEUED, worker="w", fence=3, now=10, lease_s=60)


def ended(ending: Ending, job: Job = RUNNING) -> Job:
    return states.reported(job, fence=3, ending=ending, reason="", now=20, pause_s=5)


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        ("done", "done"),
        ("failed", "queued"),
        ("impossible", "failed"),
        ("given-back", "queued"),
        ("cancelled", "cancelled"),
    ],
)
def test_a_worker_says_what_became_of_it(ending: Ending, state: State) -> None:
    assert ended(ending).state == state


def test_what_failed_waits_and_what_failed_three_times_is_poisoned() -> None:
    job = QUEUED
    for n, expected in enumerate(("queued", "queued", "poisoned"), 1):
        job = states.leased(job, worker="w", fence=n, now=n * 100, lease_s=60)
        job = states.reported(job, fence=n, ending="failed", reason="disk", now=n * 100 + 1, pause_s=5)
        assert (job.state, job.reason, job.attempts) == (expected, "disk", n)
        if job.state == "queued":
            assert job.not_before == n * 100 + 6
            with pytest.raises(Refused):
                states.leased(job, worker="w", fence=9, now=n * 100 + 2, lease_s=60)


def test_a_job_that_kills_its_workers_is_poisoned_too() -> None:
    job = QUEUED
    for n in (1, 2, 3):
        job = states.lost(states.leased(job, worker="w", fence=n, now=n * 100, lease_s=60), now=n * 100 + 61, pause_s=5)
    assert job.state == "poisoned" and "not heard from" in job.reason


def test_giving_a_job_back_is_no_failure() -> None:
    job = QUEUED
    for n in range(1, 20):
        job = states.leased(job, worker="w", fence=n, now=n * 100, lease_s=60)
        job = states.reported(job, fence=n, ending="given-back", reason="", now=n * 100, pause_s=0)
    assert (job.state, job.attempts) == ("queued", 0)


def test_the_report_of_a_lease_that_has_ended_is_refused() -> None:
    again = states.leased(states.lost(RUNNING, now=100, pause_s=0), worker="other", fence=4, now=100, lease_s=60)
    for job in (again, ended("done"), QUEUED):
        with pytest.raises(LeaseLost):
            ended("done", job)
        with pytest.raises(LeaseLost):
            states.beaten(job, fence=3, now=20, lease_s=60)
    assert states.beaten(again, fence=4, now=500, lease_s=60).lease_until == 560


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_when_its_worker_hears_of_it() -> None:
    assert states.cancelled(QUEUED, by="ann", now=1).state == "cancelled"
    unwanted = states.cancelled(RUNNING, by="ann", now=15)
    assert (unwanted.state, unwanted.is_unwanted) == ("running", True)
    for ending in ("failed", "given-back", "cancelled", "impossible"):
        assert ended(ending, unwanted).state == "cancelled"
    assert ended("done", unwanted).state == "done"  # it was faster
    assert states.lost(unwanted, now=100, pause_s=0).state == "cancelled"
    with pytest.raises(Refused, match="done already"):
        states.cancelled(ended("done"), by="ann", now=30)


def test_only_what_has_ended_badly_can_be_tried_again() -> None:
    bad: tuple[State, ...] = ("failed", "poisoned", "cancelled")
    for state in bad:
        again = states.retried(replace(RUNNING, state=state, attempts=3, lease_until=None), now=50)
        assert (again.state, again.attempts, again.not_before) == ("queued", 0, 50)
    others: tuple[State, ...] = ("queued", "running", "done")
    for state in others:
        with pytest.raises(Refused):
            states.retried(replace(RUNNING, state=state), now=50)


@given(attempts=st.integers(0, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_end_somewhere(attempts: int, chance: float) -> None:
    assert 5 <= states.pause_s(attempts, chance) <= 5_400
    assert states.pause_s(attempts, chance) <= states.pause_s(attempts + 1, chance)
