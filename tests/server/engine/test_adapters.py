from __future__ import annotations

import gc
import json
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from homespun_core.errors import ModelError
from homespun_server.engine.protocol import EngineRequest
from homespun_server.engine.torch_engine import TorchEngine

IDS = [5, 9, 2, 33, 7, 7, 12, 60, 1, 4]
MakeLora = Callable[..., Path]


@pytest.fixture
def llama(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["llama"]


@pytest.fixture
def small(llama: Path) -> Iterator[TorchEngine]:
    engine = TorchEngine(llama, device="cpu", max_queue=64)
    yield engine
    engine.close()


def _tokens(engine: TorchEngine, adapter: str | None) -> list[int]:
    return [t.id for t in engine.generate(EngineRequest(ids=IDS, max_new_tokens=12, adapter=adapter)).tokens]


def test_a_then_b_then_a_gives_the_same_logits(
    small: TorchEngine, llama: Path, tmp_path: Path, make_lora: MakeLora
) -> None:
    small.load_adapter("a", make_lora(llama, tmp_path / "a", seed=1, strength=0.4))
    small.load_adapter("b", make_lora(llama, tmp_path / "b", seed=2, strength=0.4))
    ask = (None, "a", "b", "a", None, "b")
    tokens = [_tokens(small, adapter) for adapter in ask]
    scores = [small.score(IDS, 1, adapter) for adapter in ask]
    for seen in (tokens, scores):
        base, a, b, a_again, base_again, b_again = seen
        assert (base, a, b) == (base_again, a_again, b_again)  # the scores to the last bit
        assert base != a != b != base


def test_a_merged_adapter_scores_as_peft_does_unmerged(
    small: TorchEngine, llama: Path, tmp_path: Path, make_lora: MakeLora
) -> None:
    path = make_lora(llama, tmp_path / "a", seed=1, strength=0.4)
    small.load_adapter("a", path)
    module = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32), str(path)
    ).eval()
    with torch.inference_mode():
        rows = module(input_ids=torch.tensor([IDS])).logits[0].log_softmax(-1)
    expected = [float(rows[i, IDS[i + 1]]) for i in range(len(IDS) - 1)]
    assert small.score(IDS, 1, "a") == pytest.approx(expected, abs=1e-4)


def test_unloading_frees_the_weights_and_says_so_afterwards(
    small: TorchEngine, llama: Path, tmp_path: Path, make_lora: MakeLora
) -> None:
    small.load_adapter("a", make_lora(llama, tmp_path / "a"))
    _tokens(small, "a")
    weights = weakref.ref(small._adapters["a"][1])
    small.unload_adapter("a")
    _tokens(small, None)  # the engine's thread has dropped the rows made with it by now
    gc.collect()
    assert weights() is None and small.adapters == frozenset()
    with pytest.raises(ModelError, match="'a' is not loaded"):
        _tokens(small, "a")


def test_a_name_is_never_served_with_other_weights(
    small: TorchEngine, llama: Path, tmp_path: Path, make_lora: MakeLora
) -> None:
    first, second = (make_lora(llama, tmp_path / str(seed), seed=seed, strength=0.4) for seed in (1, 2))
    small.load_adapter("a", first)
    small.load_adapter("a", first)
    with pytest.raises(ModelError, match="unload it before"):
        small.load_adapter("a", second)
    small.unload_adapter("a")
    small.load_adapter("a", second)


def test_swapping_adapters_under_load_never_fails_or_mixes(
    small: TorchEngine, llama: Path, tmp_path: Path, make_lora: MakeLora
) -> None:
    paths = {name: make_lora(llama, tmp_path / name, seed=n, strength=0.4) for n, name in enumerate("ab", 1)}
    expected = {}
    for name, path in paths.items():
        small.load_adapter(name, path)
        expected[name] = _tokens(small, name)
    wrong: list[str] = []

    def ask(name: str) -> None:
        for _ in range(15):
            try:
                if _tokens(small, name) != expected[name]:
                    wrong.append(f"{name} got other logits")
            except ModelError:
                pass  # unloaded at that moment, and told so: the caller goes on with the base model

    threads = [threading.Thread(target=ask, args=[name]) for name in "abab"]
    for thread in threads:
        thread.start()
    for _ in range(6):
        small.unload_adapter("b")
        small.load_adapter("b", paths["b"])
    for thread in threads:
        thread.join()
    assert not wrong


def _edit_config(path: Path, **changes: object) -> None:
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(path / "adapter_model.safetensors")
    change(weights)
    save_file(weights, path / "adapter_model.safetensors")


def _pickle_only(path: Path) -> None:
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")


def _without_first(weights: dict[str, torch.Tensor]) -> None:
    del weights[next(iter(weights))]


def _all_nan(weights: dict[str, torch.Tensor]) -> None:
    for tensor in weights.values():
        tensor.fill_(float("nan"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_pickle_only, "only safetensors"),
        (lambda path: _edit_config(path, use_dora=True), "use_dora"),
        (lambda path: _edit_config(path, modules_to_save=["lm_head"]), "modules_to_save"),
        (lambda path: _edit_config(path, peft_type="IA3"), "peft_type"),
        (lambda path: _edit_config(path, r=2), "shape"),
        (lambda path: _edit_config(path, target_modules=["nothing"]), "doesn't fit"),
        (lambda path: _edit_weights(path, _without_first), "missing"),
        (lambda path: _edit_weights(path, _all_nan), "NaN|finite"),
        (lambda path: (path / "adapter_config.json").write_text("[]"), "not an adapter"),
        (lambda path: (path / "adapter_model.safetensors").write_bytes(b"nothing"), "doesn't fit"),
    ],
)
def test_what_is_not_a_plain_lora_for_this_model_is_refused_in_one_line(
    small: TorchEngine,
    llama: Path,
    tmp_path: Path,
    make_lora: MakeLora,
    damage: Callable[[Path], object],
    reason: str,
) -> None:
    path = make_lora(llama, tmp_path / "a")
    damage(path)
    with pytest.raises(ModelError, match=reason) as raised:
        small.load_adapter("a", path)
    assert "\n" not in str(raised.value)
    assert not small.adapters and _tokens(small, None)


def test_an_adapter_for_another_architecture_is_refused(
    small: TorchEngine, tiny_models: dict[str, Path], tmp_path: Path, make_lora: MakeLora
) -> None:
    path = make_lora(tiny_models["starcoder2"], tmp_path / "other")
    _edit_config(path, target_modules=["c_fc"])
    with pytest.raises(ModelError, match="doesn't fit"):
        small.load_adapter("other", path)
