"""What clients may ask about the server and its model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    version: str
    model: str
    """The name that clients see. It holds the family's: some choose their prompt format by it."""
    family: str
    digest: str
    modified: float
    """When the model's files were written: seconds since 1970."""
    num_bytes: int
    dtype: str
    device: str
    arch: str
    cpu: str
    num_cpus: int
    max_context: int
    max_prompt_tokens: int
    max_new_tokens: int
    max_running: int
    num_running: int
    max_queue: int
