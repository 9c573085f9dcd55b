"""Adapters that change under load, for benchmarks/load.py: puts them live, asks a fixed prompt meanwhile, and judges.

Random weights take turns, each time as a new version: it is published, promoted, and what no name protects any more is
deleted. The server's own log says which version each completion was made with. Two things are counted as wrong:

    an older version for a request that began after another one had been given a newer one, or a version never live
    a text of the fixed prompt that isn't the one that its version's weights always give
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from developers import OK, PATH, Connection

from homespun_core import registry

_PROBE = "import os\n\n\ndef read_all(folder):\n    "
_PROBE_S = 0.25
_SLACK_S = 0.005
"""Times in the log are rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A completion, as the server's log has it."""

    id: str
    began: float
    adapter: str


@dataclass(slots=True, kw_only=True)
class Swaps:
    place: Path
    """Of one repository's adapters."""
    weights: Sequence[Path]
    """Folders with peft's two files."""
    base_digest: str
    made: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When each version was promoted, and which weights it has; oldest first."""
    texts: dict[str, str] = field(default_factory=dict)
    """Of the fixed prompt, by the completion's name."""
    num_unsure: int = 0
    """Of them, left out: made with less than everything."""

    def next(self) -> None:
        """Blocks, for as long as it takes to copy a few megabytes."""
        number = len(self.made)
        version, which = f"{registry.new_version('x')}{number:06}", number % len(self.weights)
        sources = {"base_model": self.base_digest}
        with registry.publish_adapter(self.place / version, fingerprint=version, sources=sources, report={}) as tmp:
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.copy(self.weights[which] / name, tmp / name)
        self.made[version] = time.time(), which
        registry.promote(self.place, version, by="benchmark")
        registry.prune(self.place, keep=0)

    async def keep_swapping(self, per_minute: float) -> None:
        while True:
            await asyncio.sleep(60 / per_minute)
            await asyncio.to_thread(self.next)

    async def keep_asking(self, address: str, token: str) -> None:
        about = {"repo": self.place.name, "raw": True, "path": "probe.py"}
        body = {"prompt": _PROBE, "suffix": "\n", "max_tokens": 16, "temperature": 0, "homespun": about}
        connection, content = Connection(address, token, "probe"), json.dumps(body).encode()
        try:
            while True:
                await asyncio.sleep(_PROBE_S)
                answer = await connection.post(PATH, content)
                reply = json.loads(answer.content) if answer.status == OK else {}
                if reply.get("homespun", {}).get("degraded"):
                    self.num_unsure += 1
                elif reply:
                    self.texts[reply["id"]] = reply["choices"][0]["text"]
        finally:
            connection.close()

    def verdict(self, log: Path) -> dict[str, Any]:
        given = sorted((g for g in _given(log) if g.adapter.startswith(f"{self.place.name}/")), key=lambda g: g.began)
        of_version = {g.id: g.adapter.rpartition("/")[2] for g in given}
        by_weights: dict[int, set[str]] = defaultdict(set)
        for id, text in self.texts.items():
            if (version := of_version.get(id)) in self.made:
                by_weights[self.made[version][1]].add(text)
        all_texts = [text for texts in by_weights.values() for text in texts]
        return {
            "swaps": len(self.made) - 1,
            "given": len(given),
            "versions given": len(set(of_version.values())),
            "out of order": _out_of_order(given, list(self.made)),
            "longest until live": self._longest_s(given),
            "probes": len(self.texts),
            "unsure": self.num_unsure,
            "other texts": len(all_texts) - len(by_weights),
            "weights told apart": len(set(all_texts)) == len(all_texts) == len(self.weights),
        }

    def _longest_s(self, given: Sequence[Given]) -> float | None:
        """From a promotion to the first request that was given the version."""
        first: dict[str, float] = {}
        for one in given:
            first.setdefault(one.adapter.rpartition("/")[2], one.began)
        waits = [first[version] - at for version, (at, _) in list(self.made.items())[1:] if version in first]
        return round(max(waits), 2) if waits else None


def _out_of_order(given: Sequence[Given], versions: Sequence[str]) -> int:
    """`given` by when they began."""
    number, wrong, newest, since = {v: i for i, v in enumerate(versions)}, 0, -1, 0.0
    for one in given:
        mine = number.get(one.adapter.rpartition("/")[2])
        if mine is None or (mine < newest and one.began > since + _SLACK_S):
            wrong += 1
        elif mine > newest:
            newest, since = mine, one.began
    return wrong


def _given(log: Path) -> Iterator[Given]:
    for line in log.read_text().splitlines():
        if '"message": "completion"' not in line:
            continue
        fields = json.loads(line)
        if fields["adapter"] is not None:
            ended = datetime.fromisoformat(fields["time"]).timestamp()
            yield Given(id=fields["id"], began=ended - fields["total_ms"] / 1e3, adapter=fields["adapter"])
