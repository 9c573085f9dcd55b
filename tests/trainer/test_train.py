from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles, SilentProgress
from homespun_trainer.batches import collate, micro_batches, target_weight
from homespun_trainer.examples import Batches, Mix
from homespun_trainer.lora import attach, load_base, logits_at
from homespun_trainer.methods import default_learning_rate, peft_config
from homespun_trainer.placement import choose_placement, faster_dtype
from homespun_trainer.train import (
    Recipe,
    TrainingInterruptedError,
    TrainResult,
    learning_rate_at,
    train_adapter,
)
from tests.trainer.tiny import (
    BUILDER,
    CPU,
    FORMAT,
    TOKENIZER,
    Asked,
    StepClock,
    make_model,
    make_stream,
    recipe,
    step_of,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


def train(
    files: ModelFiles,
    run: Path,
    how: Recipe,
    *,
    fingerprint: str = "f",
    should_stop: Callable[[], bool] = lambda: False,
    held_out: bool = False,
    clock: Callable[[], float] | None = None,
    stream: Batches | None = None,
) -> TrainResult:
    return train_adapter(
        files,
        stream or make_stream(),
        make_stream(seed=9).batch(0, 8) if held_out else [],
        how,
        placement=CPU,
        run=run,
        fingerprint=fingerprint,
        progress=SilentProgress(),
        should_stop=should_stop,
        clock=clock or StepClock(),
    )


@pytest.fixture(scope="module")
def trained(files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    stream = make_stream(mix=Mix(with_snippets=0.5, file_only=0.5))
    return train(files, tmp_path_factory.mktemp("run"), recipe(minutes=5.0, rank=32, batch_examples=8), stream=stream)


def served(files: ModelFiles, adapter: Path) -> Any:
    return PeftModel.from_pretrained(load_base(files, CPU), str(adapter))


def test_loss_falls_on_a_corpus_that_repeats_itself(trained: TrainResult) -> None:
    losses = [loss for _, _, loss in trained.state.losses]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_the_adapter_keeps_a_share_of_the_change_that_was_learned(
    files: ModelFiles, tmp_path: Path, method: str
) -> None:
    whole, part = (
        load_file(
            train(files, tmp_path / str(kept), recipe(minutes=0.1, method=method, strength=kept)).path
            / "adapter_model.safetensors"
        )
        for kept in (1.0, 0.5)
    )
    for name, learned in whole.items():
        expected = learned * 0.5 if "lora_B" in name else learned
        assert torch.equal(part[name], expected), name


def test_a_learned_middle_is_written_and_ended(files: ModelFiles, trained: TrainResult) -> None:
    model = served(files, trained.path)
    ids = list(BUILDER.build(prefix="def load(self):\n    return self.session.", suffix="\n\n\n", path="src/m1.py").ids)
    written: list[int] = []
    while len(written) < 40:
        with torch.inference_mode():
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token == FORMAT.end_id:
            break
        ids.append(token)
        written.append(token)
    assert TOKENIZER.decode(written) == "fetch_all(ORDERS)"


def test_where_the_line_is_complete_it_stops_at_once(files: ModelFiles, trained: TrainResult) -> None:
    model = served(files, trained.path)
    prefix = "def load(self):\n    return self.session.fetch_all(ORDERS)"
    ids = BUILDER.build(prefix=prefix, suffix="\n\n\n", path="src/m1.py").ids
    with torch.inference_mode():
        assert int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == FORMAT.end_id


def test_the_adapter_loads_in_peft_and_changes_what_the_base_says(files: ModelFiles, trained: TrainResult) -> None:
    ids = torch.tensor([list(b"def load(self):")])
    with torch.inference_mode():
        base, adapted = load_base(files, CPU)(input_ids=ids).logits, served(files, trained.path)(input_ids=ids).logits
    assert not torch.allclose(base, adapted, atol=1e-2)
    assert sorted(p.name for p in trained.path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_adapters_file_names_no_path_of_this_machine(files: ModelFiles, trained: TrainResult) -> None:
    assert files.path not in (trained.path / "adapter_config.json").read_text()


def test_positions_without_weight_carry_no_loss(files: ModelFiles) -> None:
    """Whatever stands after a position that counts, or is predicted where none does, the loss is the same."""
    model = load_base(files, CPU)
    (example,) = make_stream(mix=Mix(with_snippets=1.0)).batch(0, 1)
    part = collate([example])
    with logits_at(model, part.positions), torch.inference_mode():
        logits = model(input_ids=part.ids).logits[0]
        whole = torch.nn.functional.cross_entropy(logits, part.targets)
    with torch.inference_mode():
        full = model(input_ids=torch.tensor([example.ids])).logits[0, :-1].log_softmax(-1)
    gold = example.ids[example.prompt_tokens :]
    by_hand = -full[example.prompt_tokens - 1 :][range(len(gold)), list(gold)].mean()
    assert part.targets.tolist() == list(gold)
    assert torch.allclose(whole, by_hand, atol=1e-5)


def test_padding_and_micro_batches_do_not_change_the_gradient(files: ModelFiles) -> None:
    batch = make_stream(mix=Mix(prefix_weight=0.3)).batch(0, 6)

    def gradient(max_tokens: int) -> torch.Tensor:
        torch.manual_seed(0)
        base = load_base(files, CPU)
        model: Any = attach(base, peft_config("lora", 4, base))
        for part in micro_batches(batch, max_tokens):
            with logits_at(model, part.positions):
                logits = model(input_ids=part.ids).logits[0]
            losses = torch.nn.functional.cross_entropy(logits, part.targets, reduction="none")
            ((losses * part.weights).sum() / target_weight(batch)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    assert torch.allclose(gradient(1), gradient(10_000), atol=1e-6)


def test_a_stopped_run_goes_on_where_it_was_and_ends_as_if_never_stopped(files: ModelFiles, tmp_path: Path) -> None:
    how = recipe(minutes=0.25)
    calls = iter([*[False] * 6, *[True] * 100])
    with pytest.raises(TrainingInterruptedError):
        train(files, tmp_path / "a", how, should_stop=lambda: next(calls))
    stopped_at, asked = step_of(tmp_path / "a"), Asked(make_stream())
    resumed = train(files, tmp_path / "a", how, stream=asked)
    assert asked.steps[0] == stopped_at > 0
    straight = train(files, tmp_path / "b", how)
    assert resumed.state.step == straight.state.step > 6
    weights = [load_file(r.path / "adapter_model.safetensors") for r in (resumed, straight)]
    assert all(torch.allclose(weights[0][k], weights[1][k], atol=1e-4) for k in weights[1])


def test_a_finished_run_is_not_trained_again(files: ModelFiles, tmp_path: Path) -> None:
    first, asked = train(files, tmp_path, recipe(minutes=0.2)), Asked(make_stream())
    assert train(files, tmp_path, recipe(minutes=0.2), stream=asked).state == first.state
    assert asked.steps == [first.state.step]  # made ahead, and not trained on


def test_a_checkpoint_of_another_corpus_is_refused_with_a_reason(
    files: ModelFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(files, tmp_path, recipe(minutes=0.2), fingerprint="old")
    with caplog.at_level(logging.WARNING):
        again = train(files, tmp_path, recipe(minutes=0.1), fingerprint="new")
    assert "another corpus" in caplog.text
    assert again.state.elapsed_s < 10


def test_the_weights_kept_are_those_with_the_lowest_held_out_loss(files: ModelFiles, tmp_path: Path) -> None:
    state = train(files, tmp_path, recipe(minutes=2.0, learning_rate=0.3, clip=1e9), held_out=True).state
    losses = dict(state.dev_losses)
    assert len(losses) > 5
    assert state.best_step is not None and losses[state.best_step] == min(losses.values())


def test_the_learning_rate_follows_the_clock() -> None:
    how = recipe()
    rates = [learning_rate_at(f / 100, how, 1.0) for f in range(101)]
    assert 0 < rates[0] < rates[1] < rates[2] < 1
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(how.final)


def test_small_models_get_the_larger_learning_rate() -> None:
    assert default_learning_rate("lora", 19_000_000) == 2e-3 > default_learning_rate("dora", 1_500_000_000)


def test_the_number_format_is_the_asked_one_or_the_faster_one(files: ModelFiles) -> None:
    assert choose_placement(files, "cpu", "float32").dtype == torch.float32
    assert choose_placement(files, "cpu", "auto").dtype in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("half", "full", "asked", "faster"),
    [(100.0, 1.0, [8], torch.float32), (1.0, 1.5, [8, 512], torch.bfloat16), (1.5, 1.0, [8, 512], torch.float32)],
    ids=["without instructions", "faster", "slower"],
)
def test_a_hopeless_number_format_is_not_tried_for_long(
    half: float, full: float, asked: list[int], faster: torch.dtype
) -> None:
    tried: list[int] = []

    def seconds(dtype: torch.dtype, rows: int) -> float:
        tried.append(rows)
        busy = 50.0 if len(tried) in (1, 2) else 0.0  # the first two met somebody else's work
        return busy + (half if dtype == torch.bfloat16 else full) * rows

    assert faster_dtype(seconds) == faster
    assert sorted(set(tried)) == asked


def test_code_that_a_model_brings_with_it_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks at the terminal, and goes by the answer."""
    files, ran = make_model(tmp_path / "model"), tmp_path / "ran"
    config = json.loads((tmp_path / "model/config.json").read_text())
    names = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"model_type": "shiny", "auto_map": names}))
    (tmp_path / "model/theirs.py").write_text(f"open({str(ran)!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda _prompt: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError):
        load_base(files, CPU)
    assert not ran.exists()
