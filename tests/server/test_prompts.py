"""Completions of users who try another prompt, by the real engine on an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.fim import FimFormat
from homespun_core.prompt_versions import PLAIN, PromptVersion
from homespun_core.types import CompletionRequest, ModelFiles, Snippet, Tokenizer
from homespun_server.console import playground
from homespun_server.engine.jobs import EngineStream
from homespun_server.engine.protocol import EngineRequest
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.explained import LADDER
from homespun_server.feedback.facts import CompletionFact
from homespun_server.live import LiveRepository
from homespun_server.metrics import Metrics
from homespun_server.rollout.prompts import Trial
from homespun_server.services import Completer
from tests.server.test_http import Started
from tests.server.test_services import PREFIX, REQUEST, Live

NONE = PromptVersion(name="none", changes={"retrieval": False, "editor_context": False})
SHORT = PromptVersion(name="short", changes={"max_prompt_tokens": 128})
SENT = (Snippet(path="open.py", start_line=1, text="WEAVING = 'by hand'\n", score=0.0, source="editor"),)
ASKED = replace(REQUEST, max_new_tokens=4)


def user_of(trial: Trial, arm: str) -> str:
    return next(user for user in (f"user {i}" for i in range(100)) if trial.drawn(user) == arm)


@dataclass
class Asking:
    """A completer, what its engine was asked and what is remembered."""

    completer: Completer
    trial: Trial
    asked: list[EngineRequest] = field(default_factory=list)
    facts: list[CompletionFact] = field(default_factory=list)

    async def prompt(self, request: CompletionRequest, user: str | None) -> Sequence[int]:
        await self.completer.complete(replace(request, user=user), "id")
        return self.asked[-1].ids


MakeAsking = Callable[..., Asking]


@pytest.fixture
def asking(
    engine: TorchEngine,
    tokenizer: Tokenizer,
    fim: FimFormat,
    loom: LiveRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[MakeAsking]:
    made: list[Asking] = []
    submit = engine.submit

    def make(*tried: PromptVersion, **changes: int) -> Asking:
        trial, facts = Trial(tried), list[CompletionFact]()
        completer = Completer(
            engine=engine,
            tokenizer=tokenizer,
            format=fim,
            repositories=Live((loom,)),
            settings=Settings(retrieve_deadline_ms=5_000, completion_deadline_ms=60_000, target_ms=60_000, **changes),  # type: ignore[arg-type]
            metrics=Metrics(),
            record=facts.append,
            trial=trial,
        )
        found = Asking(completer, trial, facts=facts)

        def heard(asked: EngineRequest) -> EngineStream:
            found.asked.append(asked)
            return submit(asked)

        monkeypatch.setattr(engine, "submit", heard)
        made.append(found)
        return found

    yield make
    for one in made:
        one.completer.close()


@pytest.mark.parametrize(
    ("version", "settings"),
    [(NONE, {"retrieval": False, "editor_context": False}), (SHORT, {"max_prompt_tokens": 128})],
)
async def test_a_version_s_prompt_is_the_one_that_its_settings_would_make_for_everybody(
    asking: MakeAsking, version: PromptVersion, settings: dict[str, int]
) -> None:
    request, tried = replace(ASKED, snippets=SENT), asking(version)
    theirs = await tried.prompt(request, user_of(tried.trial, version.name))
    others = await tried.prompt(request, user_of(tried.trial, PLAIN))
    assert others == await asking().prompt(request, "somebody") != theirs
    assert theirs == await asking(**settings).prompt(request, "somebody")


async def test_what_is_remembered_says_which_prompt_it_was(asking: MakeAsking) -> None:
    tried = asking(NONE)
    for user in (user_of(tried.trial, "none"), user_of(tried.trial, PLAIN), None):
        await tried.prompt(ASKED, user)
    assert [f.prompt_version for f in tried.facts] == [tried.trial.mark("none"), tried.trial.mark(PLAIN), None]
    untried = asking()
    await untried.prompt(ASKED, "somebody")
    assert [f.prompt_version for f in untried.facts] == [None]


async def test_snippets_that_stay_at_a_place_are_not_those_of_another_version(asking: MakeAsking) -> None:
    """Without accounts, everybody in a repository is one tenant, and a place is known by its file."""
    one = PromptVersion(name="one", changes={"snippet_count": 1})
    tried = asking(one, snippet_count=3)
    first = await tried.completer.complete(replace(ASKED, user=user_of(tried.trial, "one")), "id")
    then = await tried.completer.complete(replace(ASKED, user=user_of(tried.trial, PLAIN)), "id")
    again = await tried.completer.complete(replace(ASKED, user=user_of(tried.trial, "one")), "id")
    assert len(first.snippets) < len(then.snippets) and again.snippets == first.snippets
    assert not then.degraded


async def test_a_place_is_prepared_with_the_prompt_that_is_asked_for_next(asking: MakeAsking) -> None:
    tried = asking(SHORT, NONE)
    for arm in tried.trial.names:
        user = user_of(tried.trial, arm)
        prepared = await tried.prompt(replace(ASKED, max_new_tokens=0), user)
        completion = await tried.completer.complete(replace(ASKED, user=user), "id")
        assert tried.asked[-1].ids == prepared
        assert completion.cached_tokens == completion.prompt_tokens - 1


async def test_an_explanation_names_the_version_of_who_asks(asking: MakeAsking) -> None:
    tried = asking(SHORT)
    request = replace(ASKED, user=user_of(tried.trial, "short"))
    theirs, untried = (
        await tried.completer.explain(request, LADDER[1]),
        await asking().completer.explain(ASKED, LADDER[1]),
    )
    assert theirs.completion.prompt_tokens <= 128 and "short" in str(playground.compared([theirs]))
    said = [playground.as_json(ASKED, [explained])["prompt_version"] for explained in (theirs, untried)]
    assert said == ["short", None] and "prompt version" not in str(playground.compared([untried]))


async def test_a_version_is_never_longer_than_the_model_s_context(asking: MakeAsking) -> None:
    long = PromptVersion(name="long", changes={"max_prompt_tokens": 1_000_000})
    tried = asking(long)
    prompt = await tried.prompt(replace(ASKED, prefix=PREFIX * 400), user_of(tried.trial, "long"))
    assert 960 < len(prompt) < 1_000_000


def test_where_nothing_is_remembered_no_version_can_be_tried(builtin: ModelFiles, tmp_path: Path) -> None:
    started = Started(Settings(data_dir=str(tmp_path), feedback_days=0), builtin, prompts=[SHORT])
    assert started.loaded.wait(60) and started.runtime.error is not None
    assert "set feedback_days above 0, or take [[prompt]] out" in started.runtime.error
    started.runtime.close()
