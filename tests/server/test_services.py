from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_core.fim import FimFormat, resolve_family
from homespun_core.logs import JsonLines, TextLines
from homespun_core.postprocess import finish
from homespun_core.types import Completion, CompletionRequest, ModelFiles, Part, Snippet, Tokenizer
from homespun_indexer.reader import Searched
from homespun_server import attempts, services, work
from homespun_server.assembly import Assembly
from homespun_server.engine.decoders.protocol import Decoder
from homespun_server.engine.decoders.source import open_source
from homespun_server.engine.protocol import EngineBusyError, EngineLoad, EngineRequest
from homespun_server.engine.shelf import Source
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.explained import LADDER
from homespun_server.feedback.facts import CompletionFact
from homespun_server.live import LiveRepository
from homespun_server.metrics import Metrics
from homespun_server.mixing import Around, mixer
from homespun_server.services import Completer
from tests.server.engine.hash_decoder import wait_until

PREFIX = """from loomworks.spans import span


class InvoiceRepository(BaseRepository):
    def find_by_customer(self, customer_id: str) -> list[Invoice]:
        with span("invoice.find_by_customer") as current:
            rows = self.session."""
REQUEST = CompletionRequest(prefix=PREFIX, suffix="\n", path="invoice.py", language="python", max_new_tokens=24)


@dataclass
class Live:
    repositories: tuple[LiveRepository, ...] = ()
    own: Mapping[str, str] = field(default_factory=dict)

    def visible_to(self, readable: frozenset[str] | None) -> tuple[LiveRepository, ...]:
        return tuple(r for r in self.repositories if readable is None or r.id in readable)

    def own_adapter(
        self, account: str | None, repository: LiveRepository, readable: frozenset[str] | None
    ) -> str | None:
        return self.own.get(account or "")


MakeCompleter = Callable[..., Completer]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make_completer(
    engine: TorchEngine, tokenizer: Tokenizer, fim: FimFormat, metrics: Metrics
) -> Iterator[MakeCompleter]:
    made: list[Completer] = []

    def make(
        *repositories: LiveRepository,
        record: Callable[[CompletionFact], None] | None = None,
        engine: TorchEngine = engine,
        format: FimFormat = fim,
        **changes: object,
    ) -> Completer:
        options: dict[str, object] = {
            "retrieve_deadline_ms": 5_000,
            "completion_deadline_ms": 60_000,
            "min_confidence": 0.0,  # a test of something else has a text to look at
        }
        settings = Settings(**(options | changes))  # type: ignore[arg-type]
        made.append(
            Completer(
                engine=engine,
                tokenizer=tokenizer,
                format=format,
                repositories=Live(repositories),
                settings=settings,
                metrics=metrics,
                record=record,
            )
        )
        return made[-1]

    yield make
    for completer in made:
        completer.close()


async def test_a_completion_has_snippets_of_the_repository_and_says_what_it_cost(
    make_completer: MakeCompleter, loom: LiveRepository
) -> None:
    completion = await make_completer(loom).complete(REQUEST, "id-1")
    assert completion.snippets and all(s.path != "invoice.py" for s in completion.snippets)
    assert completion.prompt_tokens > 100 and completion.completion_tokens > 0 and completion.adapter is None
    assert completion.timings.prefill_ms > 0


async def test_a_keystroke_computes_only_what_is_new(make_completer: MakeCompleter, loom: LiveRepository) -> None:
    completer = make_completer(loom)
    await completer.complete(REQUEST, "id-1")
    typed = CompletionRequest(prefix=PREFIX + "fetch", suffix="\n", path="invoice.py", language="python")
    completion = await completer.complete(typed, "id-2")
    assert completion.prompt_tokens - completion.cached_tokens <= 4


async def test_speculation_and_early_stopping_leave_the_text_as_it_is(
    make_completer: MakeCompleter, loom: LiveRepository, engine: TorchEngine, tokenizer: Tokenizer, fim: FimFormat
) -> None:
    completer, compared = make_completer(loom), 0
    for cut in range(60, len(PREFIX), 23):
        request = CompletionRequest(
            prefix=PREFIX[:cut], suffix=PREFIX[cut + 30 :], path="invoice.py", max_new_tokens=24
        )
        completion = await completer.complete(request, "id")
        prompt = completer._prompts.of(None).builder.build(
            prefix=request.prefix,
            suffix=request.suffix,
            path="invoice.py",
            repo="loom",
            snippets=completion.snippets[::-1],
        )
        plain = EngineRequest(
            ids=prompt.ids,
            max_new_tokens=24,
            end_ids=frozenset(fim.end_ids),
            constraint=completer._attempts._vocabulary.beginning(prompt.opening.encode()),
            mix=mixer(
                Around.cursor(tokenizer, request.prefix, request.suffix, prompt.opening),
                loom.reader.continuations if loom.reader else None,
                completer._attempts._ends,
            ),
        )
        generation = await asyncio.to_thread(engine.generate, plain)
        text = tokenizer.decode([t.id for t in generation.tokens])
        assert text.startswith(prompt.opening)
        text = text.removeprefix(prompt.opening)
        is_cut = generation.stats.finish_reason == "length"
        assert completion.text == finish(request.prefix, text, request.suffix, truncated=is_cut)
        compared += 1
    assert compared > 5


async def test_streamed_text_adds_up_to_the_completion(make_completer: MakeCompleter) -> None:
    for raw in (False, True):
        request = CompletionRequest(prefix="def add(a, b):\n", suffix="", max_new_tokens=20, raw=raw)
        parts = [part async for part in make_completer().stream(request, "id")]
        completion = parts.pop()
        assert isinstance(completion, Completion)
        assert "".join(part.text for part in parts) == completion.text
        assert len(parts) > 3 or not raw


async def test_a_stop_string_ends_the_text_before_it(make_completer: MakeCompleter) -> None:
    plain = CompletionRequest(prefix="def add(a, b):\n    return", suffix="", max_new_tokens=20, raw=True)
    whole = (await make_completer().complete(plain, "id")).text
    stop = whole[4:6]
    stopped = CompletionRequest(prefix=plain.prefix, suffix="", max_new_tokens=20, raw=True, stop=(stop,))
    completion = await make_completer().complete(stopped, "id")
    assert completion.text == whole[: whole.index(stop)] and completion.finish_reason == "stop"
    assert completion.stopped_by == stop


async def test_the_line_ends_of_the_file_are_kept(make_completer: MakeCompleter) -> None:
    unix = CompletionRequest(prefix="class A:\n    def f(self):\n        ", suffix="\n", max_new_tokens=24, raw=True)
    windows = CompletionRequest(
        prefix=unix.prefix.replace("\n", "\r\n"), suffix="\r\n", max_new_tokens=24, raw=True, stop=("\r\n\r\n",)
    )
    completer = make_completer()
    expected = (await completer.complete(unix, "id")).text.split("\n\n")[0]
    completion = await completer.complete(windows, "id")
    assert completion.text == expected.replace("\n", "\r\n")
    assert completion.stopped_by in (None, "\r\n\r\n")


async def test_a_limit_on_the_time_of_decoding_ends_it_after_a_whole_line(
    make_completer: MakeCompleter, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(time.monotonic(), 0.002)  # each look at the clock is 2 ms after the last
    monkeypatch.setattr(work, "time", types.SimpleNamespace(time=time.time, monotonic=lambda: next(ticks)))
    for prefix in ("class A:\n    def __init__(self, name, size):\n", "def load(path):\n", "try:\n", "if error:\n"):
        free = CompletionRequest(prefix=prefix, suffix="", max_new_tokens=64)
        whole = await make_completer().complete(free, "id")
        first, *others = whole.text.splitlines() or [""]
        if others and whole.finish_reason == "stop":  # which depends on the model
            break
    assert others and whole.finish_reason == "stop"
    limited = await make_completer().complete(dataclasses.replace(free, max_decode_ms=1), "id")
    assert (limited.text, limited.finish_reason) == (first, "length")
    patient = await make_completer().complete(dataclasses.replace(free, max_decode_ms=10_000), "id")
    assert (patient.text, patient.finish_reason) == (whole.text, "stop")


async def test_a_retrieval_timeout_still_completes(
    make_completer: MakeCompleter, loom: LiveRepository, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(deadline_s: float, query: object, limit: int) -> Searched:
        time.sleep(0.5)
        return Searched([], is_whole=True)

    monkeypatch.setattr(loom.reader, "search_within", slow)
    completion = await make_completer(loom, retrieve_deadline_ms=10).complete(REQUEST, "id")
    assert completion.snippets == () and completion.completion_tokens > 0
    assert b'homespun_degraded_total{reason="retrieval_timeout"} 1.0' in metrics.exposition()


async def test_a_completion_whose_search_ended_early_says_so(
    make_completer: MakeCompleter, loom: LiveRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be another text than with all snippets."""
    assert loom.reader is not None
    within = loom.reader.search_within
    monkeypatch.setattr(loom.reader, "search_within", lambda deadline_s, query, limit: within(0.0, query, limit))
    request = replace(REQUEST, prefix="# another file\n" + REQUEST.prefix)
    completion = await make_completer(loom).complete(request, "id")
    assert completion.degraded == ("retrieval_partial",) and completion.completion_tokens > 0


async def test_an_adapter_that_is_gone_falls_back_to_the_base_model(
    make_completer: MakeCompleter, metrics: Metrics
) -> None:
    gone = LiveRepository(id="loom-1", identity="/src/loom", name="loom", adapter="loom-1/gone")
    completion = await make_completer(gone).complete(REQUEST, "id")
    assert completion.adapter is None and completion.completion_tokens > 0
    assert b'homespun_degraded_total{reason="adapter"} 1.0' in metrics.exposition()


async def test_a_voice_of_the_repository_that_fails_is_gone_without(
    make_completer: MakeCompleter, monkeypatch: pytest.MonkeyPatch, loom: LiveRepository
) -> None:
    def broken(ids: object) -> tuple[int, dict[int, int]]:
        raise IndexError("damaged")

    other = dataclasses.replace(
        REQUEST, prefix=f"{PREFIX}    total = "
    )  # what the engine remembers of one is its draft
    plain = await make_completer(loom, mixing=False).complete(other, "id-1")
    monkeypatch.setattr(loom.reader, "continuations", broken)
    assert (await make_completer(loom).complete(other, "id-2")).text == plain.text


async def test_what_the_editor_sends_of_another_file_is_heard_where_no_prompt_has_room_for_it(
    make_completer: MakeCompleter, loom: LiveRepository
) -> None:
    sent = Snippet(path="new.py", start_line=1, text="    quuxes = frobnicate(zanzibar)\n", score=0.0, source="editor")
    request = dataclasses.replace(REQUEST, prefix=f"{PREFIX}    quuxes = frobnicate(", snippets=(sent,))
    completion = await make_completer(loom).complete(request, "id-1")
    assert completion.text.startswith("zanzibar)\n") and sent not in completion.snippets
    deaf = await make_completer(loom, editor_context=False).complete(request, "id-2")
    assert "zanzibar" not in deaf.text


async def test_a_datastore_that_fails_costs_the_speculation_only(
    make_completer: MakeCompleter, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, loom: LiveRepository
) -> None:
    def broken(ids: object, max_tokens: int) -> list[int]:
        raise IndexError("damaged")

    monkeypatch.setattr(loom.reader, "draft", broken)
    monkeypatch.setattr(attempts, "_DATASTORE_PAYS_MS", 0.0)
    completion = await make_completer(loom, mixing=False).complete(REQUEST, "id")
    assert completion.completion_tokens > 0
    assert b'homespun_degraded_total{reason="speculation"} 1.0' in metrics.exposition()


async def test_inside_a_word_the_whole_word_is_decided_again(make_completer: MakeCompleter) -> None:
    """Tokens that end at the cursor say little about the word: with them, `retu` is hardly ever `return`."""
    request = CompletionRequest(prefix="def add(a, b):\n    retu", suffix="\n", max_new_tokens=8)
    assert (await make_completer().complete(request, "id")).text.startswith("rn ")


async def test_another_family_heals_where_it_is_wanted(
    make_completer: MakeCompleter, tokenizer: Tokenizer, fim: FimFormat
) -> None:
    request = CompletionRequest(prefix="def add(a, b):\n    retu", suffix="\n", max_new_tokens=8)
    other = resolve_family(tokenizer, {}, forced="qwen2.5-coder")
    made = {
        (format.family.name, wanted): await make_completer(format=format, token_healing=wanted).complete(request, "id")
        for format, wanted in itertools.product((fim, other), ("auto", "on", "off"))
    }
    lengths = {key: completion.prompt_tokens for key, completion in made.items()}
    for name, is_healed in (("homespun", True), ("qwen2.5-coder", False)):
        assert lengths[name, "on"] < lengths[name, "off"]
        assert lengths[name, "auto"] == lengths[name, "on" if is_healed else "off"]
    assert made["qwen2.5-coder", "on"].text.startswith("rn")


async def test_a_prepared_place_costs_the_new_tokens_only(make_completer: MakeCompleter, loom: LiveRepository) -> None:
    completer = make_completer(loom)
    prepared = await completer.complete(dataclasses.replace(REQUEST, max_new_tokens=0), "id-1")
    assert prepared.text == "" and prepared.completion_tokens == 0
    completion = await completer.complete(REQUEST, "id-2")
    assert completion.completion_tokens > 0 and completion.cached_tokens >= completion.prompt_tokens - 1


async def test_what_somebody_types_now_replaces_what_they_typed_before(make_completer: MakeCompleter) -> None:
    completer = make_completer()
    older = CompletionRequest(prefix="x = 1\n" * 200, suffix="", max_new_tokens=64, raw=True, client="me")
    newer = CompletionRequest(prefix="y = 2\n" * 200, suffix="", max_new_tokens=4, raw=True, client="me")
    first = asyncio.create_task(completer.complete(older, "id-1"))
    await asyncio.sleep(0.01)
    second = await completer.complete(newer, "id-2")
    assert second.completion_tokens == 4
    assert (await first).text == ""


def loaded(wait_ms: float) -> Callable[[], EngineLoad]:
    return lambda: EngineLoad(num_running=8, num_waiting=4, wait_ms=wait_ms, step_ms=1.0)


async def test_under_load_a_completion_is_smaller_and_says_so(
    make_completer: MakeCompleter,
    loom: LiveRepository,
    engine: TorchEngine,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "load", loaded(350))
    completion = await make_completer(loom).complete(dataclasses.replace(REQUEST, max_new_tokens=64), "id")
    assert completion.degraded == ("fewer_snippets", "shorter")
    assert sum(s.source == "usage" for s in completion.snippets) <= 1 and completion.completion_tokens <= 24
    assert b'homespun_degraded_total{reason="shorter"} 1.0' in metrics.exposition()


async def test_where_the_model_has_no_time_only_what_is_certain_is_shown(
    make_completer: MakeCompleter, loom: LiveRepository, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three repositories of the fixture go on alike after these words; after the others nothing is certain."""
    monkeypatch.setattr(engine, "load", loaded(10_000))
    completer = make_completer(loom)
    known = """    def count_by_state(self, state: str) -> int:
        with span("x.count_by_state") as current:
            number = self.session"""
    certain = await completer.complete(dataclasses.replace(REQUEST, prefix=known), "id-1")
    assert certain.text.startswith(".count") and certain.degraded[-1] == "draft_only"
    unknown = await completer.complete(dataclasses.replace(REQUEST, prefix="zebra = yak(gnu, "), "id-2")
    assert unknown.text == "" and unknown.degraded[-1] == "draft_only"


async def test_a_deadline_ends_a_completion_with_what_there_is(make_completer: MakeCompleter) -> None:
    completion = await make_completer(completion_deadline_ms=1).complete(REQUEST, "id")
    assert completion.finish_reason == "length"


async def test_the_live_adapter_writes_the_completion(
    make_completer: MakeCompleter,
    engine: TorchEngine,
    builtin: ModelFiles,
    tmp_path: Path,
    make_lora: Callable[..., Path],
) -> None:
    engine.load_adapter("loom-1/v1", make_lora(Path(builtin.path), tmp_path / "lora", strength=0.1))
    live = LiveRepository(id="loom-1", identity="/src/loom", name="loom", adapter="loom-1/v1")
    base = await make_completer().complete(REQUEST, "id")
    adapted = await make_completer(live).complete(REQUEST, "id")
    engine.unload_adapter("loom-1/v1")
    assert adapted.adapter == "loom-1/v1" and base.adapter is None


async def test_while_an_adapter_is_loaded_again_others_write_the_completions(
    make_completer: MakeCompleter,
    builtin: ModelFiles,
    metrics: Metrics,
    tmp_path: Path,
    make_lora: Callable[..., Path],
) -> None:
    """It waited until its deadline, and ended empty. Each completion is one adapter's from beginning to end: a user's
    own or the share's candidate, else the repository's, else the base model's."""
    opened, is_slow = threading.Event(), False

    class Slow:
        def __init__(self, source: Source) -> None:
            self._source, self.format, self.device = source, source.format, source.device

        def decoder(self, adapter: Path | None) -> Decoder:
            assert not is_slow or opened.wait(60)
            return self._source.decoder(adapter)

    path = Path(builtin.path)
    engine = TorchEngine(path, source=Slow(open_source(path, "float32", "cpu")), adapter_bytes=1)
    for name, strength in (("loom-1/v1", 0.1), ("loom-1/v2", 0.2)):
        engine.load_adapter(name, make_lora(path, tmp_path / name, strength=strength))
    live = LiveRepository(
        id="loom-1", identity="/src/loom", name="loom", adapter="loom-1/v1", candidate="loom-1/v2", canary_percent=50.0
    )
    users = [f"user {i}" for i in range(9)]
    champions = next(user for user in users if live.adapter_for(user) == "loom-1/v1")
    candidates = next(user for user in users if live.adapter_for(user) == "loom-1/v2")
    is_slow = True
    facts: list[CompletionFact] = []
    completer = make_completer(live, record=facts.append, engine=engine)

    async def made(user: str) -> Completion:
        return await completer.complete(replace(REQUEST, user=user, client=user), "id")

    base, at_once = await made(champions), await made(candidates)
    opened.set()
    await asyncio.to_thread(wait_until, lambda: engine._shelf.find("loom-1/v1").decoder is not None)
    after = await made(champions)
    assert (base.adapter, base.degraded) == (None, ("adapter_loading",)) and base.completion_tokens > 0
    assert (at_once.adapter, at_once.degraded) == ("loom-1/v2", ())
    assert (after.adapter, after.degraded) == ("loom-1/v1", ())
    assert b'homespun_degraded_total{reason="adapter_loading"} 1.0' in metrics.exposition()
    assert [fact.adapter for fact in facts] == [None, "v2", "v1"], "what becomes of them counts for who wrote them"
    assert base.text == (await make_completer(engine=engine).complete(REQUEST, "id")).text
    engine.close()


async def test_a_share_of_the_users_gets_the_candidate_every_time(
    make_completer: MakeCompleter,
    engine: TorchEngine,
    builtin: ModelFiles,
    tmp_path: Path,
    make_lora: Callable[..., Path],
) -> None:
    for name, strength in (("loom-1/v1", 0.1), ("loom-1/v2", 0.2)):
        engine.load_adapter(name, make_lora(Path(builtin.path), tmp_path / name, strength=strength))
    live = LiveRepository(
        id="loom-1", identity="/src/loom", name="loom", adapter="loom-1/v1", candidate="loom-1/v2", canary_percent=30.0
    )
    facts: list[CompletionFact] = []
    completer = make_completer(live, record=facts.append)
    users = [f"user {i}" for i in range(12)]
    wrote = [
        {
            (await completer.complete(dataclasses.replace(REQUEST, user=user, client=f"run {n}"), "id")).adapter
            for n in range(2)
        }
        for user in users
    ]
    assert wrote == [{live.adapter_for(user)} for user in users]
    assert {"loom-1/v1"} in wrote and {"loom-1/v2"} in wrote
    assert all(f"loom-1/{fact.adapter}" == live.adapter_for(fact.user) for fact in facts) and len(facts) == 24
    engine.unload_adapter("loom-1/v2")
    one = next(user for user in users if live.adapter_for(user) == "loom-1/v2")
    without = await completer.complete(dataclasses.replace(REQUEST, client=one), "id")
    assert without.adapter == "loom-1/v1" and without.degraded == ("adapter",)
    engine.unload_adapter("loom-1/v1")


async def test_closing_a_stream_cancels_the_work(make_completer: MakeCompleter, engine: TorchEngine) -> None:
    request = CompletionRequest(prefix="x = ", suffix="", max_new_tokens=64, raw=True)
    stream = make_completer().stream(request, "id")
    assert isinstance(await anext(stream), Part)
    await stream.aclose()
    assert engine.num_waiting == 0
    assert (await make_completer().complete(REQUEST, "id")).completion_tokens > 0


async def test_a_prepared_place_costs_its_first_key_a_few_tokens_and_is_no_completion(
    make_completer: MakeCompleter, loom: LiveRepository, metrics: Metrics
) -> None:
    completer = make_completer(loom)
    prepared = await completer.complete(replace(REQUEST, max_new_tokens=0), "id-1")
    assert prepared.text == "" and prepared.prompt_tokens > 100
    assert b'homespun_prepared_total{outcome="prepared"} 1.0' in metrics.exposition()
    assert b"homespun_completions_total{" not in metrics.exposition()
    first = await completer.complete(replace(REQUEST, prefix=PREFIX + "f"), "id-2")
    assert first.cached_tokens >= first.prompt_tokens - 3


async def test_preparing_a_place_ends_no_request_of_the_same_editor(make_completer: MakeCompleter) -> None:
    completer = make_completer()
    request = replace(REQUEST, client="editor", max_new_tokens=64, raw=True)
    whole = (await completer.complete(replace(request, client=None), "id-1")).text
    stream = completer.stream(request, "id-2")
    started = await anext(stream)
    other = replace(REQUEST, prefix="import os\n" * 40, client="editor", max_new_tokens=0)
    preparing = asyncio.create_task(completer.complete(other, "id-3"))
    parts = [started, *[part async for part in stream]]
    assert isinstance(parts[-1], Completion) and parts[-1].text == whole
    assert (await preparing).completion_tokens == 0


async def test_fewer_snippets_are_said_for_as_long_as_they_stay(
    make_completer: MakeCompleter, loom: LiveRepository, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A soak saw another text than before, unannounced, from an engine that had been busy seconds ago."""
    completer = make_completer(loom)
    with monkeypatch.context() as busy:
        busy.setattr(engine, "load", loaded(200))
        first = await completer.complete(REQUEST, "id-1")
    later = await completer.complete(REQUEST, "id-2")
    assert first.degraded == later.degraded == ("fewer_snippets",)
    assert later.snippets == first.snippets
    assert (await make_completer(loom).complete(REQUEST, "id-3")).degraded == ()


async def test_under_load_places_are_not_prepared(
    make_completer: MakeCompleter,
    loom: LiveRepository,
    engine: TorchEngine,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    completer, nothing = make_completer(loom), replace(REQUEST, max_new_tokens=0, account="somebody else")
    with monkeypatch.context() as busy:
        busy.setattr(engine, "load", loaded(200))
        left = await completer.complete(nothing, "id-1")
    assert (left.text, left.snippets, left.degraded) == ("", (), ("draft_only",))
    assert left.prompt_tokens == 0  # nor is it looked up what wouldn't be computed
    assert b'homespun_prepared_total{outcome="left"} 1.0' in metrics.exposition()
    assert b"homespun_degraded_total{" not in metrics.exposition()
    then = await completer.complete(nothing, "id-2")
    assert then.prompt_tokens > 100 and then.cached_tokens == 0


async def test_a_completion_ends_at_the_last_line_that_the_model_is_sure_of(
    make_completer: MakeCompleter, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand there is all of it."""
    request = replace(REQUEST, prefix="class Point:\n    def __init__(self, x, y):\n        ", max_new_tokens=24)
    whole = (await make_completer().complete(request, "id-1")).text
    by_hand = await make_completer(min_confidence=1.0).complete(replace(request, trigger="invoked"), "id-2")
    assert by_hand.text == whole and whole.count("\n") >= 1 and by_hand.hidden_by is None
    hidden = await make_completer(min_confidence=1.0).complete(request, "id-3")
    assert (hidden.text, hidden.hidden_by) == ("", "confidence")
    assert b'homespun_completions_total{outcome="hidden"} 1.0' in metrics.exposition()
    monkeypatch.setattr(services, "is_unsure", lambda logprobs, least: len(logprobs) > 7)
    trimmed = await make_completer().complete(request, "id-4")
    assert trimmed.text and whole.startswith(f"{trimmed.text}\n") and trimmed.hidden_by is None


async def test_how_likely_a_typed_word_was_says_nothing_about_what_follows(
    make_completer: MakeCompleter, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word may be spelled again in more tokens than it had in the file; the rest of them counted as the model's
    doubts, and of 108 places within words 40 were ended elsewhere for it."""
    counted, ids, add = list[int](), list[int](), Assembly.add

    def is_unsure(logprobs: Sequence[float], least: float) -> bool:
        counted.append(len(logprobs))
        return False

    def noting(assembly: Assembly, token: int) -> None:
        ids.append(token)
        add(assembly, token)

    monkeypatch.setattr(services, "is_unsure", is_unsure)
    monkeypatch.setattr(Assembly, "add", noting)
    for word in ("repositor", "anothe", "clie", "is_ove", "SHAR"):
        counted.clear()
        ids.clear()
        request = replace(REQUEST, prefix=f"def find():\n    return {word}", max_new_tokens=8)
        await make_completer().complete(request, word)
        spelled = [len(tokenizer.spelled[token] or b"") for token in ids]
        num_spelling = counted.count(0)
        assert sum(spelled[: num_spelling - 1]) < len(f" {word}") <= sum(spelled[:num_spelling])


async def test_too_many_at_once_are_refused_and_counted(make_completer: MakeCompleter, metrics: Metrics) -> None:
    completer = make_completer(target_ms=1_000_000)  # else the later ones would do without the model
    slow = dataclasses.replace(REQUEST, prefix="x = 1\n" * 300, max_new_tokens=64)
    jobs = [completer.complete(slow, str(n)) for n in range(60)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    refused = [r for r in results if isinstance(r, EngineBusyError)]
    assert refused and len(refused) < 60
    assert all(isinstance(r, Completion | EngineBusyError) for r in results)
    assert f'homespun_shed_total{{reason="queue"}} {len(refused)}.0'.encode() in metrics.exposition()


async def test_the_log_line_holds_no_code_and_no_path(
    make_completer: MakeCompleter, loom: LiveRepository, caplog: pytest.LogCaptureFixture, metrics: Metrics
) -> None:
    canary = "CANARY_secret_name"
    request = CompletionRequest(prefix=f"{canary} = ", suffix=f"\n{canary}", path=f"{canary}.py", repo=canary)
    with caplog.at_level(logging.DEBUG):
        await make_completer(loom).complete(request, "cmpl-7")
    lines = [TextLines().format(r) + JsonLines().format(r) for r in caplog.records]
    (line,) = [line for line in lines if "completion id=cmpl-7 repo=- adapter=- outcome=" in line]
    assert "prompt=" in line and '"prefill_ms": ' in line
    assert canary not in "".join(lines) and canary.encode() not in metrics.exposition()


async def test_a_prompt_never_exceeds_what_the_model_takes(make_completer: MakeCompleter) -> None:
    long = CompletionRequest(prefix="value = 1\n" * 3_000, suffix="value = 2\n" * 3_000, max_new_tokens=2)
    completion = await make_completer(max_prompt_tokens=100_000).complete(long, "id")
    assert 1_500 < completion.prompt_tokens <= 2_048 - 64


def test_settings_that_leave_no_room_for_a_prompt_are_refused(make_completer: MakeCompleter) -> None:
    with pytest.raises(ConfigError, match="max_new_tokens: 2000 leaves 48"):
        make_completer(max_new_tokens=2_000)


async def test_each_layer_is_explained_as_it_would_be_served(
    make_completer: MakeCompleter, loom: LiveRepository
) -> None:
    completer, told = make_completer(loom), list[CompletionFact]()
    recorded = make_completer(loom, record=told.append)
    request = dataclasses.replace(REQUEST, trigger="invoked")
    served = await completer.complete(request, "id-1")
    base, snippets, datastore, adapter = [await recorded.explain(request, layers) for layers in LADDER]
    assert base.completion.snippets == () and "loomworks/loom" not in "".join(p.text for p in base.prompt)
    plain = await make_completer(loom, mixing=False).complete(request, "id-2")
    assert snippets.completion.snippets == served.snippets and snippets.completion.text == plain.text
    assert datastore.completion.text == served.text
    assert adapter.completion.adapter is None and adapter.repository == "loom"
    assert served.snippets[0].text in "".join(piece.text for piece in snippets.prompt)
    assert told == [], "it is nobody's completion"


async def test_an_explanation_uses_nothing_from_before_and_leaves_nothing(
    make_completer: MakeCompleter, loom: LiveRepository
) -> None:
    completer = make_completer(loom)
    await completer.complete(REQUEST, "id-1")
    before = completer._attempts._recent.keys() - set()
    for _ in range(2):
        explained = await completer.explain(REQUEST, LADDER[2])
        assert explained.completion.cached_tokens == 0
    assert completer._attempts._recent.keys() == before
