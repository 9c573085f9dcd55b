"""`homespun worker`: does what the server's queue holds."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from homespun_core.children import Children, StopRequest
from homespun_core.config import EVAL, INDEX, TRAIN, WORKER
from homespun_core.errors import ConfigError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_server.jobs.client import WorkerClient
from homespun_server.jobs.queue import own_token
from homespun_server.jobs.states import WORKER_KINDS
from homespun_server.jobs.worker import Worker, say

_LANES = (("index",), ("train", "evaluate"))
"""Worked at side by side: what takes hours doesn't hold up what takes seconds."""
_EPILOG = """\
A worker asks the server for a job, runs it as `homespun index`, `train` or `eval` would, tells how far it is, and takes
the next. Training and evaluation, which take long, have a turn of their own beside indexing. It needs the same data
directory as the server (or that directory over a network). Ctrl-C or SIGTERM gives the job back; training goes on from
its checkpoint wherever it is taken up again.

examples:
  homespun worker                                  on the server's machine: `homespun up` does this by itself
  homespun worker --kinds train --once             from cron or a Kubernetes CronJob
  homespun worker --kinds train --server-url https://homespun.example.com     with HOMESPUN_WORKER_TOKEN
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "--kinds",
        default=",".join(WORKER_KINDS),
        metavar="KINDS",
        help=f"what it does, separated by commas (default: {','.join(WORKER_KINDS)})",
    )
    parser.add_argument("--once", action="store_true", help="end after one job, or at once if there is none")
    parser.add_argument("--name", metavar="NAME", help="no other worker may have it (default: host and process)")
    add_flags(parser, (WORKER, INDEX, TRAIN, EVAL))


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    settings, kinds = loaded.settings, [kind.strip() for kind in args.kinds.split(",")]
    unknown = [kind for kind in kinds if kind not in WORKER_KINDS]
    if unknown:
        raise ConfigError(f"--kinds: {unknown[0]!r} is not one of {', '.join(WORKER_KINDS)}")
    request = StopRequest()
    token = own_token(settings.worker_token, DataDir(settings.data_root))
    name = args.name or f"{socket.gethostname()}:{os.getpid()}"
    children = Children(replace(settings, progress="json"), args.config, request)
    lanes = [
        Worker(
            WorkerClient(settings.server_url, token),
            children,
            request,
            name=f"{name}:{lane[0]}"[:128],
            kinds=lane,
            takes_one=args.once,
        )
        for lane in ([kind for kind in lane if kind in kinds] for lane in _LANES)
        if lane
    ]
    say(f"worker {name} asks {settings.server_url} for {', '.join(kinds)}")
    return _work(lanes, request, is_over=all if args.once else any)


def _work(lanes: Sequence[Worker], request: StopRequest, is_over: Callable[[Iterable[object]], bool] = any) -> int:
    """0 when we were asked to stop; a lane that can't go on ends the others, and its error is ours."""
    with ThreadPoolExecutor(len(lanes)) as pool:
        working = [pool.submit(lane.work) for lane in lanes]
        request.wait(until=lambda: is_over(lane.done() for lane in working))
        request.is_made = True
        for lane in working:
            lane.result()
    return 0
