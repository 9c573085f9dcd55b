"""The decoder for CPUs: 8-bit weights and activations, compiled (`native/`), reached through ctypes.

Rows are quantised on their own, sums inside a group are exact integers, and floating-point sums have a fixed order: so
logits are the same bit for bit whether a prompt was cached or not, a token drafted or not, a neighbour in the batch or
not. All memory that C++ reads is owned by objects here; ctypes lets other Python threads run during a forward.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import threading
import weakref
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch

from homespun_core.errors import ModelError, ServiceError
from homespun_server.engine.decoders.families import Architecture
from homespun_server.engine.decoders.kernels import FOLDER
from homespun_server.engine.decoders.protocol import Kv, ModelFacts, Segment
from homespun_server.engine.decoders.weights import LayerWeights, Weights

_LANES = 16
"""Widths must be multiples of it: the longest vectors of any instruction set."""


class _Layer(Structure):
    _fields_ = (
        ("attention_norm", c_void_p),
        ("attention_norm_bias", c_void_p),
        ("qkv", c_void_p),
        ("qkv_bias", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
        ("out", c_void_p),
        ("out_bias", c_void_p),
        ("mlp_norm", c_void_p),
        ("mlp_norm_bias", c_void_p),
        ("up", c_void_p),
        ("up_bias", c_void_p),
        ("down", c_void_p),
        ("down_bias", c_void_p),
        ("window", c_int32),
    )


class _Model(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("vocabulary", "hidden", "intermediate", "layers", "heads", "kv_heads", "dim")),
        *((name, c_int32) for name in ("is_layer_norm", "is_gelu", "is_gated")),
        *((name, c_float) for name in ("epsilon", "attention_scale", "embedding_scale", "residual_scale")),
        ("logit_scale", c_float),
        ("embedding", c_void_p),
        ("layer", POINTER(_Layer)),
        ("norm", c_void_p),
        ("norm_bias", c_void_p),
        ("head", c_void_p),
        ("cos", c_void_p),
        ("sin", c_void_p),
    )


class _Segment(Structure):
    _fields_ = (
        ("kv", c_void_p),
        ("start", c_int32),
        ("count", c_int32),
        ("ids", POINTER(c_int32)),
        ("parents", POINTER(c_int32)),
        ("wanted", c_int32),
    )


class NativeLibrary:
    """One compiled library with its threads. The threads sleep between forwards. Raises OSError."""

    def __init__(self, path: Path, num_threads: int) -> None:
        self._c = _bound(path)
        if self._c.hs_sources().decode() != _sources_digest():
            raise OSError("compiled from other sources than these; set Homespun up again")
        if not self._c.hs_may_run():
            raise OSError("the system doesn't let this process use the processor's tiles")
        self.kind: str = self._c.hs_kind().decode()
        self.padding: int = self._c.hs_padding()
        self._forward = _owned(self, self._c.hs_forward_new(num_threads), self._c.hs_forward_free)
        self._matrices: weakref.WeakValueDictionary[bytes, NativeMatrix] = weakref.WeakValueDictionary()
        self._tables: weakref.WeakValueDictionary[bytes, Table] = weakref.WeakValueDictionary()
        self._base: weakref.WeakSet[NativeMatrix | Table] = weakref.WeakSet()
        """What the first decoder has, which the others share."""
        self._busy = threading.Lock()
        """Buffers and threads are those of one forward at a time, and adapters are tried out while others complete."""

    def matrix(self, values: torch.Tensor) -> NativeMatrix:
        """Packed (outputs, inputs); the same object for the same values, so that an adapter takes memory for what it
        changes only."""
        values = values.detach().float().contiguous()
        digest = _digest(values)
        found = self._matrices.get(digest)
        if found is None:
            found = self._matrices[digest] = NativeMatrix(self._c, values)
        return found

    def table(self, values: torch.Tensor) -> Table:
        """Numbers as they are, shared in the same way."""
        values = values.detach().float().contiguous()
        digest = _digest(values)
        found = self._tables.get(digest)
        if found is None:
            found = self._tables[digest] = Table(values)
        return found

    def counted(self, items: Sequence[NativeMatrix | Table]) -> int:
        """Bytes of a decoder's matrices and tables that the first one doesn't have."""
        own = [item for item in dict.fromkeys(items) if item not in self._base]
        if not self._base:
            self._base.update(items)
        return sum(item.num_bytes for item in own)

    def new_kv(self, architecture: Architecture) -> NativeKv:
        return NativeKv(self._c, architecture)

    def forward(self, model: _Model, segments: Any, logits: torch.Tensor) -> None:
        with self._busy:
            failed = self._c.hs_forward(self._forward, byref(model), segments, len(segments), logits.data_ptr())
        if failed:
            raise ServiceError("no memory for keys and values; lower max_running or use a machine with more memory")


class NativeMatrix:
    def __init__(self, c: Any, values: torch.Tensor) -> None:
        self.pointer = _owned(self, c.hs_matrix_new(*values.shape, values.data_ptr()), c.hs_matrix_free)
        self.num_bytes: int = c.hs_matrix_bytes(self.pointer)


class Table:
    """A tensor that C++ reads."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        self.pointer = values.data_ptr()
        self.num_bytes = values.nbytes


class NativeKv:
    """See `decoder.Kv`."""

    def __init__(self, c: Any, architecture: Architecture) -> None:
        self._c = c
        shape = (architecture.num_layers, architecture.num_kv_heads, architecture.head_dim)
        self.pointer = _owned(self, c.hs_kv_new(*shape), c.hs_kv_free)
        self.length = 0
        self.appended = 0
        """Rows of the last forward, not kept yet."""

    @property
    def num_bytes(self) -> int:
        return int(self._c.hs_kv_bytes(self.pointer))

    def keep(self, rows: Sequence[int]) -> None:
        assert all(a < b for a, b in itertools.pairwise([-1, *rows, self.appended]))
        places = (c_int32 * len(rows))(*(self.length + row for row in rows))
        self._c.hs_kv_keep(self.pointer, self.length, places, len(rows))
        self.length += len(rows)
        self.appended = 0

    def crop(self, length: int) -> None:
        assert 0 <= length <= self.length
        self.length, self.appended = length, 0

    def copy_from(self, other: NativeKv, length: int) -> None:
        assert length <= other.length
        if self._c.hs_kv_copy(self.pointer, other.pointer, length):
            raise ServiceError("no memory for keys and values; lower max_running or use a machine with more memory")
        self.length, self.appended = length, 0


class NativeDecoder:
    """See `decoder.Decoder`. Raises ModelError for an architecture that the kernels don't know."""

    def __init__(self, weights: Weights, library: NativeLibrary) -> None:
        architecture = weights.architecture
        if (problem := unsupported(architecture)) is not None:
            raise ModelError(f"dtype: int8 kernels {problem}; use --dtype float32 or bfloat16")
        self._library, self._architecture = library, architecture
        self._num_positions = len(weights.cos)
        self._owned: list[NativeMatrix | Table] = []
        """What the structures below point to."""
        self._layers = (_Layer * architecture.num_layers)(*(self._layer(i, w) for i, w in enumerate(weights.layers)))
        self._model = self._structure(weights)
        self.num_bytes = library.counted(self._owned)
        self.facts = ModelFacts(
            vocab_size=architecture.vocab_size,
            num_layers=architecture.num_layers,
            max_context=architecture.max_context,
            can_crop=True,
            can_branch=True,
        )

    def new_kv(self) -> NativeKv:
        return self._library.new_kv(self._architecture)

    def forward(self, batch: Sequence[Segment]) -> list[torch.Tensor]:
        for segment in batch:
            # C++ looks them up unchecked.
            assert segment.kv.length + len(segment.ids) <= self._num_positions, "beyond the model's context"
            assert min(segment.ids) >= 0 and max(segment.ids) < self.facts.vocab_size, "no token of this model"
        segments = (_Segment * len(batch))(*map(_segment, batch))
        sizes = [segment.num_rows for segment in batch]
        logits = torch.empty(sum(sizes), _padded(self.facts.vocab_size, self._library.padding))
        self._library.forward(self._model, segments, logits)
        for segment in batch:
            assert isinstance(segment.kv, NativeKv)
            segment.kv.appended = len(segment.ids)
        return list(logits[:, : self.facts.vocab_size].split(sizes))

    def _structure(self, weights: Weights) -> _Model:
        a = weights.architecture
        return _Model(
            vocabulary=a.vocab_size,
            hidden=a.hidden,
            intermediate=a.intermediate,
            layers=a.num_layers,
            heads=a.num_heads,
            kv_heads=a.num_kv_heads,
            dim=a.head_dim,
            is_layer_norm=a.norm == "layer",
            is_gelu=a.activation == "gelu_tanh",
            is_gated=a.is_gated,
            epsilon=a.norm_eps,
            attention_scale=a.attention_scale,
            embedding_scale=a.embedding_scale,
            residual_scale=a.residual_scale,
            logit_scale=a.logit_scale,
            embedding=self._table(weights.embedding),
            layer=self._layers,
            norm=self._table(weights.norm),
            norm_bias=self._table(weights.norm_bias),
            head=self._matrix(weights.head),
            cos=self._table(weights.cos),
            sin=self._table(weights.sin),
        )

    def _layer(self, index: int, weights: LayerWeights) -> _Layer:
        windows = self._architecture.windows
        return _Layer(
            attention_norm=self._table(weights.attention_norm),
            attention_norm_bias=self._table(weights.attention_norm_bias),
            qkv=self._matrix(weights.qkv),
            qkv_bias=self._bias(weights.qkv_bias),
            q_norm=self._table(weights.q_norm),
            k_norm=self._table(weights.k_norm),
            out=self._matrix(weights.out),
            out_bias=self._bias(weights.out_bias),
            mlp_norm=self._table(weights.mlp_norm),
            mlp_norm_bias=self._table(weights.mlp_norm_bias),
            up=self._matrix(weights.up),
            up_bias=self._bias(weights.up_bias),
            down=self._matrix(weights.down),
            down_bias=self._bias(weights.down_bias),
            window=windows[index] if windows else 0,
        )

    def _matrix(self, values: torch.Tensor) -> int:
        matrix = self._library.matrix(values)
        self._owned.append(matrix)
        return matrix.pointer

    def _table(self, values: torch.Tensor | None) -> int | None:
        if values is None:
            return None
        table = self._library.table(values)
        self._owned.append(table)
        return table.pointer

    def _bias(self, values: torch.Tensor | None) -> int | None:
        """Padded as the outputs of a matrix are."""
        if values is None:
            return None
        wanted = _padded(len(values), self._library.padding)
        return self._table(torch.nn.functional.pad(values.detach().float(), (0, wanted - len(values))))


def unsupported(architecture: Architecture) -> str | None:
    """What of an architecture the kernels can't do, as the end of a sentence."""
    sizes = {
        "hidden size": architecture.hidden,
        "intermediate size": architecture.intermediate,
        "head size": architecture.head_dim,
    }
    odd = [f"{name} of {size}" for name, size in sizes.items() if size % _LANES]
    return f"need multiples of {_LANES}, and this model has a {odd[0]}" if odd else None


def _segment(segment: Segment) -> _Segment:
    kv: Kv = segment.kv
    assert isinstance(kv, NativeKv) and 0 < segment.num_rows <= len(segment.ids)
    count = len(segment.ids)
    parents = None if segment.parents is None else (c_int32 * count)(*segment.parents)
    return _Segment(
        kv=kv.pointer,
        start=kv.length,
        count=count,
        ids=(c_int32 * count)(*segment.ids),
        parents=parents,
        wanted=segment.num_rows,
    )


def _padded(size: int, padding: int) -> int:
    return -(-size // padding) * padding


def _digest(values: torch.Tensor) -> bytes:
    hasher = hashlib.sha256(repr(tuple(values.shape)).encode())
    hasher.update(values.numpy().data)
    return hasher.digest()


def _owned(owner: object, pointer: int | None, free: Any) -> int:
    """A pointer that is freed with its owner."""
    if not pointer:
        raise ModelError("base_model: not enough memory for the int8 weights")
    # Not at exit: threads that still compute read it until the very end.
    weakref.finalize(owner, free, pointer).atexit = False
    return pointer


@cache
def _sources_digest() -> str:
    """As `hatch_build.py` computes it: structures that have changed since would be read at the wrong places."""
    sources = sorted([*FOLDER.glob("*.h"), *FOLDER.glob("*.cpp")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


@cache
def _bound(path: Path) -> Any:
    c = ctypes.CDLL(os.fspath(path))
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "hs_kind": (c_char_p, []),
        "hs_may_run": (c_int, []),
        "hs_padding": (c_int, []),
        "hs_sources": (c_char_p, []),
        "hs_matrix_new": (c_void_p, [c_int, c_int, c_void_p]),
        "hs_matrix_free": (None, [c_void_p]),
        "hs_matrix_bytes": (c_int64, [c_void_p]),
        "hs_forward_new": (c_void_p, [c_int]),
        "hs_forward_free": (None, [c_void_p]),
        "hs_kv_new": (c_void_p, [c_int, c_int, c_int]),
        "hs_kv_free": (None, [c_void_p]),
        "hs_kv_bytes": (c_int64, [c_void_p]),
        "hs_kv_keep": (None, [c_void_p, c_int, POINTER(c_int32), c_int]),
        "hs_kv_copy": (c_int, [c_void_p, c_void_p, c_int]),
        "hs_forward": (c_int, [c_void_p, POINTER(_Model), POINTER(_Segment), c_int, c_void_p]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(c, name)
        function.restype, function.argtypes = result, arguments
    return c
