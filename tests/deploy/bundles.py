"""The script that makes bundles, as a module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

BUNDLE = Path(__file__).parents[2] / "deploy/bundle"


def make() -> ModuleType:
    if str(BUNDLE) not in sys.path:
        sys.path.append(str(BUNDLE))
    return importlib.import_module("make")
