"""Made-up users with a taste, the real store and the real model's arithmetic: what they take becomes likelier than what
they dismiss, and code isn't forgotten for it."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from homespun_core import registry, storage
from homespun_core.config import Settings
from homespun_core.errors import TooLittleCode
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles, SilentProgress
from homespun_server.database.opening import open_database
from homespun_server.feedback.facts import CompletionFact, Event
from homespun_server.feedback.kept import Kept
from homespun_server.feedback.store import FeedbackStore
from homespun_trainer import canaries, memory
from homespun_trainer.cli import shown
from homespun_trainer.intervals import Estimate
from homespun_trainer.job import Job
from homespun_trainer.learner import Learner, Plan
from homespun_trainer.lora import save_adapter
from homespun_trainer.preferences import tuning
from homespun_trainer.preferences.kto import Balance, Tuner, balanced, losses, mismatched
from homespun_trainer.preferences.rows import DISMISSED, TAKEN, Shown, before, elsewhere, preferences
from homespun_trainer.preferences.tuning import _fair, tune_by_preference, with_margin
from homespun_trainer.publishing import Outcome
from homespun_trainer.stacking import PEFT_FILES, read_plain_lora
from tests.trainer.test_pipeline import TinyEngine, corpus, make_job
from tests.trainer.tiny import BUILDER, CPU, TOKENIZER, make_model, make_stream

BELOW = "20200101-000000-00000000"
LIKED, DISLIKED = ("rows = load(x)", "total = sum(xs)"), ("lst__ = do(xs)", "tmp__ = go(xyz)")


@pytest.fixture(scope="module", autouse=True)
def short_run() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "ALTERNATIVES", 15)
        patch.setattr(canaries, "EVERY", 8)
        patch.setattr(tuning, "MIN_EACH", 20)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


def lived(files: ModelFiles, number: int) -> Iterator[tuple[CompletionFact, Kept, list[Event]]]:
    """People who take the one style and dismiss the other, in files of the corpus; now and then they err."""
    for n in range(number):
        is_liked, document = n % 3 == 0, f"m{n % 12}.py"
        text = (LIKED if is_liked else DISLIKED)[n % 2] + f"  # {n}"
        prompt = BUILDER.build(prefix=f"def f{n}(xs):\n    ", suffix="\n", path=document, repo="shop")
        id, at = f"cmpl-{n}", time.time() - 1_000 + n
        fact = CompletionFact(
            id=id,
            time=at,
            user=f"user{n % 7}",
            repository="shop-1",
            language="python",
            adapter=None,
            characters=len(text),
            first_line=len(text),
            latency_ms=100.0,
        )
        row = Kept(
            completion=id,
            time=at,
            repository="shop-1",
            paths=(document,),
            prompt="",
            ids=prompt.ids,
            opening=prompt.opening,
            text=text,
            base=files.digest,
            adapter=None,
        )
        said = [Event(completion=id, kind="shown", time=at, characters=0)]
        kind = "accepted" if is_liked != (n % 20 == 0) else "dismissed"
        said.append(Event(completion=id, kind=kind, time=at, characters=len(text) if kind == "accepted" else 0))  # type: ignore[arg-type]
        yield fact, row, said


def remembered(files: ModelFiles, data: DataDir, number: int) -> Sequence[Shown]:
    store = FeedbackStore(open_database("", data.database))
    facts, rows, said = zip(*lived(files, number), strict=True)
    store.write([*facts, *(event for events in said for event in events)], rows)
    store.close()
    return shown(Settings(), data, "shop-1")


def tuned(job: Job, found: Sequence[Shown]) -> Outcome:
    @contextmanager
    def engine() -> Iterator[TinyEngine]:
        yield TinyEngine(job.files)

    return tune_by_preference(job, found, open_engine=engine, progress=SilentProgress())


@pytest.fixture(scope="module")
def first(files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Outcome]:
    """With an adapter that is live already."""
    job = make_job(files, tmp_path_factory.mktemp("data"), corpus(), learning_rate=1e-3, train_minutes=1.0)
    learner = Learner(Plan(files=files, placement=CPU, method="lora", rank=4, seed=0, parent=None))
    weights = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in learner.masters.copy().items()}
    sources = {"base_model": files.digest}
    with registry.publish_adapter(job.adapters / BELOW, fingerprint="f", sources=sources, report={}) as folder:
        save_adapter(learner.model, weights, files.name, folder)
    registry.promote(job.adapters, BELOW)
    (job.run / "of a training that was interrupted").mkdir(parents=True)
    return job, tuned(job, remembered(files, job.data, 180))


def test_what_users_take_becomes_likelier_than_what_they_dismiss(first: tuple[Job, Outcome]) -> None:
    facts = first[1].report["preferences"]
    assert facts["taken"] + facts["dismissed"] == 180 and 20 < facts["held_out"] < 80
    assert facts["margin"]["low"] > 1.0, "nats, on completions that it didn't learn from"


def test_code_that_is_held_out_gets_not_surely_worse_than_with_the_adapter_below(first: tuple[Job, Outcome]) -> None:
    change = first[1].report["differences"]["adapter+retrieval - live+retrieval"]["bits_per_byte"]
    assert change["low"] <= 0, change


def test_it_stands_on_the_live_adapter_and_goes_live_by_the_gate_alone(first: tuple[Job, Outcome]) -> None:
    job, outcome = first
    (below,) = outcome.report["training"]["parents"]
    assert below["name"] == BELOW and read_plain_lora(outcome.path).rank == 4 + 8
    live = registry.live(job.adapters)
    assert live is not None and live.version == (outcome.version if outcome.report["promote"] else BELOW)


def test_a_training_that_was_interrupted_can_still_go_on(first: tuple[Job, Outcome]) -> None:
    assert [path.name for path in first[0].run.iterdir()] == ["of a training that was interrupted"]


def test_the_same_rows_make_no_second_adapter(first: tuple[Job, Outcome]) -> None:
    job, outcome = first
    again = tuned(job, shown(Settings(), job.data, "shop-1"))
    assert (again.version, again.is_new) == (outcome.version, False)


def test_one_turned_down_against_what_is_gone_is_judged_again_without_tuning(
    first: tuple[Job, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said to be there already, whatever had become of the adapter that it had lost to."""
    shutil.copytree(first[0].data.root, tmp_path, dirs_exist_ok=True)
    job = replace(first[0], data=DataDir(tmp_path))
    made, found = job.adapters / first[1].version, shown(Settings(), job.data, "shop-1")
    manifest = storage.read_manifest(made, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
    loser, lost = registry.new_version("f", job.adapters), {"promote": False, "control_adapter": "shop-1/gone"}
    with registry.publish_adapter(
        job.adapters / loser,
        fingerprint=manifest.fingerprint,
        sources=manifest.sources,
        report={**first[1].report, **lost},
    ) as folder:
        for name in PEFT_FILES:
            shutil.copy(made / name, folder / name)
    monkeypatch.setattr(tuning, "tune", None)
    again = tuned(job, found)
    assert again.is_new and again.report["control_adapter"] == f"shop-1/{storage.current(job.adapters).name}"  # type: ignore[union-attr]
    assert [again.report[name] for name in ("training", "preferences")] == [
        first[1].report[name] for name in ("training", "preferences")
    ]
    assert not tuned(job, found).is_new


def test_a_margin_that_does_not_surely_rise_is_a_no_whatever_the_gate_says() -> None:
    yes = {"promote": True, "reasons": ["better"]}
    sure, unsure, unknown = (Estimate(value=1.0, low=low, high=2.0).as_json() for low in (0.1, -0.1, -math.inf))
    assert with_margin(yes, sure)["promote"]
    for margin in (unsure, unknown):
        told = with_margin(yes, margin)
        assert not told["promote"] and "not surely likelier" in told["reasons"][-1]
    assert not with_margin({"promote": False, "reasons": []}, sure)["promote"]


def test_too_few_rows_are_refused_with_both_numbers(files: ModelFiles, tmp_path: Path) -> None:
    job = make_job(files, tmp_path, corpus())
    with pytest.raises(TooLittleCode, match=r"1\d completions .* and \d\d .*, of 45 kept"):
        tuned(job, remembered(files, job.data, 45))
    assert registry.newest(job.adapters) is None


def row(**changes: Any) -> Shown:
    values: dict[str, Any] = {
        "id": "a",
        "time": 0.0,
        "base": "b",
        "paths": ("m0.py", "m1.py"),
        "ids": (257, 120),
        "opening": "pa",
        "text": "y(order)\nnext()",
        "accepted_characters": 15,
        "kept_characters": 15,
        "is_dismissed": False,
    }
    return Shown(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, TAKEN),
        ({"accepted_characters": 8, "kept_characters": 8}, TAKEN),
        ({"kept_characters": 4}, TAKEN),
        ({"kept_characters": 0}, None),
        ({"accepted_characters": 0, "is_dismissed": True}, DISMISSED),
        ({"accepted_characters": 0}, None),
        ({"base": "other"}, None),
        ({"paths": ("m0.py", "left-out.py")}, None),
        ({"text": "session.fetch_all(ORDERS)"}, None),
    ],
)
def test_what_is_learned_of_a_completion(changes: dict[str, Any], kind: str | None) -> None:
    """Not what is of another model, of a file that isn't in the corpus, or a line that it will be judged on. What was
    taken and then changed counts whole: which of its characters still stand isn't known."""
    of = corpus()
    found = preferences([row(**changes)], "b", TOKENIZER, of.documents, of.tasks)
    assert [preference.example.kind for preference in found] == ([kind] if kind else [])
    if kind == TAKEN:
        example = found[0].example
        accepted = row(**changes).text[: row(**changes).accepted_characters]
        assert TOKENIZER.decode(example.ids[example.prompt_tokens :]) == f"pa{accepted}"


def test_what_shows_a_file_that_is_judged_in_is_learned_only_if_it_is_older_than_that() -> None:
    """Completions of the very commits that it was asked about were learned: they counted as its own gain."""
    of = corpus()
    tasks = [replace(of.tasks[0], path="m1.py")]
    made = {"old": (5.0, "m0.py", "m1.py"), "itself": (15.0, "m1.py"), "shown": (15.0, "m0.py", "m1.py")}
    made["apart"] = (15.0, "m0.py", "m2.py")
    rows = [row(id=id, time=at, paths=tuple(paths)) for id, (at, *paths) in made.items()]
    found = preferences(rows, "b", TOKENIZER, of.documents, tasks)
    assert len(found) == 4
    assert [each.id for each in before(found, 10.0)] == ["old"]
    assert [each.id for each in elsewhere(found, 10.0, tasks)] == ["old", "apart"]


@pytest.mark.parametrize(
    ("num_old", "split", "num_used"), [(60, "time", 60), (57, "time", 57 + 60), (60, "files", 60 + 120)]
)
def test_newer_completions_are_used_only_where_the_older_are_too_few(
    files: ModelFiles, tmp_path: Path, num_old: int, split: str, num_used: int
) -> None:
    """Whatever they show, where whole files are held out: none of these is in the corpus, and so in none of them."""
    of = corpus()
    cut = {"cut_time": "1970-01-01T00:00:10Z"}
    asked = [replace(task, path="m1.py") for task in of.tasks]
    of = replace(of, sources={"split": split}, report={**of.report, **cut}, tasks=asked)
    job = make_job(files, tmp_path, of)
    liked, disliked = {"kept_characters": 9}, {"accepted_characters": 0, "is_dismissed": True}
    rows = [row(id=f"o{n}", time=5.0, **(liked if n % 3 == 0 else disliked)) for n in range(num_old)]
    rows += [row(id=f"n{n}", time=15.0, paths=("m0.py", f"m{1 + n % 2}.py"), **liked) for n in range(120)]
    found = preferences(rows, "b", TOKENIZER, of.documents, of.tasks)
    assert len(_fair(job, found)) == num_used


def test_the_loss_pulls_the_two_kinds_apart_and_weighs_them_alike() -> None:
    balance = balanced(50, 200)
    assert balance == Balance(taken=4.0, dismissed=1.0)
    ratios = torch.zeros(2, requires_grad=True)
    losses(ratios, torch.tensor([True, False]), torch.tensor(0.0), balance).sum().backward()
    assert ratios.grad is not None
    taken, dismissed = ratios.grad.tolist()
    assert taken < 0 < dismissed and abs(taken) == pytest.approx(4 * dismissed)


def test_before_the_first_step_nothing_has_become_likelier(files: ModelFiles) -> None:
    plan = Plan(files=files, placement=CPU, method="lora", rank=4, seed=0, parent=None)
    examples = make_stream().batch(0, 4)
    tuner = Tuner(plan, balanced(1, 1))
    assert tuner.ratios(examples).abs().max() == 0
    moved = [example.ids[: example.prompt_tokens] for example in mismatched(examples)]
    assert moved == [example.ids[: example.prompt_tokens] for example in examples]
