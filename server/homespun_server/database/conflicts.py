"""Transactions that PostgreSQL ended in favour of another's."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import DBAPIError

_CONFLICTS = frozenset(("40001", "40P01"))
"""Serialisation failure, deadlock."""
_PAUSES_S = (0.02, 0.1, 0.5)

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def again_after_conflict(do: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """For what is a transaction and nothing else: where it lost against another one, nothing of it was done."""

    @wraps(do)
    def done(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        for pause_s in _PAUSES_S:
            try:
                return do(*args, **kwargs)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _CONFLICTS:
                    raise
            time.sleep(pause_s * (0.5 + random.random()))  # two that were in each other's way part
        return do(*args, **kwargs)

    return done
