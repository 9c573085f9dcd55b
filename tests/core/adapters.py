"""Small adapters on disk, for tests of the registry and of what shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homespun_core import registry

REPORT: dict[str, Any] = {
    "promote": True,
    "reasons": ["it predicts what was written later better"],
    "control": "base+retrieval",
    "arms": {},
    "differences": {
        "adapter+retrieval - base+retrieval": {
            "tasks": 60,
            "commits": 15,
            "exact_match": {"value": 0.031, "low": 0.012, "high": 0.05},
            "bits_per_byte": {"value": -0.04, "low": -0.06, "high": -0.02},
        }
    },
    "corpus": {"commit": "c0ffee"},
    "training": {
        "recipe": {"rank": 16, "seed": 7},
        "versions": {"torch": "2.13.0"},
        "machine": {"cores": 2},
        "tokens": 4_096,
    },
}


def make_version(adapters: Path, version: str, **report: Any) -> str:
    sources = {"base_model": "d1gest", "base_model_name": "tiny", "corpus": "c0rpus", "repository": "shop"}
    with registry.publish_adapter(
        adapters / version, fingerprint="f1nger", sources=sources, report=REPORT | report
    ) as folder:
        (folder / "adapter_model.safetensors").write_bytes(version.encode())
    return version
