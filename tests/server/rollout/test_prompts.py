"""Prompts that are tried: who gets which, and what `homespun prompts` says of simulated users."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.cli import main
from homespun_core.loading import load_settings
from homespun_core.prompt_versions import PLAIN, PromptVersion
from homespun_server.database.opening import open_database
from homespun_server.feedback.facts import CompletionFact, Event, Fact
from homespun_server.feedback.store import FeedbackStore
from homespun_server.rollout.arms import is_in_share
from homespun_server.rollout.prompts import Trial

FIVE = PromptVersion(name="five", changes={"snippet_count": 5})
BARE = PromptVersion(name="bare", changes={"retrieval": False})
USERS = [f"user {i}" for i in range(2_000)]
TABLE = '[[prompt]]\nname = "five"\nsnippet_count = 5\n'
PLAIN_RATE = 0.3


def test_half_of_the_users_get_a_version_and_always_the_same_half() -> None:
    trial = Trial([FIVE])
    drawn = [trial.drawn(user) for user in USERS]
    assert 900 < drawn.count("five") < 1_100 and drawn.count(PLAIN) == len(USERS) - drawn.count("five")
    assert drawn == [Trial([FIVE]).drawn(user) for user in USERS]


def test_of_two_versions_the_first_draws_first_and_some_have_neither() -> None:
    drawn = [Trial([FIVE, BARE]).drawn(user) for user in USERS]
    assert [user for user, name in zip(USERS, drawn, strict=True) if name == "five"] == [
        user for user in USERS if Trial([FIVE]).drawn(user) == "five"
    ]
    assert 400 < drawn.count("bare") < 600 and 400 < drawn.count(PLAIN) < 600


def test_who_tries_an_adapter_has_no_part_in_who_tries_a_prompt() -> None:
    """So that both may be tried at once: each arm of the one has as many of the other's."""
    trial, adapter = Trial([FIVE]), {user for user in USERS if is_in_share(user, "shop-1/v2", 50)}
    assert 0.45 < sum(trial.drawn(user) == "five" for user in adapter) / len(adapter) < 0.55


@given(user=st.none() | st.text())
def test_without_versions_nobody_takes_part_and_without_a_name_neither(user: str | None) -> None:
    assert Trial().drawn(user) is None and Trial([FIVE]).drawn(None) is None


@pytest.mark.parametrize(
    "edited",
    [
        [replace(FIVE, percent=20.0)],
        [replace(FIVE, changes={"snippet_count": 6})],
        [replace(FIVE, name="six")],
        [FIVE, BARE],
    ],
)
def test_an_edit_of_the_tables_begins_the_evidence_anew(edited: list[PromptVersion]) -> None:
    assert Trial(edited).mark(PLAIN) != Trial([FIVE]).mark(PLAIN)


class Office:
    """A data directory in which users have been asking, `rate` being how often those with `five` accept."""

    def __init__(self, root: Path) -> None:
        self.root, self._dice, self._number = root, random.Random(7), 0
        (root / "homespun.toml").write_text(f'data_dir = "{root / "data"}"\n{TABLE}')
        self.trial = Trial(load_settings({}, {}, root / "homespun.toml").prompts)
        self.store = FeedbackStore(open_database("", root / "data" / "homespun.db"))

    def works(self, rate: float, *, num_users: int = 80, slow: float = 1.0) -> None:
        facts: list[Fact] = []
        for user in USERS[:num_users]:
            arm = self.trial.drawn(user)
            mean = rate if arm == "five" else PLAIN_RATE
            own = self._dice.betavariate(4 * mean, 4 * (1 - mean))
            latency_ms = 50.0 * (slow if arm == "five" else 1.0)
            for _ in range(10):
                facts += self._completion(user, self.trial.mark(arm or ""), own, latency_ms)
        self.store.write(facts)

    def _completion(self, user: str, mark: str | None, rate: float, latency_ms: float) -> Iterator[Fact]:
        self._number += 1
        id, at = f"c{self._number}", time.time() - 600
        yield CompletionFact(
            id=id,
            time=at,
            user=user,
            repository="shop-1",
            language="python",
            adapter=None,
            characters=60,
            first_line=60,
            latency_ms=latency_ms * self._dice.lognormvariate(0, 0.2),
            prompt_version=mark,
        )
        yield Event(completion=id, kind="shown", time=at)
        if self._dice.random() < rate:
            yield Event(completion=id, kind="accepted", time=at, characters=self._dice.randrange(5, 60))

    def without_a_mark(self) -> None:
        """Of before there were versions: never accepted, which would make the plain prompt look bad."""
        self.store.write([f for user in USERS[:80] for f in self._completion(user, None, 0.0, 50.0)])


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def said(office: Office, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def say(*words: str) -> str:
        assert main(["prompts", "--config", str(office.root / "homespun.toml"), *words]) == 0
        return capsys.readouterr().out

    return say


@pytest.mark.parametrize(
    ("rate", "slow", "verdict", "lines"),
    [
        (0.7, 1.0, "better", "better; to make it everybody's, set snippet_count = 5 in the settings"),
        (0.05, 1.0, "worse", "worse; take its [[prompt]] out"),
        (PLAIN_RATE, 1.0, "open", "nothing is proven yet"),
        (0.7, 2.0, "worse", "users are worse off: completions later than"),
    ],
)
def test_the_verdict_on_a_version_is_what_its_users_kept_and_how_long_they_waited(
    office: Office, said: Callable[..., str], rate: float, slow: float, verdict: str, lines: str
) -> None:
    office.works(rate, slow=slow)
    office.without_a_mark()
    found = json.loads(said("--json"))
    assert found["versions"]["five"]["verdict"] == verdict and lines in said()
    drawn = [office.trial.drawn(user) for user in USERS[:80]]
    assert {name: arm["users"] for name, arm in found["arms"].items()} == {
        name: drawn.count(name) for name in (PLAIN, "five")
    }
    assert sum(arm["opportunities"] for arm in found["arms"].values()) == 800


def test_few_users_prove_nothing_whatever_they_did(office: Office, said: Callable[..., str]) -> None:
    office.works(0.95, num_users=20)
    assert "fewer than 12 users in an arm" in said()


def test_a_table_that_was_edited_has_nothing_of_before(office: Office, said: Callable[..., str]) -> None:
    office.works(0.7)
    file = office.root / "homespun.toml"
    file.write_text(file.read_text().replace("snippet_count = 5", "snippet_count = 4"))
    assert {arm["users"] for arm in json.loads(said("--json"))["arms"].values()} == {0}


def test_without_tables_it_says_how_to_try_one_and_makes_no_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompts", "--data-dir", str(tmp_path / "none")]) == 0
    assert "[[prompt]]" in capsys.readouterr().out and not (tmp_path / "none").exists()
