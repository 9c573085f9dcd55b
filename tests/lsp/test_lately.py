import threading

import pytest

from homespun_lsp.lately import Lately


class Disk:
    def __init__(self) -> None:
        self.value = 1
        self.num_reads = 0
        self.now = 0.0
        self.ready = threading.Event()
        self.ready.set()
        self.lately = Lately(self.read, lambda: self.now)

    def read(self, key: str) -> int:
        self.ready.wait(20)
        self.num_reads += 1
        if self.value < 0:
            raise OSError
        return self.value


async def test_it_is_read_once_while_it_is_fresh() -> None:
    disk = Disk()
    assert [await disk.lately.get("a") for _ in range(3)] == [1, 1, 1]
    assert disk.num_reads == 1


async def test_what_is_old_is_still_given_and_read_again_beside() -> None:
    disk = Disk()
    assert await disk.lately.get("a") == 1
    disk.value, disk.now = 2, 60.0
    disk.ready.clear()
    assert await disk.lately.get("a") == 1, "nobody waits for the disk"
    assert await disk.lately.get("a") == 1
    disk.ready.set()
    await disk.lately._reading["a"]
    assert await disk.lately.get("a") == 2
    assert disk.num_reads == 2


async def test_what_can_not_be_read_is_read_again_the_next_time() -> None:
    disk = Disk()
    disk.value = -1
    with pytest.raises(OSError):
        await disk.lately.get("a")
    disk.value = 3
    assert await disk.lately.get("a") == 3
