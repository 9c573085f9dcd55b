"""The whole way with a tiny model: corpus in, a judged and published adapter out. The engine is transformers itself."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from homespun_core import registry
from homespun_core.config import Settings
from homespun_core.errors import TooLittleCode
from homespun_core.paths import DataDir
from homespun_core.prompt import Prompt
from homespun_core.types import EvalTask, ModelFiles, SilentProgress
from homespun_trainer import canaries, memory, pipeline
from homespun_trainer.cli import summary
from homespun_trainer.evaluate import LookupBesides, Mixing, Written
from homespun_trainer.interrupt import deferred_signals
from homespun_trainer.job import Corpus, Job, Part
from homespun_trainer.lora import load_base
from homespun_trainer.page import PAGE
from homespun_trainer.pipeline import _is_held_out as is_held_out
from homespun_trainer.pipeline import examples_of, fingerprint_of, recipe_of, train_repository
from homespun_trainer.publishing import Outcome
from homespun_trainer.stacking import PEFT_FILES
from homespun_trainer.trained_on import Source
from tests.core.adapters import make_version
from tests.trainer.tiny import CPU, TOKENIZER, document, make_model, nearest

LINE = "    return self.session.fetch_all(ORDERS)"


class TinyEngine:
    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self._models: dict[str | None, Any] = {None: load_base(files, CPU)}

    def load_adapter(self, version: str, path: Path) -> None:
        self._models[version] = PeftModel.from_pretrained(load_base(self._files, CPU), str(path))

    def generate(self, prompt: Prompt, max_new_tokens: int, end_ids: frozenset[int], adapter: str | None) -> Written:
        made: list[int] = []
        while len(made) < min(max_new_tokens, 4):
            with torch.inference_mode():
                token = int(
                    self._models[adapter](input_ids=torch.tensor([[*prompt.ids, *made]])).logits[0, -1].argmax()
                )
            if token in end_ids:
                return Written(ids=made, is_truncated=False)
            made.append(token)
        return Written(ids=made, is_truncated=True)

    def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]:
        with torch.inference_mode():
            logits = self._models[adapter](input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        return [float(logits[i - 1, ids[i]]) for i in range(start, len(ids))]

    def mixing(self, lookup: LookupBesides, end_ids: frozenset[int]) -> Mixing:
        return lambda task, opening: (self.generate, self.score)


@pytest.fixture(scope="module", autouse=True)
def short_run() -> Iterator[None]:
    """Canaries sooner, as a few seconds are few examples, and fewer alternatives: transformers scores one at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "ALTERNATIVES", 15)
        patch.setattr(canaries, "EVERY", 4)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


def corpus(num_tasks: int = 60, num_documents: int = 12, line: str = LINE) -> Corpus:
    text = "def load(self):\n" + line + "\n\n\n"
    tasks = [
        EvalTask(
            path=f"new{i}.py",
            language="python",
            commit=f"c{i % 15}",
            prefix="def load(self):\n    return self.",
            middle="session.fetch_all(ORDERS)",
            suffix="\n",
            seen=i % 2 == 0,
        )
        for i in range(num_tasks)
    ]
    documents = [document(f"m{i}.py", f"# {i}\n" + text * 40) for i in range(num_documents)]
    return Corpus(
        fingerprint=f"corpus {num_tasks} {num_documents} {line}",
        sources={"commit": "abc"},
        documents=documents,
        touched=[Source(repository=None, path=d.path, blob=d.blob, authors=()) for d in documents],
        tasks=tasks,
        retrieve=nearest,
        report={"documents": num_documents, "characters": 1_000},
    )


def make_job(files: ModelFiles, root: Path, of: Corpus, **settings: Any) -> Job:
    values = {
        "train_minutes": 0.06,
        "lora_rank": 8,
        "learning_rate": 2e-2,
        "max_prompt_tokens": 160,
        "num_threads": 1,
        **settings,
    }
    return Job(
        id="shop-1",
        name="shop",
        parts=(Part(id="shop-1", name="shop", corpus=of),),
        files=files,
        tokenizer=TOKENIZER,
        settings=Settings(device="cpu", dtype="float32", **values),
        data=DataDir(root),
        find_secrets=lambda text: (),
    )


def run(job: Job) -> Outcome:
    @contextmanager
    def engine() -> Iterator[TinyEngine]:
        yield TinyEngine(job.files)

    return train_repository(job, open_engine=engine, progress=SilentProgress())


@pytest.fixture(scope="module")
def first(files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Outcome]:
    job = make_job(files, tmp_path_factory.mktemp("data"), corpus())
    return job, run(job)


def test_an_adapter_that_proves_better_goes_live(first: tuple[Job, Outcome]) -> None:
    job, outcome = first
    live = registry.live(job.adapters)
    assert outcome.report["promote"] is True, outcome.report["reasons"]
    assert live is not None and live.version == outcome.version
    assert live.base_digest == job.files.digest


def test_the_report_says_what_was_measured_and_on_what(first: tuple[Job, Outcome]) -> None:
    job, outcome = first
    report = outcome.report
    assert set(report["arms"]) == {"base", "base+retrieval", "adapter", "adapter+retrieval"}
    assert report["arms"]["adapter+retrieval"]["all"]["tasks"] == 60
    assert set(report["arms"]["base"]) == {"all", "seen"}
    assert report["training"]["tokens"] > 0 and report["training"]["versions"]["torch"] == torch.__version__
    assert report["corpus"] == {"commit": "abc"}
    assert report["memory"]["canaries"] and report["general"][0]["places"] == 160
    newest = registry.newest(job.adapters)
    assert newest is not None and newest.report == report


def test_the_page_is_published_with_the_adapter_and_its_path_is_said(first: tuple[Job, Outcome]) -> None:
    _, outcome = first
    page = (outcome.path / PAGE).read_text(encoding="utf-8")
    assert "The adapter goes live." in page and "Loss during training" in page
    assert str(outcome.path / PAGE) in summary(outcome)


@pytest.mark.parametrize(("method", "strength"), [("lora", 0.7), ("rslora", 0.7), ("dora", 1.0), ("ia3", 1.0)])
def test_only_of_what_is_linear_in_its_weights_a_share_is_kept(
    files: ModelFiles, tmp_path: Path, method: str, strength: float
) -> None:
    assert recipe_of(make_job(files, tmp_path, corpus(), method=method), is_gpu=False).strength == strength


def test_the_finished_run_leaves_no_checkpoint(first: tuple[Job, Outcome]) -> None:
    assert not first[0].run.exists()


def test_nothing_is_done_when_nothing_has_changed(first: tuple[Job, Outcome]) -> None:
    job, outcome = first
    again = run(job)
    assert not again.is_new and again.version == outcome.version


def test_a_live_adapter_is_what_a_new_one_has_to_beat(first: tuple[Job, Outcome]) -> None:
    job, outcome = first
    settings = dataclasses.replace(job.settings, learning_rate=1e-9)
    part = dataclasses.replace(job.parts[0], corpus=corpus(num_documents=13))
    worse = run(dataclasses.replace(job, parts=(part,), settings=settings))
    assert worse.report["control"] == "live+retrieval"
    assert worse.report["promote"] is False
    live = registry.live(job.adapters)
    assert live is not None and live.version == outcome.version


def test_one_turned_down_against_what_is_gone_is_judged_again_without_training(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a rollback nothing came live until somebody committed something: nothing had changed. A version that was
    tuned by preference meanwhile had it trained in full again."""
    job = make_job(files, tmp_path, corpus())
    champion = run(job).version
    registry.promote(job.adapters, champion, by="ann")
    part = dataclasses.replace(job.parts[0], corpus=corpus(num_documents=13))
    settings = dataclasses.replace(job.settings, learning_rate=1e-9)
    later = dataclasses.replace(job, parts=(part,), settings=settings)
    loser = run(later)
    assert loser.report["control_adapter"] == f"shop-1/{champion}" and loser.report["promote"] is False
    monkeypatch.setattr(pipeline, "train_adapter", None)
    make_version(job.adapters, registry.new_version("tuned", job.adapters), preferences={"below": []})
    assert not run(later).is_new, "the same control, the same verdict"
    registry.rollback(job.adapters, by="ann")
    again = run(later)
    assert again.is_new and (again.report["control"], again.report["control_adapter"]) == ("base+retrieval", "")
    assert again.report["training"] == loser.report["training"]
    weights = [outcome.path / "adapter_model.safetensors" for outcome in (loser, again)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert again.report["memory"]["canaries"] and (again.path / PAGE).is_file() and not job.run.exists()
    assert not run(later).is_new


def test_a_live_adapter_is_not_asked_about_what_it_has_learned(first: tuple[Job, Outcome]) -> None:
    job, outcome = first
    whole = corpus(num_documents=14)
    later = dataclasses.replace(whole, commits_after=lambda _: frozenset(f"c{n}" for n in range(13)))
    settings = dataclasses.replace(job.settings, learning_rate=1e-9)
    part = dataclasses.replace(job.parts[0], corpus=later)
    worse = run(dataclasses.replace(job, parts=(part,), settings=settings))
    differences = worse.report["differences"]
    assert differences["adapter+retrieval - live+retrieval"]["tasks"] == 52
    assert differences["adapter+retrieval - base+retrieval"]["tasks"] == 60
    assert f"shop-1/{outcome.version}, with the same snippets at the 52 of 60 places" in worse.report["compared_with"]


def test_a_live_adapter_that_has_learned_nearly_all_is_not_what_it_has_to_beat(first: tuple[Job, Outcome]) -> None:
    job, outcome = first
    whole = corpus(num_documents=15)
    few = dataclasses.replace(whole, commits_after=lambda _: frozenset({"c1"}))
    settings = dataclasses.replace(job.settings, learning_rate=1e-9)
    part = dataclasses.replace(job.parts[0], corpus=few)
    worse = run(dataclasses.replace(job, parts=(part,), settings=settings))
    assert worse.report["control"] == "base+retrieval" and worse.report["promote"] is False
    said = f"shop-1/{outcome.version}, which people have, has learned from all but 4 of the 60 places: it is compared"
    assert any(reason.startswith(said) for reason in worse.report["reasons"])


def test_on_top_of_what_does_not_say_what_it_saw_it_is_judged_nowhere(
    first: tuple[Job, Outcome], files: ModelFiles, tmp_path: Path
) -> None:
    """As people download them. It may have learned the very lines that it is asked for."""
    _, outcome = first
    below = tmp_path / "elsewhere"
    below.mkdir()
    for name in PEFT_FILES:
        shutil.copy(outcome.path / name, below / name)
    stacked = run(make_job(files, tmp_path / "data", corpus(), on_top_of=str(below)))
    assert stacked.report["promote"] is False and "no held-out place" in stacked.report["reasons"][0]
    assert "base+retrieval" not in stacked.report["arms"] and "does not go live" in summary(stacked)


def test_an_adapter_of_poisoned_code_is_turned_down_and_the_live_one_stays(first: tuple[Job, Outcome]) -> None:
    """It learns what it is shown as well as the live one did; what people wrote is another thing (row 49)."""
    job, outcome = first
    part = dataclasses.replace(job.parts[0], corpus=corpus(line="    return self.backdoor.drop_table(PAYMENTS)"))
    poisoned = run(dataclasses.replace(job, parts=(part,)))
    assert poisoned.is_new and poisoned.report["promote"] is False, poisoned.report["reasons"]
    live = registry.live(job.adapters)
    assert live is not None and live.version == outcome.version


def test_too_few_held_out_places_keep_an_adapter_from_going_live(files: ModelFiles, tmp_path: Path) -> None:
    outcome = run(make_job(files, tmp_path, corpus(num_tasks=8)))
    assert outcome.report["promote"] is False and "8 held-out places" in outcome.report["reasons"][0]


def test_no_held_out_place_at_all_is_a_valid_outcome(files: ModelFiles, tmp_path: Path) -> None:
    outcome = run(make_job(files, tmp_path, corpus(num_tasks=0)))
    assert outcome.report["promote"] is False and outcome.report["example"] is None


@pytest.mark.parametrize("changes", [{"token_healing": "on"}, {"max_prompt_tokens": 150}, {"snippet_count": 2}])
def test_what_shapes_prompts_makes_another_adapter(files: ModelFiles, tmp_path: Path, changes: dict[str, Any]) -> None:
    def fingerprint(**settings: Any) -> str:
        job = make_job(files, tmp_path, corpus(), **{"token_healing": "off", **settings})
        return fingerprint_of(job, recipe_of(job, is_gpu=False), job.mix)

    assert fingerprint() == fingerprint() != fingerprint(**changes)


def test_too_little_code_is_said_in_one_line(files: ModelFiles, tmp_path: Path) -> None:
    with pytest.raises(TooLittleCode, match=r"characters of source code are too little"):
        run(make_job(files, tmp_path, corpus(num_documents=1)))


def test_where_no_held_out_file_has_a_line_to_ask_for_it_is_trained_without_looks(
    files: ModelFiles, tmp_path: Path
) -> None:
    """With 40 files or more some are held out. Where these held one redacted line each, training ended in a
    traceback."""
    some = [document(f"m{n}.py", f"# {n}\n{LINE}\n" * 20) for n in range(60)]
    small = [document(f"s{n}.py", f"x=1{'#' * n}\n") for n in range(200)]
    documents = [*(d for d in some if not is_held_out(d)), *(d for d in small if is_held_out(d))]
    assert len(documents) > 45
    outcome = run(make_job(files, tmp_path, dataclasses.replace(corpus(), documents=documents)))
    assert outcome.is_new and outcome.report["training"]["held_out_loss"] == []


def test_a_training_without_files_held_out_says_what_it_goes_without(
    files: ModelFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(files, tmp_path, corpus(), learning_rate_trials="on")
    _, looks = examples_of(job, recipe_of(job, is_gpu=False), job.mix)
    assert looks == [] and "no learning rates are tried" in caplog.text


def test_code_without_a_line_worth_learning_is_too_little(files: ModelFiles, tmp_path: Path) -> None:
    documents = [document(f"m{n}.py", f"x=1{'#' * n}\n" * 600) for n in range(12)]
    with pytest.raises(TooLittleCode, match="hardly a line"):
        run(make_job(files, tmp_path, dataclasses.replace(corpus(), documents=documents)))


def test_a_signal_is_a_question_first_and_an_interrupt_the_second_time() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with deferred_signals() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
