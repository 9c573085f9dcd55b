"""`homespun settings`: what holds here, and where it comes from, as the console's page has it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from homespun_core.config import SERVE
from homespun_core.loading import add_flags, settings_from_args
from homespun_server.access.cli.opened import table
from homespun_server.console.settings import effective

_EPILOG = """\
The settings that `homespun serve` would have, started here with the same file, environment and flags. Of a secret it
says whether it is set, and no more.

examples:
  homespun settings --changed                 those that aren't at their defaults
  homespun settings --config /etc/homespun.toml --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--changed", action="store_true", help="only those that aren't at their defaults")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_flags(parser, (SERVE,))


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    found = [one for one in effective(loaded.settings, loaded.sources) if one.is_changed or not args.changed]
    if args.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        rows = [(one.name, one.value, one.origin) for one in found]
        print(table([("setting", "value", "from"), *rows]) if rows else "all settings are at their defaults")
    return 0
