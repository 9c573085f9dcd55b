"""What `decoder.Decoder` promises, of both decoders that are made with torch."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles
from homespun_server.engine.decoders.hf_decoder import HfDecoder, facts_of
from homespun_server.engine.decoders.protocol import Decoder, Kv, Segment
from homespun_server.engine.decoders.source import ModelSource, open_source
from homespun_server.engine.decoders.torch_decoder import TorchDecoder
from tests.server.engine.decoders.tiny import CONTEXT, KNOWN, UNKNOWN, VOCAB, all_logits, reference, save

CPU = torch.device("cpu")
OWN = ["llama", "llama-biased", "qwen2-sliding", "qwen3", "starcoder2-sliding", "granite", "gemma"]
HF = ["hf:llama", "hf:starcoder2-sliding"]
Decoders = dict[str, Decoder]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: save(name, root / name, seed=number) for number, name in enumerate(KNOWN | UNKNOWN)}


@pytest.fixture(scope="module")
def decoders(models: dict[str, Path]) -> Decoders:
    """Our own by name of the family, transformers' as hf:<family>."""
    found: Decoders = {name: _source(models[name]).decoder() for name in KNOWN}
    for name in HF:
        module = reference(models[name.removeprefix("hf:")])
        found[name] = HfDecoder(module, facts_of(module), CPU)
    return found


def _source(path: Path) -> ModelSource:
    return open_source(path, "float32", "cpu")


def _ids(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=length)


def _append(decoder: Decoder, kv: Kv, ids: Sequence[int]) -> torch.Tensor:
    """Logits of all `ids`, which are kept."""
    [logits] = decoder.forward([Segment(kv=kv, ids=ids, num_rows=len(ids))])
    kv.keep(range(len(ids)))
    return logits


def _alone(decoder: Decoder, ids: Sequence[int]) -> torch.Tensor:
    return _append(decoder, decoder.new_kv(), ids)


def _filled(decoder: Decoder, ids: Sequence[int]) -> Kv:
    kv = decoder.new_kv()
    if ids:
        _append(decoder, kv, ids)
    return kv


def _assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype is torch.float32 and found.device == CPU
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("name", KNOWN)
def test_logits_are_those_of_transformers(models: dict[str, Path], decoders: Decoders, name: str) -> None:
    ids = _ids(1, CONTEXT)
    decoder = decoders[name]
    assert isinstance(decoder, TorchDecoder)
    _assert_same(_alone(decoder, ids), all_logits(reference(models[name]), ids))


def test_the_built_in_models_logits_are_those_of_transformers(builtin: ModelFiles) -> None:
    path = Path(builtin.path)
    ids = random.Random(0).choices(range(5, 16_000), k=300)
    decoder = _source(path).decoder()
    kv = decoder.new_kv()
    split = torch.cat([_append(decoder, kv, part) for part in (ids[:200], ids[200:201], ids[201:])])
    _assert_same(split, all_logits(reference(path), ids))


@pytest.mark.parametrize("name", ["llama", "gemma", "starcoder2"])
def test_bfloat16_is_near(models: dict[str, Path], decoders: Decoders, name: str) -> None:
    ids = _ids(2, 60)
    rough, exact = (_alone(d, ids) for d in (open_source(models[name], "bfloat16", "cpu").decoder(), decoders[name]))
    assert rough.dtype is torch.float32
    assert float((rough - exact).abs().mean()) < 0.1 * float(exact.std())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(OWN + HF), seed=st.integers(0, 99))
def test_how_a_chain_is_split_changes_no_logit(decoders: Decoders, data: st.DataObject, name: str, seed: int) -> None:
    decoder, ids = decoders[name], _ids(seed, data.draw(st.integers(1, 80)))
    kv, start, parts = decoder.new_kv(), 0, list[torch.Tensor]()
    while start < len(ids):
        end = data.draw(st.integers(start + 1, len(ids)))
        parts.append(_append(decoder, kv, ids[start:end]))
        start = end
    assert kv.length == len(ids)
    _assert_same(torch.cat(parts), _alone(decoder, ids))


def _path(parents: Sequence[int], row: int) -> list[int]:
    path = [row]
    while parents[path[0]] >= 0:
        path.insert(0, parents[path[0]])
    return path


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(OWN), seed=st.integers(0, 99))
def test_a_row_of_a_tree_is_the_end_of_its_own_path(
    decoders: Decoders, data: st.DataObject, name: str, seed: int
) -> None:
    """And after a path was kept, the kv is that of the path alone."""
    decoder, past = decoders[name], _ids(seed, data.draw(st.integers(0, 40)))
    parents = [data.draw(st.integers(-1, row - 1)) for row in range(data.draw(st.integers(1, 14)))]
    ids, kv = _ids(seed + 1, len(parents)), _filled(decoder, past)
    [logits] = decoder.forward([Segment(kv=kv, ids=ids, parents=parents, num_rows=len(ids))])
    for row in range(len(ids)):
        _assert_same(logits[row], _alone(decoder, [*past, *(ids[r] for r in _path(parents, row))])[-1])
    kept = _path(parents, data.draw(st.integers(0, len(ids) - 1)))
    kept = kept[: data.draw(st.integers(0, len(kept)))]
    kv.keep(kept)
    so_far = [*past, *(ids[row] for row in kept)]
    assert kv.length == len(so_far)
    more = _ids(seed + 2, 5)
    _assert_same(_append(decoder, kv, more), _alone(decoder, so_far + more)[-5:])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(OWN + HF))
def test_neighbours_in_a_batch_change_nothing(decoders: Decoders, data: st.DataObject, name: str) -> None:
    decoder, batch, expected = decoders[name], list[Segment](), list[torch.Tensor]()
    for seed in range(data.draw(st.integers(1, 4))):
        past, ids = _ids(seed, data.draw(st.integers(0, 30))), _ids(seed + 50, data.draw(st.integers(1, 20)))
        num_rows = data.draw(st.integers(1, len(ids)))
        is_tree = decoder.facts.can_branch and data.draw(st.booleans())
        parents = [-1] * len(ids) if is_tree else None
        batch.append(Segment(kv=_filled(decoder, past), ids=ids, parents=parents, num_rows=num_rows))
        alone = [_alone(decoder, [*past, token])[-1:] for token in ids] if is_tree else [_alone(decoder, past + ids)]
        expected.append(torch.cat(alone)[-num_rows:])
    for found, wanted in zip(decoder.forward(batch), expected, strict=True):
        assert found.shape == wanted.shape
        _assert_same(found, wanted)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(OWN + HF), seed=st.integers(0, 99))
def test_keeping_cropping_and_copying_leave_what_was_computed(
    decoders: Decoders, data: st.DataObject, name: str, seed: int
) -> None:
    """To the last bit: rows are moved, not computed again. Beyond 256 rows buffers are moved too."""
    decoder, ids = decoders[name], _ids(seed, 40)
    kv, copy = _filled(decoder, ids), _filled(decoder, _ids(seed + 1, data.draw(st.integers(0, 50))))
    length = data.draw(st.integers(0, 40))
    copy.copy_from(kv, length)
    kv.crop(length)
    assert kv.length == copy.length == length
    more = _ids(seed + 2, data.draw(st.integers(1, 200)))
    first, second = _append(decoder, kv, more), _append(decoder, copy, more)
    assert torch.equal(first, second)
    _assert_same(first, _alone(decoder, ids[:length] + more)[length:])


@pytest.mark.parametrize("name", OWN + HF)
def test_rows_not_kept_are_no_part_of_the_sequence(decoders: Decoders, name: str) -> None:
    decoder, ids = decoders[name], _ids(3, 30)
    kv = _filled(decoder, ids[:20])
    for kept in (0, 3, 7):
        at = kv.length
        decoder.forward([Segment(kv=kv, ids=[*ids[at : at + kept], 1, 2, 3])])
        assert kv.length == at
        kv.keep(range(kept))
    _assert_same(_append(decoder, kv, [5]), _alone(decoder, [*ids, 5])[-1:])


@pytest.mark.parametrize("name", OWN[:1] + HF[:1])
def test_memory_is_counted_and_grows_by_halves(decoders: Decoders, name: str) -> None:
    decoder = decoders[name]
    kv = decoder.new_kv()
    assert kv.num_bytes == 0
    seen = [(_append(decoder, kv, [1]), kv.num_bytes)[1] for _ in range(CONTEXT)]
    per_row = 2 * 3 * 2 * 8 * 4  # keys and values, layers, heads, head size, float32
    assert set(seen) == {256 * per_row}
    assert decoder.num_bytes >= 4 * 3 * (32 * 64 + 32 * 32 + 3 * 32 * 48)


def _no_keep(decoder: Decoder, kv: Kv) -> None:
    for _ in range(2):
        decoder.forward([Segment(kv=kv, ids=[1])])


def _keep_what_is_no_path(decoder: Decoder, kv: Kv) -> None:
    decoder.forward([Segment(kv=kv, ids=[1, 2, 3])])
    kv.keep([0, 2])


def _twice_in_a_batch(decoder: Decoder, kv: Kv) -> None:
    decoder.forward([Segment(kv=kv, ids=[1]), Segment(kv=kv, ids=[2])])


def _too_long(decoder: Decoder, kv: Kv) -> None:
    decoder.forward([Segment(kv=kv, ids=_ids(0, CONTEXT + 1))])


def _child_before_parent(decoder: Decoder, kv: Kv) -> None:
    decoder.forward([Segment(kv=kv, ids=[1, 2], parents=[1, -1])])


@pytest.mark.parametrize("name", OWN[:1] + HF[:1])
@pytest.mark.parametrize(
    "misuse",
    [
        _no_keep,
        _keep_what_is_no_path,
        _twice_in_a_batch,
        _too_long,
        _child_before_parent,
        lambda decoder, kv: kv.crop(1),
        lambda decoder, kv: kv.keep([0]),
        lambda decoder, kv: kv.copy_from(decoder.new_kv(), 1),
        lambda decoder, kv: decoder.forward([Segment(kv=kv, ids=[1], num_rows=2)]),
    ],
)
def test_misuse_is_our_bug(decoders: Decoders, name: str, misuse: Callable[[Decoder, Kv], None]) -> None:
    with pytest.raises(AssertionError):
        misuse(decoders[name], decoders[name].new_kv())


def test_a_cache_that_cannot_forget_only_grows(models: dict[str, Path], decoders: Decoders) -> None:
    module = reference(models["llama"])
    decoder = HfDecoder(module, dataclasses.replace(facts_of(module), can_crop=False), CPU)
    ids, kv = _ids(4, 20), decoder.new_kv()
    found = torch.cat([_append(decoder, kv, ids[:12]), _append(decoder, kv, ids[12:])])
    _assert_same(found, _alone(decoders["llama"], ids))
    assert kv.num_bytes > 0
    decoder.forward([Segment(kv=kv, ids=[1, 2])])
    with pytest.raises(AssertionError):
        kv.keep([0])
    with pytest.raises(AssertionError):
        kv.crop(3)
    with pytest.raises(AssertionError):
        decoder.new_kv().copy_from(kv, 2)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_we_do_not_know_is_left_to_transformers(
    models: dict[str, Path], tmp_path: Path, make_lora: Callable[..., Path], name: str
) -> None:
    source, ids = _source(models[name]), _ids(5, 40)
    assert source.architecture is None
    decoder = source.decoder()
    assert isinstance(decoder, HfDecoder) and not decoder.facts.can_branch
    _assert_same(_alone(decoder, ids), all_logits(reference(models[name]), ids))
    adapted = source.decoder(make_lora(models[name], tmp_path / "lora", strength=0.4))
    assert not torch.equal(_alone(adapted, ids), _alone(decoder, ids))


def test_a_family_in_an_unknown_form_is_left_to_transformers(tmp_path: Path) -> None:
    path = save("llama", tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"attention_chunk_size": 8}))
    assert _source(path).architecture is None


@pytest.mark.parametrize(
    ("dtype", "device", "changes", "reason"),
    [
        ("int8", "cpu", {}, "int8"),
        ("float32", "cpu", {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "auto_map"),
        ("float32", "cpu", {"model_type": "nobody-knows"}, "can't be loaded"),
        pytest.param(
            "auto", "cuda", {}, "no CUDA", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has one")
        ),
    ],
)
def test_a_source_that_cannot_be_served_is_refused_in_one_line(
    tmp_path: Path, dtype: str, device: str, changes: dict[str, object], reason: str
) -> None:
    path = save("llama", tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelError, match=reason) as raised:
        open_source(path, dtype, device).decoder()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["llama", "stablelm"])
def test_weights_that_give_no_numbers_are_refused(tmp_path: Path, name: str) -> None:
    path = save(name, tmp_path / "model")
    module = reference(path)
    with torch.no_grad():
        module.get_input_embeddings().weight.fill_(float("nan"))
    module.save_pretrained(path)
    with pytest.raises(ModelError, match="no finite numbers"):
        _source(path).decoder()


@pytest.mark.parametrize("name", ["llama", "stablelm"])
def test_missing_weights_are_not_made_up(tmp_path: Path, name: str) -> None:
    """transformers fills them with random numbers and warns."""
    path = save(name, tmp_path / "model")
    module = transformers.AutoModelForCausalLM.from_pretrained(path)
    state = {key: tensor for key, tensor in module.state_dict().items() if "layers.1.mlp.up_proj" not in key}
    module.save_pretrained(path, state_dict=state)
    with pytest.raises(ModelError, match=r"no weights model\.layers\.1\.mlp\.up_proj"):
        _source(path).decoder()
