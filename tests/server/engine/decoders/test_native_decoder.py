"""The compiled kernels: right against arithmetic in PyTorch, and the same bit for bit however the work is cut up."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from homespun_core.errors import ModelError
from homespun_server.engine.decoders.families import Architecture
from homespun_server.engine.decoders.kernels import library_paths
from homespun_server.engine.decoders.native_decoder import NativeDecoder, NativeKv, NativeLibrary
from homespun_server.engine.decoders.protocol import Segment
from homespun_server.engine.decoders.weights import LayerWeights, Weights

GROUP = 64
VOCAB = 61
PLAIN = Architecture(
    vocab_size=VOCAB,
    hidden=48,
    intermediate=80,
    num_layers=2,
    num_heads=6,
    num_kv_heads=2,
    head_dim=16,
    max_context=512,
    norm="rms",
    norm_eps=1e-5,
    activation="silu",
    is_gated=True,
    attention_scale=0.25,
)
ARCHITECTURES = {
    "llama": PLAIN,
    "qwen3-like": dataclasses.replace(PLAIN, head_dim=32),
    "starcoder2-like": dataclasses.replace(PLAIN, norm="layer", activation="gelu_tanh", is_gated=False),
    "granite-like": dataclasses.replace(PLAIN, embedding_scale=3.0, residual_scale=0.3, logit_scale=0.2),
    "windows": dataclasses.replace(PLAIN, windows=(5, 0)),
    "wide": dataclasses.replace(PLAIN, hidden=160, intermediate=208, num_heads=2, num_kv_heads=1, head_dim=80),
}


def make_weights(a: Architecture, *, with_extras: bool, seed: int = 0) -> Weights:
    """Random ones; `with_extras`: biases, norms of heads."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int, scale: float = 0.3) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def extra(*shape: int) -> torch.Tensor | None:
        return rand(*shape) if with_extras else None

    qkv, up = (a.num_heads + 2 * a.num_kv_heads) * a.head_dim, a.intermediate * (2 if a.is_gated else 1)
    layers = tuple(
        LayerWeights(
            attention_norm=1 + rand(a.hidden),
            attention_norm_bias=extra(a.hidden),
            qkv=rand(qkv, a.hidden),
            qkv_bias=extra(qkv),
            q_norm=None if extra(1) is None else 1 + rand(a.head_dim),
            k_norm=None if extra(1) is None else 1 + rand(a.head_dim),
            out=rand(a.hidden, a.num_heads * a.head_dim),
            out_bias=extra(a.hidden),
            mlp_norm=1 + rand(a.hidden),
            mlp_norm_bias=extra(a.hidden),
            up=rand(up, a.hidden),
            up_bias=extra(up),
            down=rand(a.hidden, a.intermediate),
            down_bias=extra(a.hidden),
        )
        for _ in range(a.num_layers)
    )
    steps = torch.outer(
        torch.arange(a.max_context).float(), 1 / 100 ** (torch.arange(a.head_dim // 2) / (a.head_dim // 2))
    )
    return Weights(
        architecture=a,
        embedding=rand(a.vocab_size, a.hidden, scale=1.0),
        layers=layers,
        norm=1 + rand(a.hidden),
        norm_bias=extra(a.hidden),
        head=rand(a.vocab_size, a.hidden),
        cos=steps.cos(),
        sin=steps.sin(),
    )


def int8_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What a quantised product is, by its definition."""
    y: torch.Tensor = _dequantised(x) @ _dequantised(weight).T
    return y if bias is None else y + bias


def _dequantised(x: torch.Tensor) -> torch.Tensor:
    padded = F.pad(x, (0, -x.shape[-1] % GROUP)).unflatten(-1, (-1, GROUP))
    scale: torch.Tensor = padded.abs().amax(-1, keepdim=True) / 127
    steps: torch.Tensor = (padded / scale.clamp_min(1e-30)).round()
    return (steps * scale).flatten(-2)[..., : x.shape[-1]]


def reference(w: Weights, ids: Sequence[int], kv_dtype: torch.dtype) -> torch.Tensor:
    """Logits of every id of a chain."""
    a, n = w.architecture, len(ids)
    x = w.embedding[list(ids)] * a.embedding_scale
    for number, layer in enumerate(w.layers):
        window = a.windows[number] if a.windows else 0
        distance = torch.arange(n)[:, None] - torch.arange(n)[None, :]
        seen = (distance >= 0) & ((distance < window) if window else True)
        qkv = int8_linear(_norm(x, layer.attention_norm, layer.attention_norm_bias, a), layer.qkv, layer.qkv_bias)
        heads = qkv.view(n, -1, a.head_dim).transpose(0, 1)
        q, k, v = heads.split([a.num_heads, a.num_kv_heads, a.num_kv_heads])
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = (
                F.rms_norm(q, (a.head_dim,), layer.q_norm, a.norm_eps),
                F.rms_norm(k, (a.head_dim,), layer.k_norm, a.norm_eps),
            )
        q, k = _rotated(q, w), _rotated(k, w).to(kv_dtype).float()
        v = v.to(kv_dtype).float()
        group = a.num_heads // a.num_kv_heads
        scores = (q @ k.repeat_interleave(group, 0).transpose(1, 2) * a.attention_scale).masked_fill(~seen, -torch.inf)
        mixed = (scores.softmax(-1) @ v.repeat_interleave(group, 0)).transpose(0, 1).flatten(1)
        x = x + a.residual_scale * int8_linear(mixed, layer.out, layer.out_bias)
        up = int8_linear(_norm(x, layer.mlp_norm, layer.mlp_norm_bias, a), layer.up, layer.up_bias)
        gate, value = up.split(a.intermediate, -1) if a.is_gated else (up, torch.ones(()))
        active = F.silu(gate) if a.activation == "silu" else F.gelu(gate, approximate="tanh")
        x = x + a.residual_scale * int8_linear(active * value, layer.down, layer.down_bias)
    return int8_linear(_norm(x, w.norm, w.norm_bias, a), w.head, None) * a.logit_scale


def _norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: Architecture) -> torch.Tensor:
    if a.norm == "layer":
        return F.layer_norm(x, (a.hidden,), weight, bias, a.norm_eps)
    y: torch.Tensor = F.rms_norm(x, (a.hidden,), weight, a.norm_eps)
    return y if bias is None else y + bias


def _rotated(heads: torch.Tensor, w: Weights) -> torch.Tensor:
    a, b = heads.chunk(2, -1)
    cos, sin = w.cos[: heads.shape[1]], w.sin[: heads.shape[1]]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


@pytest.fixture(scope="module", params=library_paths(), ids=lambda path: path.stem)
def library(request: pytest.FixtureRequest) -> NativeLibrary:
    try:
        return NativeLibrary(request.param, num_threads=2)
    except OSError as error:  # tiles are the system's to give
        if "tiles" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def decoder(library: NativeLibrary) -> NativeDecoder:
    return NativeDecoder(make_weights(PLAIN, with_extras=True), library)


def chain(decoder: NativeDecoder, ids: Sequence[int], cuts: Sequence[int] = ()) -> torch.Tensor:
    """Logits of all ids, computed in the parts between `cuts`."""
    kv, parts = decoder.new_kv(), []
    for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        part = ids[start:end]
        parts += decoder.forward([Segment(kv=kv, ids=part, num_rows=len(part))])
        kv.keep(range(len(part)))
    return torch.cat(parts)


def test_the_kernels_were_compiled() -> None:
    """Where there is no compiler the engine works without them; where the tests run, there is one."""
    assert library_paths()


@pytest.mark.parametrize("with_extras", [False, True], ids=["plain", "extras"])
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_logits_are_those_of_the_same_arithmetic_in_pytorch(
    library: NativeLibrary, name: str, with_extras: bool
) -> None:
    weights = make_weights(ARCHITECTURES[name], with_extras=with_extras)
    ids = torch.randint(VOCAB, (90,), generator=torch.Generator().manual_seed(1)).tolist()
    kv_dtype = torch.float32 if library.kind == "portable" else torch.float16
    expected, logits = reference(weights, ids, kv_dtype), chain(NativeDecoder(weights, library), ids)
    # A value halfway between two steps of the 8 bits may fall to the other side in PyTorch: then that row is 1 % off.
    error = (logits - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert error.quantile(0.1) < 1e-5 and error.max() < 0.1


ids_of_any_length = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=150)


@settings(max_examples=25, deadline=None)
@given(ids=ids_of_any_length, data=st.data())
def test_how_a_prompt_is_cut_into_parts_changes_no_bit(decoder: NativeDecoder, ids: list[int], data: Any) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(ids) - 1)), max_size=4)) - {len(ids)})
    assert torch.equal(chain(decoder, ids, cuts), chain(decoder, ids))


@st.composite
def trees(draw: st.DrawFn) -> list[int]:
    """Parents; each smaller than its child's own index, -1 for the end of the prompt."""
    return [draw(st.integers(-1, i - 1)) for i in range(draw(st.integers(1, 20)))]


@settings(max_examples=25, deadline=None)
@given(prompt=ids_of_any_length, parents=trees(), data=st.data())
def test_a_branch_is_the_chain_of_its_path_bit_for_bit(
    decoder: NativeDecoder, prompt: list[int], parents: list[int], data: Any
) -> None:
    ids = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=len(parents), max_size=len(parents)))
    kv = decoder.new_kv()
    decoder.forward([Segment(kv=kv, ids=prompt)])
    kv.keep(range(len(prompt)))
    (logits,) = decoder.forward([Segment(kv=kv, ids=ids, parents=parents, num_rows=len(ids))])
    node = data.draw(st.integers(0, len(ids) - 1))
    path = _path(parents, node)
    expected = chain(decoder, [*prompt, *(ids[i] for i in path)])
    assert torch.equal(logits[path], expected[len(prompt) :])

    kv.keep(path)
    (after,) = decoder.forward([Segment(kv=kv, ids=[7])])
    kv.keep([0])
    assert torch.equal(after[0], chain(decoder, [*prompt, *(ids[i] for i in path), 7])[-1])


def _path(parents: Sequence[int], node: int) -> list[int]:
    path = [node]
    while parents[path[0]] >= 0:
        path.insert(0, parents[path[0]])
    return path


@settings(max_examples=15, deadline=None)
@given(prompts=st.lists(ids_of_any_length, min_size=1, max_size=5), data=st.data())
def test_neighbours_in_a_batch_change_no_bit(decoder: NativeDecoder, prompts: list[list[int]], data: Any) -> None:
    rows = [data.draw(st.integers(1, len(ids))) for ids in prompts]
    batch = [Segment(kv=decoder.new_kv(), ids=ids, num_rows=n) for ids, n in zip(prompts, rows, strict=True)]
    for ids, n, logits in zip(prompts, rows, decoder.forward(batch), strict=True):
        assert torch.equal(logits, chain(decoder, ids)[-n:])


def test_what_was_cropped_or_copied_leaves_no_trace(decoder: NativeDecoder) -> None:
    first, second = list(range(40)), list(range(60, 0, -1))
    kv, copy = decoder.new_kv(), decoder.new_kv()
    decoder.forward([Segment(kv=kv, ids=first)])
    kv.keep(range(40))
    copy.copy_from(kv, 25)
    kv.crop(10)
    (logits,) = decoder.forward([Segment(kv=kv, ids=second)])
    assert torch.equal(logits[0], chain(decoder, [*first[:10], *second])[-1])
    (copied,) = decoder.forward([Segment(kv=copy, ids=second)])
    assert torch.equal(copied[0], chain(decoder, [*first[:25], *second])[-1])


def test_windows_hold_in_trees_too(library: NativeLibrary) -> None:
    windowed = NativeDecoder(make_weights(ARCHITECTURES["windows"], with_extras=False), library)
    prompt, kv = list(range(20)), windowed.new_kv()
    windowed.forward([Segment(kv=kv, ids=prompt)])
    kv.keep(range(20))
    parents = [-1, -1, 0, 1, 3, 4, 5, 6]
    (logits,) = windowed.forward([Segment(kv=kv, ids=list(range(30, 38)), parents=parents, num_rows=8)])
    path = _path(parents, 7)
    assert torch.equal(logits[7], chain(windowed, [*prompt, *(30 + i for i in path)])[-1])


def test_an_adapter_takes_memory_for_what_it_changes_only() -> None:
    library = NativeLibrary(library_paths()[0], num_threads=1)
    weights = make_weights(PLAIN, with_extras=False, seed=3)
    changed = dataclasses.replace(weights.layers[0], out=weights.layers[0].out + 1)
    base = NativeDecoder(weights, library)
    adapted = NativeDecoder(dataclasses.replace(weights, layers=(changed, weights.layers[1])), library)
    shared = {id(item) for item in base._owned} & {id(item) for item in adapted._owned}
    assert len({id(item) for item in adapted._owned}) - len(shared) == 1
    assert 0 < adapted.num_bytes < base.num_bytes / 4
    again = NativeDecoder(dataclasses.replace(weights, layers=(changed, weights.layers[1])), library)
    assert again.num_bytes == adapted.num_bytes  # shared with an adapter that may go before it


def test_memory_goes_with_its_owner(library: NativeLibrary) -> None:
    decoder = NativeDecoder(make_weights(PLAIN, with_extras=False, seed=4), library)
    kv: NativeKv = decoder.new_kv()
    decoder.forward([Segment(kv=kv, ids=[1, 2])])
    assert kv.num_bytes > 0
    matrices = len(library._matrices)
    del decoder
    assert len(library._matrices) < matrices


def test_two_threads_with_libraries_of_their_own_do_not_disturb_each_other() -> None:
    """As two engines in one process do; late helpers of one forward must not touch the next."""
    weights, ids = make_weights(PLAIN, with_extras=True), [i % VOCAB for i in range(200)]
    decoders = [NativeDecoder(weights, NativeLibrary(library_paths()[0], num_threads=3)) for _ in range(2)]
    expected, wrong = chain(decoders[0], ids), list[int]()

    def work(decoder: NativeDecoder) -> None:
        for cut in range(1, 60):
            if not torch.equal(chain(decoder, ids, [cut]), expected):
                wrong.append(cut)

    threads = [threading.Thread(target=work, args=(decoder,)) for decoder in decoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_adapter_that_is_tried_out_beside_a_completion_disturbs_nothing() -> None:
    """Adapters are checked in the thread that loads them, with the kernels and buffers that complete meanwhile."""
    library = NativeLibrary(library_paths()[0], num_threads=2)
    decoders = [NativeDecoder(make_weights(PLAIN, with_extras=True, seed=seed), library) for seed in (0, 1)]
    ids = [i % VOCAB for i in range(120)]
    expected, wrong = [chain(decoder, ids) for decoder in decoders], list[int]()

    def work(number: int) -> None:
        for cut in range(1, 80):
            if not torch.equal(chain(decoders[number], ids, [cut]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_ids_and_positions_outside_the_tables_are_never_looked_up(decoder: NativeDecoder) -> None:
    for ids in ([5, VOCAB], [-1], [1] * (PLAIN.max_context + 1)):
        with pytest.raises(AssertionError):
            decoder.forward([Segment(kv=decoder.new_kv(), ids=ids)])


def test_a_size_the_kernels_cannot_do_is_refused_in_one_line(library: NativeLibrary) -> None:
    odd = dataclasses.replace(PLAIN, intermediate=72)
    with pytest.raises(ModelError, match="intermediate size of 72"):
        NativeDecoder(make_weights(odd, with_extras=False), library)


def test_a_library_is_chosen_by_what_the_processor_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from homespun_server.engine.decoders import kernels

    monkeypatch.setattr(kernels, "_cpu_flags", frozenset)
    assert [path.stem for path in library_paths()] == ["kernels-portable"]


def test_paths_outside_the_package_are_never_loaded() -> None:
    assert all(path.is_relative_to(Path(__file__).parents[4] / "server") for path in library_paths())
