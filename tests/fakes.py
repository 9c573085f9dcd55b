"""Small real implementations of core protocols, for tests that need to see every token."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ByteTokenizer:
    """One token a UTF-8 byte (ids 0 to 255), then the control tokens."""

    controls: tuple[str, ...]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    @property
    def spelled(self) -> Sequence[bytes | None]:
        return [*(bytes([i]) for i in range(256)), *(None for _ in self.controls)]

    def control_id(self, token: str) -> int | None:
        return 256 + self.controls.index(token) if token in self.controls else None

    def spell(self, ids: Sequence[int]) -> str:
        """The ids as text, control tokens spelled out: what a test compares with."""
        pieces, run = [], bytearray()
        for i in ids:
            if i < 256:
                run.append(i)
            else:
                pieces += [run.decode(), self.controls[i - 256]]
                run = bytearray()
        return "".join([*pieces, run.decode()])

    @property
    def digest(self) -> str:
        return hashlib.sha256("\0".join(self.controls).encode()).hexdigest()
