"""Somebody's own adapter, with a tiny model: of their lines alone, on top of everybody's, gone when taken back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from homespun_core import personal, registry, storage
from homespun_core.errors import ModelError
from homespun_core.paths import DataDir
from homespun_core.personal import Wish, WithdrawnError
from homespun_core.types import Document, ModelFiles
from homespun_indexer.forgotten import Forgotten
from homespun_trainer import canaries, cli, general, memory, own, page
from homespun_trainer.cli import preparing
from homespun_trainer.examples import ExampleStream
from homespun_trainer.forget.effects import effects, known_repositories, take_away
from homespun_trainer.job import Job
from homespun_trainer.lora import Masters, attach, load_base, save_adapter
from homespun_trainer.methods import peft_config
from homespun_trainer.pipeline import recipe_of
from homespun_trainer.train import TrainingInterruptedError
from tests.trainer.test_pipeline import corpus, make_job, run
from tests.trainer.test_shared import part, shared
from tests.trainer.tiny import BUILDER, CPU, TOKENIZER, make_model, nearest

ADA = Wish(user="u1", name="ada", authors=("00",), since=1.0)
ID = personal.personal_id("u1", "shop-1")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ALTERNATIVES", 15)
    monkeypatch.setattr(canaries, "EVERY", 4)
    monkeypatch.setattr(general, "general_tasks", lambda library, places: [])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


def owned(job: Job, wish: Wish = ADA) -> Job:
    """The job that `homespun train shop --for ada` makes of what there is."""
    part = job.parts[0]
    whole = [(0, len(d.text.split("\n")) - 1) for d in part.corpus.documents]
    documents = [dataclasses.replace(d, recent=(r,)) for d, r in zip(part.corpus.documents, whole, strict=True)]
    part = dataclasses.replace(part, corpus=dataclasses.replace(part.corpus, documents=documents))
    return dataclasses.replace(
        job,
        id=ID,
        name="shop for u1",
        parts=(part,),
        mix=own.OWN_LINES,
        beneath=own.beneath(job.data, "shop-1", job.files.digest, wish),
        wish=wish,
    )


def wanted(job: Job) -> Job:
    personal.want(job.data, ADA)
    return job


def test_nothing_but_own_lines_is_ever_a_target() -> None:
    text = "".join(f"def other_{i}(argument):\n    return theirs(argument, {i})\n" for i in range(40))
    text += "def own(argument):\n    return mine(argument, 7)\n" + text
    lines = text.split("\n")
    document = Document(path="a.py", language="python", blob="b", text=text, recent=((80, 81),))
    assert lines[80].startswith("def own")
    stream = ExampleStream([document], builder=BUILDER, repo="r", seed=3, retrieve=nearest, mix=own.OWN_LINES)
    for example in stream.batch(0, 60):
        learned = [i for i, weight in zip(example.ids, example.weights, strict=True) if weight]
        written = TOKENIZER.decode([i for i in learned if i < 256])
        assert written and "other" not in written and "theirs" not in written


def test_it_stands_on_everybodys_and_has_to_beat_it(files: ModelFiles, tmp_path: Path) -> None:
    job = make_job(files, tmp_path, corpus())
    below = run(job)
    registry.promote(job.adapters, below.version, by="ann")  # where the machine had time for too few steps
    outcome = run(wanted(owned(job)))
    assert outcome.report["control"] == "live+retrieval"
    said = f"ompared with the adapter that people have, shop-1/{below.version}, with the same snippets"
    assert said in (outcome.path / page.PAGE).read_text() and said in registry.model_card_of(outcome.path)
    made = registry.load_adapter(outcome.path)
    assert outcome.path.parent == job.data.adapters(ID)
    assert made.on_top_of == f"shop-1/{below.version}" and made.repositories == {"shop-1"}
    (found,) = effects(job.data, [ID], Forgotten(repository="shop-1", path="m1.py"))
    assert found.adapters == (outcome.path,), "forgetting finds it by the repository"
    assert ID in known_repositories(job.data)


def test_what_it_has_seen_through_a_team_adapter_is_forgotten_with_it(files: ModelFiles, tmp_path: Path) -> None:
    team = shared(make_job(files, tmp_path, corpus()), part("shop"), part("web"))
    below = run(team)
    registry.promote(team.adapters, below.version, by="ann")
    job = make_job(files, tmp_path, corpus())
    assert owned(job).beneath is None, "as long as nobody knows what she may read"
    ada = dataclasses.replace(ADA, may_have=("@team", "shop-1", "web-1"))
    outcome = run(wanted(owned(job, ada)))
    made = registry.load_adapter(outcome.path)
    assert made.on_top_of == f"@team/{below.version}" and made.repositories == {"shop-1", "web-1"}
    registry.promote(outcome.path.parent, outcome.version, by="ann")
    request = Forgotten(repository="web-1", path="web/m1.py")
    found = effects(job.data, known_repositories(job.data), request)
    assert {e.repository: e.adapters for e in found} == {ID: (outcome.path,), "@team": (below.path,)}
    for effect in found:
        take_away(job.data, effect)
    assert registry.live(job.data.adapters(ID)) is None and not outcome.path.exists()


def below_of(files: ModelFiles, job: Job, method: str) -> None:
    """A live adapter of the repository."""
    model = load_base(files, CPU)
    model = attach(model, peft_config(method, 4, model))
    version = job.adapters / "v1"
    with registry.publish_adapter(version, fingerprint="f", sources={"base_model": files.digest}, report={}) as folder:
        save_adapter(model, Masters(model).copy(), files.name, folder)
    storage.set_current(job.adapters, "v1")


@pytest.mark.parametrize(("method", "made"), [("dora", "lora"), ("ia3", "lora"), ("rslora", "rslora")])
def test_the_settings_of_everybodys_adapter_do_not_stop_it(
    files: ModelFiles, tmp_path: Path, method: str, made: str
) -> None:
    """With `nf4` it was refused, and with `dora` as well, but only after it had been trained."""
    job = make_job(files, tmp_path, corpus(), method=method, base_format="nf4")
    below_of(files, job, "lora")
    recipe = recipe_of(owned(job), is_gpu=False)
    assert (recipe.method, recipe.base_format) == (made, "full")
    with pytest.raises(TrainingInterruptedError):  # nobody wants it, which is looked at once training has begun
        run(owned(job))


def test_on_top_of_what_can_have_nothing_on_top_it_is_refused_before_it_is_trained(
    files: ModelFiles, tmp_path: Path
) -> None:
    job = make_job(files, tmp_path, corpus())
    below_of(files, job, "dora")
    with pytest.raises(ModelError, match=r"v1 is no plain LoRA or rsLoRA \(use_dora is set\).* --method lora") as said:
        run(wanted(owned(job)))
    assert not str(said.value).startswith("on_top_of:"), "nobody set that"


def test_taken_back_while_it_is_trained_it_ends_without_an_adapter(files: ModelFiles, tmp_path: Path) -> None:
    job = owned(make_job(files, tmp_path, corpus()))
    with pytest.raises(TrainingInterruptedError):
        run(job)
    assert not job.adapters.exists()


@pytest.mark.parametrize("is_wanted_again", [False, True])
def test_taken_back_while_it_is_judged_nothing_is_published(
    files: ModelFiles, tmp_path: Path, is_wanted_again: bool
) -> None:
    """Nor if it was asked for again since: what ends then was made for a wish that is over."""
    job = owned(make_job(files, tmp_path, corpus()))

    wrote = page.write

    def write(*args: Any) -> None:
        wrote(*args)
        personal.take_back(job.data, "u1")
        if is_wanted_again:
            personal.want(job.data, dataclasses.replace(ADA, since=2.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "write", write)
        with pytest.raises(WithdrawnError, match="taken it back") as said:
            run(wanted(job))
    assert not job.adapters.exists() and not job.run.exists()
    assert "ada" not in str(said.value).split()


def test_however_a_training_ends_whose_wish_is_over_nothing_of_it_stays(tmp_path: Path) -> None:
    """A corpus or a checkpoint that it wrote after the wish was taken back, and another one was there."""
    data = DataDir(tmp_path)
    personal.want(data, ADA)
    with pytest.raises(WithdrawnError), cli._swept(data, ADA, ID):
        personal.take_back(data, "u1")
        personal.want(data, dataclasses.replace(ADA, since=2.0))
        data.training_run(ID).mkdir(parents=True)
        raise TrainingInterruptedError
    assert not data.training_run(ID).exists()


def test_a_training_that_begins_under_a_wish_that_is_over_touches_nothing(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    personal.want(data, dataclasses.replace(ADA, since=2.0))
    data.adapters(ID).mkdir(parents=True)
    with pytest.raises(WithdrawnError), cli._swept(data, ADA, ID):
        raise AssertionError
    assert data.adapters(ID).is_dir()


def test_nothing_says_whose_it_is_by_name(tmp_path: Path) -> None:
    """Progress, errors and reports go to logs and jobs, which stay when somebody is erased."""
    repo = SimpleNamespace(id="shop-1", name="shop")
    assert preparing.called([repo], None, ADA) == (ID, "shop for u1")  # type: ignore[list-item]


def test_where_nothing_is_live_it_stands_on_the_base_model(files: ModelFiles, tmp_path: Path) -> None:
    job = make_job(files, tmp_path, corpus(num_tasks=0), on_top_of="@org")
    assert own.beneath(job.data, "shop-1", files.digest) is None
    outcome = run(wanted(owned(job)))
    assert registry.load_adapter(outcome.path).on_top_of is None
