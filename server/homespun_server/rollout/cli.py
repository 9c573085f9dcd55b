"""`homespun prompts`: the prompts that a share of the users tries, their arms in numbers, and what those prove."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from homespun_core.config import ADAPTERS
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_core.prompt_versions import PROMPT_TABLE
from homespun_server.database.opening import failures_in_one_line
from homespun_server.feedback.tallies import Arm
from homespun_server.rollout.decision import Verdict
from homespun_server.rollout.prompts import Trial
from homespun_server.rollout.showing import numbers_of, store_of, table_of

_EPILOG = """\
Tables of homespun.toml say what is tried, each with settings that are others for a share of the users:

  [[prompt]]
  name = "five-snippets"
  percent = 50
  snippet_count = 5

This says how these users do beside the others, and never changes anything: what is better becomes everybody's by an
edit of the settings. It may be asked at any time; looking often makes no verdict wrong.

examples:
  homespun prompts
  homespun prompts --config /etc/homespun.toml --json
"""
_NONE = f"everybody has the same prompt; to try another, write a [[{PROMPT_TABLE}]] table (homespun prompts --help)"
_WORDS: Mapping[Verdict, str] = {"approve": "better", "reject": "worse", "wait": "open"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_flags(parser, (ADAPTERS,))


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    trial = Trial(loaded.prompts)
    store = store_of(DataDir(loaded.settings.data_root), loaded.settings) if trial.tried else None
    try:
        with failures_in_one_line():
            found = store.by_prompt([trial.mark(name) for name in trial.names]) if store else {}
    finally:
        if store is not None:
            store.close()
    facts = described(trial, {name: found.get(trial.mark(name), {}) for name in trial.names})
    print(json.dumps(facts, indent=1) if args.json else rendered(facts))
    return 0


def described(trial: Trial, arms: Mapping[str, Arm]) -> dict[str, Any]:
    """As JSON values."""
    decisions = trial.decisions(arms)
    versions = {
        version.name: {
            "changes": dict(version.changes),
            "percent": version.percent,
            "verdict": _WORDS[decisions[version.name].verdict],
            "reason": decisions[version.name].reason,
        }
        for version in trial.tried
    }
    return {"arms": {name: numbers_of(found) for name, found in arms.items()}, "versions": versions}


def rendered(facts: Mapping[str, Any]) -> str:
    if not facts["versions"]:
        return _NONE
    said = ["\n".join(_lines(name, version)) for name, version in facts["versions"].items()]
    return "\n\n".join(["\n".join(table_of(facts["arms"])), *said])


def _lines(name: str, version: Mapping[str, Any]) -> Sequence[str]:
    changes = " and ".join(f"{key} = {json.dumps(value)}" for key, value in version["changes"].items())
    what = {
        "better": f"better; to make it everybody's, set {changes} in the settings and take its [[{PROMPT_TABLE}]] out",
        "worse": f"worse; take its [[{PROMPT_TABLE}]] out",
        "open": "nothing is proven yet",
    }
    return [
        f"{name} ({changes}), for {version['percent']:g} % of the users:",
        f"  {what[version['verdict']]}",
        f"  {version['reason']}",
    ]
