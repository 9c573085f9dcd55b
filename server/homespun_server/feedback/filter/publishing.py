"""Filters on disk: snapshots of a filter with the report that decided on it, and a pointer to the live one."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import count, pairwise
from math import isfinite
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_core.storage import Manifest
from homespun_server.feedback.filter.training import Before, Check, Lost, Report
from homespun_server.feedback.filter.verdicts import Filter

logger = logging.getLogger(__name__)

KIND = "filter"
FORMAT = 1
_FILTER, _REPORT = "filter.json", "report.json"
_KEPT = 10


def new_version(parent: Path) -> str:
    """A name for a filter that is trained now: of the first second from now on that no other has."""
    seconds = map(time.gmtime, count(int(time.time())))
    names = (time.strftime("%Y%m%dT%H%M%SZ", second) for second in seconds)
    return next(name for name in names if not (parent / name).exists())


def publish(parent: Path, filter: Filter, report: Report) -> Path:
    """Stored either way, live if it was approved: else the one before stays, unless the report withdraws it."""
    path = parent / filter.version
    body = asdict(filter)
    manifest = Manifest(
        kind=KIND,
        format_version=FORMAT,
        fingerprint=storage.fingerprint(body),
        sources={},
        info={"num_shown": report.num_shown, "is_approved": report.is_approved},
    )
    with storage.publish_dir(path, manifest) as tmp:
        storage.write_bytes(tmp / _FILTER, _rendered(body))
        storage.write_bytes(tmp / _REPORT, _rendered(asdict(report)))
    if report.is_approved:
        storage.set_current(parent, path.name)
    elif report.before is not None and report.before.is_withdrawn:
        (parent / storage.CURRENT).unlink(missing_ok=True)
    storage.prune(parent, _KEPT)
    return path


def live(parent: Path) -> Filter | None:
    """None where it can't be read, either: it hides nothing, and nothing does the one before it, which it replaced."""
    path = storage.current(parent)
    try:
        return load(path) if path else None
    except (StorageError, OSError) as error:
        logger.warning("no show/hide filter: %s", error)
        return None


def withdrawn(parent: Path) -> Before | None:
    """The last that was live, where none is since it was withdrawn."""
    if storage.current(parent) is not None or not parent.is_dir():
        return None
    reports = map(load_report, storage.others(parent))
    last = next((report for report in reports if report.is_approved or report.before), None)
    return last.before if last and last.before and last.before.is_withdrawn else None


def load(path: Path) -> Filter:
    """Raises StorageError when it is damaged or isn't a filter."""
    body = _checked(path, _FILTER)
    try:
        knots = tuple((x, y) for x, y in body.get("knots", ()))  # filters of before had none
        values = {field.name: body[field.name] for field in fields(Filter) if field.name != "knots"}
        filter = Filter(**values, knots=knots)
        numbers = [filter.intercept, filter.threshold, *filter.weights.values(), *filter.thresholds.values()]
        numbers += [number for knot in knots for number in knot]
        is_sound = all(isinstance(number, int | float) and isfinite(number) for number in numbers)
        is_sound = is_sound and all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(knots))
    except (KeyError, TypeError, AttributeError, ValueError):
        is_sound = False
    if not is_sound:
        raise StorageError(f"{path / _FILTER}: isn't a filter; delete {path} and run `homespun feedback train`")
    return filter


def load_report(path: Path) -> Report:
    body = _checked(path, _REPORT)
    return Report(
        num_shown=body["num_shown"],
        num_kept=body["num_kept"],
        checks=tuple(Check(**check) for check in body["checks"]),
        judged=Lost(**body["judged"]),
        languages={name: Lost(**found) for name, found in body["languages"].items()},
        before=_before(body.get("before")),  # reports of before had none
    )


def _before(body: Mapping[str, Any] | None) -> Before | None:
    return Before(**{**body, "judged": Lost(**body["judged"])}) if body else None


def _checked(path: Path, name: str) -> Mapping[str, Any]:
    manifest = storage.read_manifest(path, KIND, FORMAT)
    storage.verify(path, manifest)
    try:
        body = json.loads((path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path / name}: can't be read ({type(error).__name__}); delete {path}") from error
    if not isinstance(body, dict):
        raise StorageError(f"{path / name}: isn't a JSON object; delete {path}")
    return body


def _rendered(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
