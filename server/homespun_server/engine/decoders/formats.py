"""Which number format, kernels and threads a model runs with: decided by timing them at start.

What a processor says it has and what runs fast differ: some hide AVX512-BF16 and emulate it, some clock down under
AVX-512, and threads that share a core or are lent to others make small products slower.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from homespun_core.errors import ModelError
from homespun_server.engine.decoders.families import Architecture
from homespun_server.engine.decoders.kernels import library_paths
from homespun_server.engine.decoders.native_decoder import NativeDecoder, NativeLibrary, unsupported
from homespun_server.engine.decoders.protocol import Decoder, Segment
from homespun_server.engine.decoders.torch_decoder import TorchDecoder
from homespun_server.engine.decoders.weights import LayerWeights, Weights

logger = logging.getLogger(__name__)

EXACT_BELOW_PARAMETERS = 300_000_000
"""Smaller models don't run in bfloat16 on a CPU when the choice is ours, since there a completion depends on what was
cached or drafted: of 200 prompts from real files, 24 tokens each, 7 completions changed when cached, 7 when drafted and
13 when both (PyTorch's attention rounds differently for one row and for several). In float32 and int8 none did."""
_STEP_ROWS, _STEPS, _PREFILL_ROWS = 8, 12, 128
"""About what a keystroke takes: a dozen steps of a token and its drafts, and the part of a prompt that is new."""
_ROUNDS = 3
_SAMPLE = Architecture(
    vocab_size=2048,
    hidden=768,
    intermediate=2048,
    num_layers=1,
    num_heads=12,
    num_kv_heads=2,
    head_dim=64,
    max_context=256,
    norm="rms",
    norm_eps=1e-5,
    activation="silu",
    is_gated=True,
    attention_scale=0.125,
)
"""What is timed: one layer of a small model, whatever model is to be served."""


@dataclass(frozen=True, slots=True)
class Format:
    dtype: torch.dtype
    """torch.int8: 8-bit weights in our own kernels."""
    library: NativeLibrary | None = None
    """Those kernels and their threads."""

    @property
    def has_vectors(self) -> bool:
        """Whether its kernels are surely faster than PyTorch's: 3 to 4 times with AVX2, 8 to 18 with AVX-512."""
        return self.library is not None and self.library.kind != "portable"


def choose_format(
    name: str, architecture: Architecture | None, device: torch.device, *, num_threads: int, num_parameters: int
) -> Format:
    """`name`: a dtype or auto; `num_threads` 0: as many as are fastest. Raises ModelError where int8 isn't possible."""
    if name == "int8":
        _check_int8(architecture, device)
        formats = list(_int8_formats(num_threads))
        if not formats:
            raise ModelError("dtype: int8 needs compiled kernels, and none of those here can be used; set up again")
        return _fastest(formats)
    if name != "auto":
        return Format(getattr(torch, name))
    if device.type != "cpu":
        return Format(torch.bfloat16)
    candidates = list[Format]()
    if architecture is not None and unsupported(architecture) is None:
        candidates += _int8_formats(num_threads)
    if not any(format.has_vectors for format in candidates):
        candidates.append(Format(torch.float32))
        if num_parameters >= EXACT_BELOW_PARAMETERS:
            candidates.append(Format(torch.bfloat16))
    return _fastest(candidates)


def _check_int8(architecture: Architecture | None, device: torch.device) -> None:
    if architecture is None or device.type != "cpu":
        where = "this model" if device.type == "cpu" else "a GPU"
        raise ModelError(f"dtype: int8 is not available for {where}; use --dtype auto")
    if (problem := unsupported(architecture)) is not None:
        raise ModelError(f"dtype: the int8 kernels {problem}; use --dtype auto")
    if not library_paths():
        raise ModelError(
            "dtype: int8 needs compiled kernels, which are missing; install a C++ compiler (g++) and set up again"
        )


def _int8_formats(num_threads: int) -> Iterator[Format]:
    """The best instructions with several numbers of threads, the others with the most."""
    counts = [num_threads] if num_threads else list(_thread_counts())
    usable = [path for path in library_paths() if _loads(path)]
    for path in usable[:1]:
        yield from (Format(torch.int8, NativeLibrary(path, count)) for count in counts)
    for path in usable[1:-1]:  # the last is the portable one, which is never faster than another
        yield Format(torch.int8, NativeLibrary(path, counts[-1]))


def _loads(path: Path) -> bool:
    """A library may be damaged, or made for another system's C library."""
    try:
        NativeLibrary(path, 1)
    except (OSError, AttributeError) as error:
        logger.warning("kernels %s can't be used: %s", path.name, error)
        return False
    return True


def _thread_counts() -> Iterator[int]:
    """1, 2, 4, ... and all processors that we may use."""
    available, count = len(os.sched_getaffinity(0)), 1
    while count < available:
        yield count
        count *= 2
    yield available


def _fastest(formats: Sequence[Format]) -> Format:
    if len(formats) == 1:
        return formats[0]
    weights = _sample_weights()
    decoders = [_decoder(weights, format) for format in formats]
    # In turns, so that a busy moment hits all of them alike.
    times = [[_seconds(decoder) for decoder in decoders] for _ in range(_ROUNDS)]
    return min(zip(formats, map(min, zip(*times, strict=True)), strict=True), key=lambda pair: pair[1])[0]


def _decoder(weights: Weights, format: Format) -> Decoder:
    if format.library is not None:
        return NativeDecoder(weights, format.library)
    return TorchDecoder(weights, torch.device("cpu"), format.dtype)


def _seconds(decoder: Decoder) -> float:
    kv, total = decoder.new_kv(), 0.0
    for rows, times in ((_PREFILL_ROWS, 1), (_STEP_ROWS, _STEPS)):
        started = time.perf_counter()
        for _ in range(times):
            decoder.forward([Segment(kv=kv, ids=range(rows), num_rows=min(rows, _STEP_ROWS))])
            kv.crop(kv.length)
        total += time.perf_counter() - started
    return total


def _sample_weights() -> Weights:
    a = _SAMPLE

    def matrix(outputs: int, inputs: int) -> torch.Tensor:
        return torch.randn(outputs, inputs) * 0.02

    layer = LayerWeights(
        attention_norm=torch.ones(a.hidden),
        attention_norm_bias=None,
        qkv=matrix((a.num_heads + 2 * a.num_kv_heads) * a.head_dim, a.hidden),
        qkv_bias=None,
        q_norm=None,
        k_norm=None,
        out=matrix(a.hidden, a.num_heads * a.head_dim),
        out_bias=None,
        mlp_norm=torch.ones(a.hidden),
        mlp_norm_bias=None,
        up=matrix(2 * a.intermediate, a.hidden),
        up_bias=None,
        down=matrix(a.hidden, a.intermediate),
        down_bias=None,
    )
    tables = torch.ones(a.max_context, a.head_dim // 2)
    embedding = matrix(a.vocab_size, a.hidden)
    return Weights(
        architecture=a,
        embedding=embedding,
        layers=(layer,),
        norm=torch.ones(a.hidden),
        norm_bias=None,
        head=embedding,
        cos=tables,
        sin=tables,
    )
