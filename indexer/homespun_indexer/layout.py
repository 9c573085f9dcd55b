"""How an index is laid out in segments: pure decisions over sizes.

Few large segments are fast to search, many small ones are fast to add. So what changed becomes a small segment, which
takes the small ones before it along; now and then, after the change is published, what is worn out is built again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

_MAX_SEGMENT_BYTES = 24_000_000
_PROCESS_BYTES = 750_000_000
"""What a process needs for such a segment: some thirty times its source (two and their parent had 1.7 GB)."""
_FILE_BYTES = 128
"""What a file costs beside its text, as text: a process had 4.4 KB for each of 100,000 files of 105 bytes."""
_MAX_PROCESSES = 16
_MIN_SEGMENT_BYTES = 2_000_000
"""Less isn't worth a process."""
_QUICK_BYTES = 400_000
"""Old source that may be indexed again while somebody waits for new source."""
_SMALL_BYTES = 4_000_000
_MAX_SMALL = 4
_MAX_DEAD_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Use:
    """What the files of a segment cost, and how much of that the dead ones."""

    num_bytes: int
    dead_bytes: int

    @property
    def live_bytes(self) -> int:
        return self.num_bytes - self.dead_bytes


def affordable(cpus: int, available_bytes: int | None, running: int) -> int:
    """How many processes may build segments side by side; one in any case. `running` others may have all that they need
    yet to take. None is memory that isn't known."""
    room = cpus if available_bytes is None else available_bytes // _PROCESS_BYTES - running
    return max(1, min(_MAX_PROCESSES, cpus, room))


def cost(sizes: Collection[int]) -> int:
    """Bytes of source that cost as much as files of these sizes."""
    return sum(sizes) + len(sizes) * _FILE_BYTES


def cut(sizes: Sequence[int], num_processes: int) -> list[slice]:
    """Files, given by their sizes, as ranges of about equal cost: segments to be built side by side."""
    total = cost(sizes)
    rounds = -(-total // (_MAX_SEGMENT_BYTES * num_processes))
    wanted = max(1, min(num_processes * rounds, -(-total // _MIN_SEGMENT_BYTES)))
    ranges: list[slice] = []
    start = done = 0
    for i, size in enumerate(sizes):
        done += cost([size])
        if done * wanted >= total * (len(ranges) + 1) and len(ranges) + 1 < wanted:
            ranges.append(slice(start, i + 1))
            start = i + 1
    if start < len(sizes):
        ranges.append(slice(start, len(sizes)))
    return ranges


def absorbed(segments: Sequence[Use], new_bytes: int) -> frozenset[int]:
    """Which segments to build again together with new source: the smallest, while that stays cheap."""
    chosen: set[int] = set()
    total = 0
    for i in sorted(range(len(segments)), key=lambda i: segments[i].live_bytes):
        total += segments[i].live_bytes
        if total > max(_QUICK_BYTES, new_bytes):
            break
        chosen.add(i)
    return frozenset(chosen)


def worn(segments: Sequence[Use]) -> frozenset[int]:
    """Which segments to build again because they hold too much that is dead, or are too many small ones."""
    dead = {i for i, use in enumerate(segments) if use.dead_bytes > _MAX_DEAD_SHARE * use.num_bytes}
    small = {i for i, use in enumerate(segments) if use.num_bytes < _SMALL_BYTES}
    # As few as `cut` would make of them again is few enough: a large index is built in many that are called small.
    least = sum(segments[i].live_bytes for i in small) // _MIN_SEGMENT_BYTES
    return frozenset(dead | (small if len(small) > _MAX_SMALL + least else set()))
