"""Jobs in JSON, for workers, pages and programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from homespun_server.jobs.states import Job

HIDDEN = ("lease_until", "fence")


def view(job: Job) -> dict[str, Any]:
    """Times are seconds of the epoch; what only the queue itself needs is left out."""
    return {name: value for name, value in asdict(job).items() if name not in HIDDEN}


def leased(job: Job, lease_s: float) -> dict[str, Any]:
    """For the worker that has it."""
    return view(job) | {"fence": job.fence, "lease_s": lease_s}
