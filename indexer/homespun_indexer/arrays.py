"""Named arrays in one file, mapped into memory when read.

The format is safetensors: a JSON header and raw bytes, which can't carry code. One file instead of one an array means
one digest, one fsync and one hard link for a whole segment.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from homespun_core import storage

_DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "I32": np.dtype("<i4"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """The arrays must be of one of the types above."""
    storage.write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, read-only views of its pages, which stay when the file is deleted. Check the file's digest
    before: nothing here is robust against a changed header."""
    with path.open("rb") as handle:
        data = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:start]))
    return {name: _view(data[start:], entry) for name, entry in header.items() if name != "__metadata__"}


def _view(data: memoryview, entry: dict[str, Any]) -> NDArray[Any]:
    first, end = entry["data_offsets"]
    view: NDArray[Any] = np.frombuffer(data[first:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return view
