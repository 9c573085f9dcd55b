"""`adapters/<repo>/ROLLOUT.json`: the stage of the candidate, so that a restart goes on."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from homespun_core import storage
from homespun_server.rollout.stages import Stage, State

logger = logging.getLogger(__name__)

FILE = "ROLLOUT.json"
_FORMAT = 1


def read(adapters: Path) -> State | None:
    """None also where it is unreadable: then the rollout begins again with the smaller share."""
    try:
        record = json.loads((adapters / FILE).read_text(encoding="utf-8"))
        if record.pop("format") != _FORMAT or record["stage"] not in get_args(Stage):
            return None
        return State(**record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.debug("%s: not used (%s)", adapters / FILE, type(error).__name__)
        return None


def write(adapters: Path, state: State) -> None:
    storage.write_atomic(adapters / FILE, json.dumps({"format": _FORMAT, **asdict(state)}, indent=1) + "\n")


def discard(adapters: Path) -> None:
    (adapters / FILE).unlink(missing_ok=True)
