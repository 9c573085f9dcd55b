"""`homespun dispatch`: a Kubernetes Job for each training that waits, for clusters where a queue hands out the GPUs."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from pathlib import Path

from homespun_core.config import WORKER
from homespun_core.errors import ConfigError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_server.jobs.client import WorkerClient
from homespun_server.jobs.queue import own_token
from homespun_server.jobs.states import WORKER_KINDS
from homespun_server.jobs.worker import say
from homespun_server.kubernetes.cluster import Address, Jobs, missing, num_busy, read_template

_EPILOG = """\
Looks once, makes Jobs of the template for the jobs that are due and have none yet, and ends. Each Job is to run
`homespun worker --once`, which takes whatever is next. With the label kueue.x-k8s.io/queue-name Kueue decides when.
The Helm chart runs this every minute with trainer.mode=jobs.

example:
  homespun dispatch --template /etc/homespun/job/job.json --kinds train,evaluate --most 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--template", type=Path, required=True, metavar="FILE", help="the Job, in JSON")
    parser.add_argument(
        "--kinds", default="train,evaluate", metavar="KINDS", help="of jobs, separated by commas (default: %(default)s)"
    )
    parser.add_argument("--most", type=int, default=1, metavar="N", help="Jobs at a time (default: %(default)s)")
    add_flags(parser, (WORKER,))


def run(args: argparse.Namespace) -> int:
    settings = settings_from_args(args).settings
    kinds = [kind.strip() for kind in args.kinds.split(",")]
    if unknown := [kind for kind in kinds if kind not in WORKER_KINDS]:
        raise ConfigError(f"--kinds: {unknown[0]!r} is not one of {', '.join(WORKER_KINDS)}")
    if args.most < 1:
        raise ConfigError(f"--most {args.most}: must be 1 or more")
    template = read_template(args.template)
    token = own_token(settings.worker_token, DataDir(settings.data_root))
    with closing(WorkerClient(settings.server_url, token)) as server:
        due, workers = server.due(kinds)
    with closing(Jobs(Address.of_this_pod(os.environ), template)) as jobs:
        there = jobs.unfinished()
        busy = num_busy(there, workers)
        for _ in range(missing(due, len(there), busy, args.most)):
            say(f"made {jobs.make()}")
    say(f"{due} due, {len(there)} Jobs were there, {busy} of them at work")
    return 0
