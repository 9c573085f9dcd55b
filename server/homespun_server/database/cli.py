"""`homespun migrate`: brings the server's database to the newest schema, and ends."""

from __future__ import annotations

import argparse

from homespun_core.config import WORKER
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_server.database.opening import open_database

_EPILOG = """\
`homespun serve` and `up` do this when they start; by itself it is for a cluster, where it runs before new gateways do
and takes the time it takes. Several at once wait for one another. It is all or nothing.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    add_flags(parser, (WORKER,))


def run(args: argparse.Namespace) -> int:
    settings = settings_from_args(args).settings
    engine = open_database(settings.database_url, DataDir(settings.data_root).database)
    print(f"homespun: {engine.url.render_as_string(hide_password=True)} has the newest schema")
    engine.dispose()
    return 0
