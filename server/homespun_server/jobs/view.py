"""Jobs in JSON, for workers, pages and programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from homespun_server.jobs.states import Job


def view(job: Job) -> dict[str, Any]:
    """Times are seconds of the epoch; what only the queue itself needs is left out."""
    hidden = ("lease_until", "fence")
    return {name: value for name, value in asdict(job).items() if name not in hidden}


def leased(job: Job, lease_s: float) -> dict[str, Any]:
    """For the worker that has it."""
    return view(job) | {"fence": job.fence, "lease_s": lease_s}
