"""Rows of tokens on disk: raw little-endian uint16, mapped when read, with a manifest of what went in.

A part is the rows of one phase, or those of its held-out files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from homespun_core import storage
from homespun_core.errors import ModelError, StorageError
from homespun_core.storage import Manifest
from homespun_core.types import Document, Tokenizer
from homespun_trainer.pretrain.packing import pack
from homespun_trainer.pretrain.samples import PHASES, Sample, tokens_by_kind
from homespun_trainer.pretrain.text import as_row

KIND, FORMAT = "pretraining rows", 1
"""1: PART-NNNN.bin, held-out.jsonl, tokenizer.json."""
SAMPLES_KIND, SAMPLES_FORMAT = "pretraining samples", 1
PAD, END = "<|fim_pad|>", "<|endoftext|>"
_SHARD_BYTES = 256 << 20
_UINT16 = 1 << 16

Rows = NDArray[np.uint16]


def held_out(phase: str) -> str:
    """Name of the part with a phase's held-out files."""
    return f"{phase}-held-out"


PARTS = tuple(part for phase in PHASES for part in (phase.name, held_out(phase.name)))


def pad_id(tokenizer: Tokenizer) -> int:
    found = tokenizer.control_id(PAD)
    if found is None:
        raise ModelError(f"--tokenizer: it has no {PAD}, which fills rows; use the built-in model's, or add it")
    if len(tokenizer.spelled) > _UINT16 or not tokenizer.spelled:
        raise ModelError("--tokenizer: want a byte-level one of at most 65,536 tokens")
    return found


def publish_samples(final: Path, fingerprint: str, parts: Mapping[str, Sequence[Sample]]) -> Path:
    """Samples of one repository, before those of all are mixed."""
    info = {part: tokens_by_kind(samples) for part, samples in parts.items()}
    manifest = Manifest(
        kind=SAMPLES_KIND, format_version=SAMPLES_FORMAT, fingerprint=fingerprint, sources={}, info=info
    )
    with storage.publish_dir(final, manifest) as tmp:
        arrays: dict[str, NDArray[Any]] = {}
        for part, samples in parts.items():
            arrays[f"{part}/tokens"] = np.array([i for sample in samples for i in sample.ids], np.uint16)
            arrays[f"{part}/lengths"] = np.array([len(sample.ids) for sample in samples], np.int32)
        save_file(arrays, tmp / "samples.safetensors")
    return final


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A file that no sample was made of."""

    repo: str
    """owner/name"""
    document: Document


def publish(
    parent: Path,
    samples: Sequence[Path],
    *,
    facts: Mapping[str, Any],
    files: Sequence[HeldOut],
    tokenizer: Tokenizer,
    tokenizer_json: str,
    seed: int,
) -> Path:
    """Mix, pack and write the rows of all repositories, made current. `facts` go into the manifest as they are,
    and from there into the card."""
    manifests = [storage.read_manifest(path, SAMPLES_KIND, SAMPLES_FORMAT) for path in samples]
    fingerprint = storage.fingerprint(FORMAT, [m.fingerprint for m in manifests], tokenizer.digest, seed, dict(facts))
    final = parent / fingerprint[:16]
    if not (final / storage.MANIFEST).is_file():
        controls = {"pad": pad_id(tokenizer), "end": tokenizer.control_id(END), "vocabulary": len(tokenizer.spelled)}
        info: dict[str, Any] = {**facts, **controls, "parts": {}}
        manifest = Manifest(
            kind=KIND,
            format_version=FORMAT,
            fingerprint=fingerprint,
            sources={"tokenizer": tokenizer.digest},
            info=info,
        )
        with storage.publish_dir(final, lambda: manifest) as tmp:
            for phase in PHASES:
                for part in (phase.name, held_out(phase.name)):
                    rows = _mixed(samples, part, phase.row_tokens, info["pad"], seed)
                    info["parts"][part] = _facts(rows, info["pad"]) | {"kinds": _kinds(manifests, part)}
                    _write(tmp, part, rows)
            lines = (
                json.dumps({"repo": file.repo, "document": as_row(file.document)}, ensure_ascii=False) + "\n"
                for file in files
            )
            (tmp / "held-out.jsonl").write_text("".join(lines), encoding="utf-8")
            (tmp / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    storage.set_current(parent, final.name)
    storage.prune(parent, keep=2)
    return final


class Shards:
    """Read side."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.info: Mapping[str, Any] = manifest.info
        self._parts = {part: list(self._mapped(part)) for part in PARTS}

    @staticmethod
    def open(parent: Path) -> Shards:
        """The current ones, checked. Raises StorageError when there are none, or they are damaged."""
        path = storage.current(parent)
        if path is None:
            raise StorageError(f"{parent}: nothing is prepared there; run `homespun pretrain prepare` first")
        manifest = storage.read_manifest(path, KIND, FORMAT)
        storage.verify(path, manifest)
        return Shards(path, manifest)

    @property
    def pad(self) -> int:
        return int(self.info["pad"])

    def num_rows(self, part: str) -> int:
        return sum(len(rows) for rows in self._parts[part])

    def num_tokens(self, part: str) -> int:
        """Without padding."""
        return int(self.info["parts"][part]["tokens"])

    def take(self, part: str, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows by number, in the order asked for."""
        starts = np.cumsum([0, *(len(rows) for rows in self._parts[part])])
        which = np.searchsorted(starts, numbers, side="right") - 1
        picked = [self._parts[part][w][n - starts[w]] for w, n in zip(which, numbers, strict=True)]
        return np.stack(picked).astype(np.int64)

    def held_out_files(self) -> list[HeldOut]:
        with (self.path / "held-out.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [HeldOut(repo=row["repo"], document=Document(**row["document"])) for row in rows]

    def _mapped(self, part: str) -> Iterator[Rows]:
        row_tokens = int(self.info["parts"][part]["row_tokens"])
        for path in sorted(self.path.glob(f"{part}-[0-9]*.bin")):
            yield np.memmap(path, "<u2", mode="r").reshape(-1, row_tokens)


def row_order(num_rows: int, *, seed: int, part: str, first: int, count: int) -> NDArray[np.int64]:
    """Numbers of the rows `first` to `first + count` of an endless order: all rows in a random order, then all in
    another. A function of its arguments, so that a run goes on anywhere."""
    out: list[NDArray[np.int64]] = []
    while count > 0:
        turn, at = divmod(first, num_rows)
        order = np.random.default_rng([seed, turn, *part.encode()]).permutation(num_rows)
        out.append(order[at : at + count])
        first, count = first + len(out[-1]), count - len(out[-1])
    return np.concatenate(out)


def _mixed(samples: Sequence[Path], part: str, row_tokens: int, pad: int, seed: int) -> Rows:
    loaded = [load_file(path / "samples.safetensors") for path in samples]
    tokens = np.concatenate([arrays[f"{part}/tokens"] for arrays in loaded])
    lengths = np.concatenate([arrays[f"{part}/lengths"] for arrays in loaded])
    starts = np.cumsum(lengths) - lengths
    rng = np.random.default_rng([seed, *part.encode()])
    order = rng.permutation(len(lengths))
    packed = pack([int(n) for n in lengths[order]], row_tokens)
    rows = np.full((len(packed), row_tokens), pad, np.uint16)
    for row, members in zip(rows, packed, strict=True):
        at = 0
        for number in order[members]:
            length = lengths[number]
            row[at : at + length] = tokens[starts[number] : starts[number] + length]
            at += length
    return rows[rng.permutation(len(rows))]


def _kinds(manifests: Sequence[Manifest], part: str) -> dict[str, int]:
    """Tokens by kind of sample, over all repositories."""
    total: Counter[str] = Counter()
    for manifest in manifests:
        kinds = manifest.info[part]
        assert isinstance(kinds, Mapping)
        total.update(kinds)
    return dict(total.most_common())


def _facts(rows: Rows, pad: int) -> dict[str, Any]:
    return {"rows": len(rows), "row_tokens": int(rows.shape[1]), "tokens": int((rows != pad).sum())}


def _write(folder: Path, part: str, rows: Rows) -> None:
    step = max(1, _SHARD_BYTES // (2 * rows.shape[1]))
    for number, start in enumerate(range(0, len(rows), step)):
        data = rows[start : start + step].astype("<u2").tobytes()
        storage.write_bytes(folder / f"{part}-{number:04d}.bin", data)
