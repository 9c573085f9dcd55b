"""A decoder in pure Python: logits are looked up by a hash of the whole path. It asserts that it is used as agreed."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from homespun_server.engine.budget import StepCosts
from homespun_server.engine.decoders.formats import Format
from homespun_server.engine.decoders.protocol import ModelFacts, Segment
from homespun_server.engine.sampling import Sampler
from homespun_server.engine.trees import Branches

VOCAB = 16
ROW_BYTES = 100
FLAT = StepCosts(rows=((1, 1.0), (8, 1.1), (32, 1.4)), prefill=((64, 20.0), (128, 40.0)), row_bytes=ROW_BYTES)
"""A prompt is computed in chunks of 64, drafts are nearly free."""
_TABLE = torch.randn(1009, VOCAB, generator=torch.Generator().manual_seed(0)) * 2


class HashKv:
    def __init__(self, decoder: HashDecoder) -> None:
        self.decoder = decoder
        self.ids: list[int] = []
        self.pending: Segment | None = None

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def num_bytes(self) -> int:
        return ROW_BYTES * len(self.ids)

    def keep(self, rows: Sequence[int]) -> None:
        assert self.pending is not None
        ids, parents = self.pending.ids, parents_of(self.pending)
        for before, row in zip([-1, *rows], rows, strict=False):
            assert parents[row] == before
        assert self.decoder.facts.can_crop or list(rows) == [*range(len(ids))]
        self.ids += [ids[row] for row in rows]
        self.pending = None

    def crop(self, length: int) -> None:
        assert self.decoder.facts.can_crop and self.pending is None and length <= len(self.ids)
        del self.ids[length:]

    def copy_from(self, other: HashKv, length: int) -> None:
        assert other.decoder is self.decoder and other.pending is None and length <= other.length
        self.ids = other.ids[:length]


class HashDecoder:
    def __init__(self, seed: int, *, can_crop: bool = True, can_branch: bool = True, num_bytes: int = 1000) -> None:
        self.seed, self.num_bytes = seed, num_bytes
        self.facts = ModelFacts(
            vocab_size=VOCAB, num_layers=1, max_context=512, can_crop=can_crop, can_branch=can_branch
        )
        self.before: Callable[[Sequence[Segment]], None] = lambda batch: None
        """Called before each forward; may raise, or wait."""
        self.batches: list[list[int]] = []
        """Number of ids of each segment of each forward."""

    def new_kv(self) -> HashKv:
        return HashKv(self)

    def forward(self, batch: Sequence[Segment]) -> list[torch.Tensor]:
        kvs = [segment.kv for segment in batch]
        assert batch and len({id(kv) for kv in kvs}) == len(kvs)
        self.before(batch)
        self.batches.append([len(segment.ids) for segment in batch])
        return [self._rows(segment) for segment in batch]

    def _rows(self, segment: Segment) -> torch.Tensor:
        kv, parents = segment.kv, parents_of(segment)
        assert isinstance(kv, HashKv) and kv.decoder is self and kv.pending is None
        assert 1 <= segment.num_rows <= len(segment.ids)
        assert self.facts.can_branch or segment.parents is None
        assert kv.length + len(segment.ids) <= self.facts.max_context, "beyond the model's context"
        kv.pending = segment
        paths: list[list[int]] = []
        for token, parent in zip(segment.ids, parents, strict=True):
            assert 0 <= token < VOCAB
            paths.append([*(paths[parent] if parent >= 0 else kv.ids), token])
        return torch.stack([logits_after(self.seed, path) for path in paths[-segment.num_rows :]])


class HashSource:
    """An adapter's weights are its path's name."""

    format, device = Format(torch.float32), torch.device("cpu")

    def __init__(
        self, *, can_crop: bool = True, can_branch: bool = True, load: Callable[[Path], None] = lambda path: None
    ) -> None:
        self._facts, self._load = {"can_crop": can_crop, "can_branch": can_branch}, load
        self.made: list[HashDecoder] = []

    def decoder(self, adapter: Path | None = None) -> HashDecoder:
        if adapter is not None:
            self._load(adapter)
        self.made.append(HashDecoder(seed_of(adapter), **self._facts))
        return self.made[-1]


def seed_of(adapter: Path | None) -> int:
    return zlib.crc32(adapter.name.encode()) if adapter is not None else 0


def parents_of(segment: Segment) -> Sequence[int]:
    return range(-1, len(segment.ids) - 1) if segment.parents is None else segment.parents


def logits_after(seed: int, ids: Sequence[int]) -> torch.Tensor:
    return _TABLE[zlib.crc32(bytes(ids), seed) % len(_TABLE)]


def plain(
    seed: int, ids: Sequence[int], count: int, temperature: float = 0.0, random_seed: int | None = None
) -> list[int]:
    """What decoding one token at a time, with nothing cached, gives."""
    sampler, written = Sampler(temperature, random_seed), list[int]()
    for _ in range(count):
        row = logits_after(seed, [*ids, *written]).unsqueeze(0)
        written.append(sampler.decide(row, Branches()).tokens[0].id)
    return written


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.001)


def chi_square(counts: Sequence[int], chances: Sequence[float]) -> float:
    total = sum(counts)
    return math.fsum((n - total * p) ** 2 / (total * p) for n, p in zip(counts, chances, strict=True))
