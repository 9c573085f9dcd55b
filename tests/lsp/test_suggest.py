"""When the server is asked, in one process and without an editor. What goes over the wire is in test_requests."""

import asyncio
import random

import pytest

from homespun_core.types import Trigger
from homespun_lsp.context import Place
from homespun_lsp.documents import Document
from homespun_lsp.pace import Pace
from homespun_lsp.suggest import Suggester
from homespun_lsp.suggestions import Suggestion


class Desk:
    """A document, a server that answers when told, and the suggester between them."""

    def __init__(self, marked: str) -> None:
        self.place = self.at(marked)
        self.document: Document | None = self.place.document
        self.answers: list[asyncio.Future[str]] = []
        self.triggers: list[Trigger] = []
        self._asked: asyncio.Queue[asyncio.Future[str]] = asyncio.Queue()
        self.pace = Pace()
        self.suggester = Suggester(self.fetch, lambda uri: self.document, self.pace)

    def at(self, marked: str) -> Place:
        before, _, after = marked.partition("|")
        document = Document(uri="file:///a", language="python", version=1, text=before + after, encoding="utf-16")
        return Place(document=document, text=document.text, offset=len(before))

    async def fetch(self, place: Place, trigger: Trigger) -> Suggestion:
        self.answers.append(asyncio.get_running_loop().create_future())
        self.triggers.append(trigger)
        self._asked.put_nowait(self.answers[-1])
        completion = await self.answers[-1]
        return Suggestion(text=place.text, offset=place.offset, completion=completion, made=f"cmpl-{completion}")

    def ask(
        self, marked: str | None = None, deadline_ms: int | None = None, wait_ms: int = 0
    ) -> asyncio.Task[str | None]:
        if marked is not None:
            self.place = self.at(marked)
            self.document = self.place.document
        return asyncio.create_task(self._ask(self.place, deadline_ms, wait_ms))

    async def _ask(self, place: Place, deadline_ms: int | None, wait_ms: int) -> str | None:
        found = await self.suggester.suggest(place, wait_ms=wait_ms, deadline_ms=deadline_ms)
        return found.completion if found else None

    async def asked(self) -> asyncio.Future[str]:
        """The next request that reaches the server, to be answered."""
        return await self._asked.get()

    async def known(self, marked: str) -> None:
        """Until an answer that was given has arrived."""
        async with asyncio.timeout(20):
            while not self.suggester.knows(self.at(marked)):  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def suggested(self, marked: str, completion: str) -> None:
        task = self.ask(marked)
        (await self.asked()).set_result(completion)
        assert await task == completion


@pytest.mark.parametrize(
    ("marked", "rest"),
    [
        ("x = fo|)", "o(1)\n    bar"),
        ("x = foo(1)|)", "\n    bar"),
        ("x = foo(1)\n    b|)", "ar"),
        ("x = foo(1)\r\n    b|)", "ar"),
        ("x = |)", "foo(1)\n    bar"),
    ],
)
async def test_text_typed_as_suggested_is_answered_without_asking(marked: str, rest: str) -> None:
    desk = Desk("x = |)")
    await desk.suggested("x = |)", "foo(1)\n    bar")
    assert await desk.ask(marked) == rest
    assert len(desk.answers) == 1


@pytest.mark.parametrize(
    "marked", ["x = g|)", "x = foo|))", "y = fo|)", "x =|)", "x = foo(1)\n    bar|)", "x = foo(1)\n    bar.|)"]
)
async def test_anything_else_is_asked_again(marked: str) -> None:
    desk = Desk("x = |)")
    await desk.suggested("x = |)", "foo(1)\n    bar")
    await desk.suggested(marked, "new")
    assert len(desk.answers) == 2


async def test_a_newer_request_ends_the_older_one_with_no_answer() -> None:
    desk = Desk("|")
    older = desk.ask("a|")
    answer = await desk.asked()
    newer = desk.ask("ab|")
    (await desk.asked()).set_result("c")
    assert (await older, await newer) == (None, "c")
    assert answer.cancelled()


async def test_two_requests_for_one_place_are_one() -> None:
    desk = Desk("a|")
    both = desk.ask(), desk.ask()
    (await desk.asked()).set_result("b")
    assert [await task for task in both] == ["b", "b"]
    assert len(desk.answers) == 1


async def test_cancelling_one_of_two_requests_for_one_place_leaves_the_other() -> None:
    desk = Desk("a|")
    menu, ghost = desk.ask(), desk.ask()
    answer = await desk.asked()
    menu.cancel()
    await asyncio.wait({menu})
    assert not answer.cancelled()
    answer.set_result("b")
    assert menu.cancelled() and await ghost == "b"


async def test_both_of_two_requests_for_one_place_cancelled_reach_the_server() -> None:
    desk = Desk("a|")
    both = desk.ask(), desk.ask()
    answer = await desk.asked()
    for task in both:
        task.cancel()
    await asyncio.wait(both)
    await asyncio.wait({answer})
    assert answer.cancelled()


async def test_the_pace_of_servers_that_give_no_ids_is_known_too() -> None:
    async def fetch(place: Place, trigger: Trigger) -> Suggestion:
        await asyncio.sleep(0.01)
        return Suggestion(text=place.text, offset=place.offset, completion="b")

    desk = Desk("a|")
    before = desk.pace.answer_ms
    await Suggester(fetch, lambda uri: desk.document, desk.pace).suggest(desk.place, wait_ms=0)
    assert desk.pace.answer_ms != before


async def test_cancelling_reaches_the_server() -> None:
    desk = Desk("a|")
    task = desk.ask()
    answer = await desk.asked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait({answer})
    assert answer.cancelled()


async def test_a_request_that_was_cancelled_serves_the_key_that_cancelled_it() -> None:
    """VS Code cancels at a key, and asks again 50 ms later."""
    desk = Desk("a|")
    desk.pace.answered(20)
    task = desk.ask()
    answer = await desk.asked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = desk.ask("ab|", wait_ms=60_000)
    await asyncio.sleep(0)
    answer.set_result("bc")
    assert await again == "c"
    assert len(desk.answers) == 1


async def test_a_request_under_way_answers_what_was_typed_since() -> None:
    desk = Desk("a|")
    older = desk.ask()
    answer = await desk.asked()
    newer = desk.ask("ab|", wait_ms=60_000)
    assert await older is None
    answer.set_result("bc")
    assert await newer == "c"
    assert len(desk.answers) == 1


async def test_an_answer_that_begins_otherwise_is_asked_for_again() -> None:
    desk = Desk("a|")
    older = desk.ask()
    answer = await desk.asked()
    newer = desk.ask("ab|", wait_ms=1)
    answer.set_result("xy")
    assert await older is None
    (await desk.asked()).set_result("c")
    assert await newer == "c"


async def test_what_follows_an_accept_is_there_before_it_is_accepted() -> None:
    desk = Desk("x = |")
    await desk.suggested("x = |", "foo(")
    desk.suggester.look_ahead(desk.place.after("foo("))
    (await desk.asked()).set_result("1)")
    await desk.known("x = foo(|")
    assert await desk.ask("x = foo(|") == "1)"
    assert await desk.ask("x = fo|") == "o(", "and what was suggested first is still there"
    assert desk.triggers == ["typed", "ahead"]


async def test_looking_ahead_ends_when_somebody_asks_for_something_else() -> None:
    desk = Desk("x = |")
    await desk.suggested("x = |", "foo(")
    desk.suggester.look_ahead(desk.place.after("foo("))
    ahead = await desk.asked()
    await desk.suggested("x = g|", "h")
    assert ahead.cancelled()


async def test_looking_ahead_goes_on_while_the_suggestion_is_typed() -> None:
    desk = Desk("x = |")
    await desk.suggested("x = |", "foo(")
    for marked, rest in (("x = |", "foo("), ("x = f|", "oo("), ("x = fo|", "o(")):
        assert await desk.ask(marked) == rest
        desk.suggester.look_ahead(desk.place.after(rest))
    ahead = await desk.asked()
    assert desk.triggers == ["typed", "ahead"] and not ahead.done()
    desk.suggester.forget_all()


async def test_looking_ahead_to_nothing_is_not_repeated_at_each_key() -> None:
    desk = Desk("x = |")
    await desk.suggested("x = |", "foo(")
    desk.suggester.look_ahead(desk.place.after("foo("))
    (await desk.asked()).set_result("")
    for marked, rest in (("x = f|", "oo("), ("x = fo|", "o(")):
        for _ in range(5):
            await asyncio.sleep(0)
        assert await desk.ask(marked) == rest
        desk.suggester.look_ahead(desk.place.after(rest))
    await asyncio.sleep(0.3)  # longer than it waits before it asks
    assert desk.triggers == ["typed", "ahead"]


async def test_a_suggestion_comes_back_after_backspace_and_retyping() -> None:
    desk = Desk("x = |")
    await desk.suggested("x = |", "foo(1)")
    await desk.suggested("x = b|", "ar(2)")
    assert await desk.ask("x = |") == "foo(1)"
    assert await desk.ask("x = b|") == "ar(2)"
    assert len(desk.answers) == 2


async def test_an_answer_after_the_deadline_serves_the_next_keystroke() -> None:
    desk = Desk("a|")
    assert await desk.ask("a|", deadline_ms=1) is None
    (await desk.asked()).set_result("bc")
    await desk.known("a|")
    assert await desk.ask("ab|") == "c"
    assert len(desk.answers) == 1


@pytest.mark.parametrize(("now", "answer"), [("ab|", "bc"), ("ax|", None), (None, None)])
async def test_a_late_answer_counts_only_if_what_was_typed_since_agrees_with_it(
    now: str | None, answer: str | None
) -> None:
    desk = Desk("a|")
    task = desk.ask()
    reply = await desk.asked()
    desk.document = desk.at(now).document if now else None
    reply.set_result("bc")
    assert await task == answer


async def test_closing_the_document_ends_its_request() -> None:
    desk = Desk("a|")
    task = desk.ask()
    answer = await desk.asked()
    desk.suggester.forget("file:///a")
    assert await task is None
    assert answer.cancelled()


async def test_the_connection_of_a_cancelled_request_is_closed_before_the_next_is_opened() -> None:
    under_way = most = 0

    async def fetch(place: Place, trigger: Trigger) -> Suggestion:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0 if place.text == "last" else 60)
            return Suggestion(text=place.text, offset=place.offset, completion="done")
        finally:
            for _ in range(5):  # closing takes a while, even when cancelled
                await asyncio.sleep(0)
            under_way -= 1

    desk = Desk("|")
    suggester = Suggester(fetch, lambda uri: desk.place.document, Pace())
    tasks = []
    for text in ("a|", "ab|", "abc|", "last|"):
        desk.place = desk.at(text)
        tasks.append(asyncio.create_task(suggester.suggest(desk.place, wait_ms=0)))
        for _ in range(3):
            await asyncio.sleep(0)
    found = [await task for task in tasks]
    assert found[:3] == [None] * 3 and found[3] and found[3].completion == "done"
    assert most == 1


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_is_typed_there_is_one_request_and_no_stale_answer(seed: int) -> None:
    """Keys, backspaces, cancellations, accepts and answers in any order. Whatever is suggested leads to a text that the
    server has suggested, for the text as it was when it was asked for."""
    chooser, under_way, finals = random.Random(seed), 0, set[str]()

    async def fetch(place: Place, trigger: Trigger) -> Suggestion:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        try:
            for _ in range(chooser.randrange(6)):
                await asyncio.sleep(0)
            completion = "".join(chooser.choices("ab", k=chooser.randrange(4)))
            finals.add(place.text[: place.offset] + completion + place.text[place.offset :])
            return Suggestion(text=place.text, offset=place.offset, completion=completion, made="cmpl")
        finally:
            under_way -= 1

    desk = Desk("")
    suggester = Suggester(fetch, lambda uri: desk.document, Pace())

    async def ask(place: Place) -> None:
        found = await suggester.suggest(place, wait_ms=0)
        if found and found.completion:
            final = place.text[: place.offset] + found.completion + place.text[place.offset :]
            assert final in finals
            suggester.look_ahead(place.after(found.completion))

    before, tasks = "", list[asyncio.Task[None]]()
    for _ in range(60):
        before = before[:-1] if chooser.random() < 0.3 else before + chooser.choice("ab")
        place = desk.at(f"{before}|{chooser.choice(['', ')'])}")
        desk.document = place.document
        tasks.append(asyncio.create_task(ask(place)))
        if chooser.random() < 0.2:
            chooser.choice(tasks).cancel()
        for _ in range(chooser.randrange(5)):
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    suggester.forget_all()
    assert not [result for result in results if result and not isinstance(result, asyncio.CancelledError)]


async def test_a_document_that_was_closed_meanwhile_is_not_asked_about() -> None:
    """While it was looked at whether to ask: it was asked about, and remembered for ever."""
    desk = Desk("secret|")
    desk.document = None
    assert await desk.ask() is None
    assert not desk.answers and not desk.suggester.knows(desk.place)
