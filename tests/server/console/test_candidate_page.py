"""A candidate that users try, on its page."""

from __future__ import annotations

import re
import time
from typing import Any

from homespun_server.feedback.facts import CompletionFact, Event, Fact
from homespun_server.feedback.store import FeedbackStore
from homespun_server.rollout import state as rollouts
from homespun_server.rollout.stages import DAY_S, State
from tests.server.console.conftest import VERSIONS, Company

SINCE = time.time() - 3 * DAY_S


def tried(company: Company) -> None:
    """The candidate by two users: of four completions three were shown, and one accepted."""
    place = company.data.adapters(company.shop)
    rollouts.write(place, State(candidate=VERSIONS[2], champion=VERSIONS[1], since=SINCE))
    facts = list[Fact]()
    for number in range(4):
        id, at = f"try-{number}", SINCE + 60 * (number + 1)
        own: dict[str, Any] = {"repository": company.shop, "adapter": VERSIONS[2], "language": "python"}
        own |= {"characters": 30, "first_line": 30, "latency_ms": 40.0}
        facts.append(CompletionFact(id=id, time=at, user=f"t{number % 2}", **own))
        facts += [Event(completion=id, kind="shown", time=at, characters=0)] if number else []
    facts.append(Event(completion="try-1", kind="accepted", time=SINCE + 121, characters=20))
    FeedbackStore(company.runtime.database).write(facts)


async def test_the_numbers_of_both_arms_stand_beside_a_candidate(company: Company) -> None:
    tried(company)
    async with company.client() as browser:
        text = (await browser.get(f"/console/adapters/{company.shop}")).text
        other = (await browser.get("/console/adapters/@nobody")).text
    assert "How users do with the candidate" in text and "How users do" not in other
    assert "25 % of the users get it (canary, since " in text
    region = text[text.index('aria-label="Both arms in numbers"') :]
    rows = re.findall(r"<tr>(.*?)</tr>", region[: region.index("</table>")])
    head, champion, candidate = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert head == ["arm", "users", "completions", "accepted", "of those shown", *head[5:]] and len(head) == 7
    assert champion[0] == "champion" and champion[1] == "5" and int(champion[2]) > 10
    assert candidate == ["candidate", "2", "4", "1", "33%", "5.00", "40 ms"]
