"""Arrays come back from their file as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from homespun_indexer import arrays

DTYPES = ["u1", "<u2", "<u4", "<u8", "<i4", "<f2", "<f4"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (5,), (3, 4), (0, 4), (2, 3, 2)])
def test_an_array_comes_back_as_it_was(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    arrays.write(tmp_path / "a", {"x": array})
    back = arrays.mapped(tmp_path / "a")["x"]
    assert back.dtype == np.dtype(dtype) and back.shape == shape
    assert np.array_equal(back, array)


@pytest.fixture
def several() -> dict[str, NDArray[np.generic]]:
    made = {dtype: np.arange(7 + i).astype(dtype) for i, dtype in enumerate(DTYPES)}
    return {**made, "turned": np.arange(12, dtype="<u4").reshape(3, 4).T, "every second": np.arange(9, dtype="u1")[::2]}


def test_arrays_of_all_kinds_share_a_file(tmp_path: Path, several: dict[str, NDArray[np.generic]]) -> None:
    arrays.write(tmp_path / "a", several)
    mapped = arrays.mapped(tmp_path / "a")
    assert mapped.keys() == several.keys()
    for name, array in several.items():
        assert np.array_equal(mapped[name], array)


def test_they_stay_valid_when_the_file_is_deleted_and_cannot_be_written_to(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a", {"x": np.arange(100_000, dtype="<u4")})
    array = arrays.mapped(tmp_path / "a")["x"]
    (tmp_path / "a").unlink()
    assert np.array_equal(array, np.arange(100_000))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_the_same_arrays_make_the_same_bytes(tmp_path: Path, several: dict[str, NDArray[np.generic]]) -> None:
    """Digests name what was indexed; they must not depend on the order in which arrays were put together."""
    arrays.write(tmp_path / "a", several)
    arrays.write(tmp_path / "b", dict(reversed(several.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """It may be linked into a published snapshot."""
    arrays.write(tmp_path / "a", {"x": np.zeros(1, "u1")})
    with pytest.raises(FileExistsError):
        arrays.write(tmp_path / "a", {"x": np.ones(1, "u1")})
