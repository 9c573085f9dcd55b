from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from homespun_core.errors import ModelError
from homespun_server.engine.protocol import AdapterLoadingError, EngineRequest
from homespun_server.engine.torch_engine import TorchEngine
from tests.server.engine.hash_decoder import FLAT, HashSource, plain, seed_of, wait_until
from tests.server.engine.stepped import Asked, Stepped

IDS = [5, 9, 2, 33, 7, 7, 12, 60, 1, 4]
MakeLora = Callable[..., Path]


@pytest.fixture
def llama(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["llama"]


@pytest.fixture
def small(llama: Path) -> Iterator[TorchEngine]:
    engine = TorchEngine(llama, dtype="float32", device="cpu", max_queue=64)
    yield engine
    engine.close()


def _tokens(engine: TorchEngine, adapter: str | None, ids: Sequence[int] = IDS) -> list[int]:
    return [t.id for t in engine.generate(EngineRequest(ids=ids, max_new_tokens=12, adapter=adapter)).tokens]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_then_b_then_a_gives_the_same_logits(dtype: str, llama: Path, tmp_path: Path, make_lora: MakeLora) -> None:
    """In int8 with the compiled kernels, where matrices that are equal are one in memory."""
    small = TorchEngine(llama, dtype=dtype, device="cpu")
    assert small.dtype == dtype
    small.load_adapter("a", make_lora(llama, tmp_path / "a", seed=1, strength=0.4))
    small.load_adapter("b", make_lora(llama, tmp_path / "b", seed=2, strength=0.4))
    ask = (None, "a", "b", "a", None, "b")
    tokens = [_tokens(small, adapter) for adapter in ask]
    scores = [small.score(IDS, 1, adapter) for adapter in ask]
    for seen in (tokens, scores):
        base, a, b, a_again, base_again, b_again = seen
        assert (base, a, b) == (base_again, a_again, b_again)  # the scores to the last bit
        assert base != a != b != base
    small.close()


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
    decoder = small._shelf.find("a").decoder
    assert decoder is not None
    weights = weakref.ref(decoder)
    del decoder
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
            except ModelError as error:  # unloaded at that moment, and told so
                if name != "b" or "is not loaded" not in str(error):
                    wrong.append(f"{name}: {error}")

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
        (lambda path: _edit_config(path, use_dora=True), "missing"),
        (lambda path: _edit_config(path, arrow_config={"a": 1}), "arrow_config"),
        (lambda path: _edit_config(path, modules_to_save=["lm_head"]), "modules_to_save"),
        (lambda path: _edit_config(path, peft_type="IA3"), "bias is"),
        (lambda path: _edit_config(path, peft_type="ADAPTION_PROMPT"), "bias is"),
        (lambda path: _edit_config(path, peft_type="VERA"), "peft_type"),
        (lambda path: _edit_config(path, peft_type=[]), "peft_type"),
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


def test_more_adapters_than_fit_are_loaded_again_when_asked_for() -> None:
    """Each takes 1,000 bytes, and there is room for two."""
    loads: list[str] = []
    engine = TorchEngine(
        Path(), source=HashSource(load=lambda path: loads.append(path.name)), costs=FLAT, adapter_bytes=2000
    )
    for name in "abc":
        engine.load_adapter(name, Path(name))
    for name in "abcba":
        assert _tokens(engine, name, [1, 2, 3]) == plain(seed_of(Path(name)), [1, 2, 3], 12)
    assert engine.adapters == {"a", "b", "c"} and loads == [*"abc", *"abca"]
    assert sum(one.decoder is not None for one in engine._shelf._adapters.values()) == 2
    end = time.monotonic() + 20  # the engine's own thread lets go of slots, after the answer
    while len({id(slot.weights) for slot in engine._turns.pool.slots}) > 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    engine.close()


def test_others_go_on_while_an_adapter_is_loaded_again_and_a_deadline_ends_the_waiting() -> None:
    opened, is_slow = threading.Event(), False

    def load(path: Path) -> None:
        assert not is_slow or opened.wait(20)

    engine = TorchEngine(Path(), source=HashSource(load=load), costs=FLAT, adapter_bytes=1000)
    for name in "ab":
        engine.load_adapter(name, Path(name))
    is_slow = True
    late = engine.generate(EngineRequest(ids=[1], max_new_tokens=4, adapter="a", deadline=time.monotonic() + 0.05))
    assert late.stats.finish_reason == "deadline" and late.tokens == ()
    waiting: list[list[int]] = []
    thread = threading.Thread(target=lambda: waiting.append(_tokens(engine, "a", [1])))
    thread.start()
    for other in (None, "b"):
        assert _tokens(engine, other, [1]) == plain(seed_of(Path(other) if other else None), [1], 12)
    assert not waiting
    opened.set()
    thread.join()
    assert waiting == [plain(seed_of(Path("a")), [1], 12)]
    engine.close()


def test_who_doesnt_wait_for_an_adapter_has_it_loaded_for_the_next_time() -> None:
    """There is room for one, and the other one is in use all the time."""
    opened, is_slow = threading.Event(), False
    source = HashSource(load=lambda path: None if not is_slow or opened.wait(20) else pytest.fail("never opened"))
    engine = TorchEngine(Path(), source=source, costs=FLAT, adapter_bytes=1000)
    for name in "ab":
        engine.load_adapter(name, Path(name))
    is_slow = True
    asked = EngineRequest(ids=[1], max_new_tokens=12, adapter="a", waits_for_adapter=False)
    engine._shelf.hold(engine._shelf.find("b"))
    for _ in range(3):
        with pytest.raises(AdapterLoadingError):
            engine.generate(asked)
    assert engine.load().num_running == engine.load().num_waiting == 0 and engine.num_adapter_loads == 1
    opened.set()
    wait_until(lambda: engine._shelf.find("a").decoder is not None)
    assert _tokens(engine, "b", [1]) == plain(seed_of(Path("b")), [1], 12)
    assert [token.id for token in engine.generate(asked).tokens] == plain(seed_of(Path("a")), [1], 12)
    engine._shelf.leave(engine._shelf.find("b"))
    assert len(engine._shelf._in_memory()) == 1 and engine.num_adapter_loads == 1
    engine.close()


def test_prompts_that_wait_to_be_prepared_keep_no_more_adapters_in_memory_than_fit() -> None:
    """Each held the weights that it waited for until its deadline: with eight of them, eight sets instead of one."""
    engine, most = Stepped(adapter_bytes=1000), 0
    for name in "abcdefgh":
        engine.load_adapter(name, Path(name))
    typed, warm = engine.ask([1], 60), list[Asked]()
    for name in "abcdefgh":
        with suppress(AdapterLoadingError):
            warm.append(engine.ask([2] * 40, 0, adapter=name, priority="warm"))
        engine.turn()
        most = max(most, len(engine._shelf._in_memory()))
    assert most == 2, "what is waited for, and what was loaded last"
    engine.finish()
    assert [one.reason for one in (typed, *warm)] == ["length"] * 2
    engine.close()


def test_who_doesnt_wait_hears_why_an_adapter_couldnt_be_loaded_and_it_is_tried_again() -> None:
    is_gone = False

    def load(path: Path) -> None:
        if is_gone:
            raise ModelError(f"{path}: unreadable (gone)")

    engine = TorchEngine(Path(), source=HashSource(load=load), costs=FLAT, adapter_bytes=1000)
    for name in "ab":
        engine.load_adapter(name, Path(name))
    adapter, asked = (
        engine._shelf.find("a"),
        EngineRequest(ids=[1], max_new_tokens=12, adapter="a", waits_for_adapter=False),
    )
    is_gone = True
    with pytest.raises(AdapterLoadingError):
        engine.generate(asked)
    wait_until(lambda: not adapter.is_loading)
    is_gone = False
    with pytest.raises(ModelError, match="gone"):
        engine.generate(asked)
    wait_until(lambda: adapter.decoder is not None)
    assert len(engine.generate(asked).tokens) == 12
    engine.close()


def test_an_adapter_that_cant_be_loaded_again_fails_its_requests_alone() -> None:
    is_gone = False

    def load(path: Path) -> None:
        if is_gone:
            raise ModelError(f"{path}: unreadable (gone)")

    engine = TorchEngine(Path(), source=HashSource(load=load), costs=FLAT, adapter_bytes=1000)
    for name in "ab":
        engine.load_adapter(name, Path(name))
    is_gone = True
    with pytest.raises(ModelError, match="gone"):
        _tokens(engine, "a", [1])
    assert len(_tokens(engine, "b", [1])) == len(_tokens(engine, None, [1])) == 12
    is_gone = False
    assert _tokens(engine, "a", [1]) == plain(seed_of(Path("a")), [1], 12)
    engine.close()


def test_ten_swaps_under_load_fail_and_mix_nothing() -> None:
    """Each request names a version that is loaded when it is made; that version is unloaded while requests run."""
    engine = TorchEngine(Path(), source=HashSource(), costs=FLAT, max_queue=100)
    engine.load_adapter("v0", Path("v0"))
    version, is_over, wrong = "v0", False, list[str]()

    def ask(number: int) -> None:
        while not is_over:
            name, ids = version, [number, *[7] * 40]
            try:
                if _tokens(engine, name, ids) != plain(seed_of(Path(name)), ids, 12):
                    wrong.append(name)
            except ModelError:
                if name == version:  # otherwise it was unloaded between our reading the name and asking
                    wrong.append(f"{name} failed")

    threads = [threading.Thread(target=ask, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 11):
        engine.load_adapter(f"v{number}", Path(f"v{number}"))
        old, version = version, f"v{number}"
        time.sleep(0.01)
        engine.unload_adapter(old)
    is_over = True
    for thread in threads:
        thread.join()
    engine.generate(EngineRequest(ids=[1], max_new_tokens=1))
    assert not wrong and {slot.weights for slot in engine._turns.pool.slots} <= {
        engine._shelf.base,
        engine._shelf.find("v10").decoder,
    }
    engine.close()


def test_an_unloaded_adapter_finishes_what_runs_on_it() -> None:
    reached, opened = threading.Event(), threading.Event()
    source = HashSource()
    engine = TorchEngine(Path(), source=source, costs=FLAT)
    engine.load_adapter("a", Path("a"))

    def wait(batch: object) -> None:
        reached.set()
        assert opened.wait(20)

    source.made[1].before = wait
    made: list[list[int]] = []
    thread = threading.Thread(target=lambda: made.append(_tokens(engine, "a", [1])))
    thread.start()
    assert reached.wait(20)
    engine.unload_adapter("a")
    with pytest.raises(ModelError, match="'a' is not loaded"):
        _tokens(engine, "a", [1])
    opened.set()
    thread.join()
    assert made == [plain(seed_of(Path("a")), [1], 12)]
    engine.close()
