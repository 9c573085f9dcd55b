"""The `homespun` command: finds the component a verb belongs to and imports it only then.

A laptop with the `lsp` extra alone has no torch or git library; every other verb then says which extra it needs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

from homespun_core import __version__
from homespun_core.allocator import restart_with_jemalloc
from homespun_core.errors import BusyError, HomespunError, explain_os_error, explain_want_of_memory, os_error_in


@dataclass(frozen=True, slots=True)
class Verb:
    module: str
    extra: str
    help: str


class VerbModule(Protocol):
    """What the module of a verb offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


VERBS = {
    "up": Verb(
        "homespun_server.up",
        "server",
        "index a repository, train, serve, and keep index and adapter fresh",
    ),
    "index": Verb("homespun_indexer.cli", "indexer", "make the code of a repository searchable"),
    "train": Verb(
        "homespun_trainer.cli", "trainer", "train an adapter on a repository, and put it live if it proves better"
    ),
    "eval": Verb("homespun_trainer.comparing.cli", "trainer", "measure on a repository what snippets and adapters add"),
    "retrain": Verb(
        "homespun_trainer.retrain.cli",
        "trainer",
        "train what has changed enough, once or again and again, and watch how adapters do on fresh code",
    ),
    "adapters": Verb("homespun_server.adapters", "server", "list, compare and choose the adapters that were trained"),
    "prompts": Verb("homespun_server.rollout.cli", "server", "other prompts that some users try, and how they do"),
    "forget": Verb(
        "homespun_trainer.forget.cli",
        "trainer",
        "train without a repository, files or an author from now on, and delete the adapters that knew them",
    ),
    "serve": Verb("homespun_server.cli", "server", "answer completion requests over HTTP"),
    "worker": Verb(
        "homespun_server.jobs.worker_cli", "server", "do the jobs that the server's queue holds: index, train, evaluate"
    ),
    "dispatch": Verb(
        "homespun_server.kubernetes.cli", "server", "in Kubernetes: make a Job for each training that waits"
    ),
    "jobs": Verb("homespun_server.jobs.cli", "server", "the server's queue: what waits, runs and has ended"),
    "login": Verb("homespun_lsp.signin.login", "lsp", "sign this machine's editors in to a server"),
    "logout": Verb("homespun_lsp.signin.logout", "lsp", "sign them out again, here and on the server"),
    "whoami": Verb("homespun_lsp.signin.whoami", "lsp", "whether a server lets this machine's editors in"),
    "personal": Verb("homespun_lsp.signin.personal", "lsp", "an adapter of one's own: ask for it, look, delete it"),
    "lsp": Verb("homespun_lsp.cli", "lsp", "the language server editors start; speaks on stdin and stdout"),
    "status": Verb("homespun_server.status", "server", "what is indexed, trained and running"),
    "pretrain": Verb(
        "homespun_trainer.pretrain.cli", "trainer", "make a base model like the built-in one, from permissive code only"
    ),
    "feedback": Verb("homespun_server.feedback.cli", "server", "what became of completions: shown, accepted, kept"),
    "usage": Verb(
        "homespun_server.console.cli.usage", "server", "completions over time: by team, language, editor, adapter"
    ),
    "explain": Verb(
        "homespun_server.console.cli.explain", "server", "take one completion apart: prompt, snippets, drafts, times"
    ),
    "settings": Verb(
        "homespun_server.console.cli.settings", "server", "the settings that hold, and where each is from"
    ),
    "user": Verb("homespun_server.access.cli.user", "server", "who has an account, and what they are"),
    "team": Verb("homespun_server.access.cli.team", "server", "groups of users"),
    "token": Verb("homespun_server.access.cli.token", "server", "what editors and scripts show to be let in"),
    "access": Verb("homespun_server.access.cli.grants", "server", "who may read which repository, and why"),
    "audit": Verb("homespun_server.access.cli.audit", "server", "who changed what about people and rights"),
    "migrate": Verb("homespun_server.database.cli", "server", "bring the server's database to the newest schema"),
    "backup": Verb(
        "homespun_server.backup.backup", "server", "put what can't be made again into one file, while the server runs"
    ),
    "restore": Verb("homespun_server.backup.restore", "server", "make a data directory of a backup"),
    "plan": Verb("homespun_server.plan.cli", "server", "how many machines a number of developers needs"),
    "doctor": Verb(
        "homespun_server.doctor", "server", "check this machine and the settings, with a remedy for what is wrong"
    ),
}

INTERRUPTED = 130
BUSY = 75
"""EX_TEMPFAIL of sysexits.h."""
_TRAINING = frozenset(("train", "pretrain", "forget"))

_EPILOG = """\
a first try:
  homespun up ~/code/my-project      index, train for a few minutes, serve on 127.0.0.1:8080
  homespun up https://git.example.com/team/project.git
  homespun status                    what is there now

`homespun VERB --help` explains a verb and its settings. Settings can stand in ./homespun.toml
(`port = 9000`), in the environment (`HOMESPUN_PORT=9000`) or on the command line (`--port 9000`).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0 done, 1 an error said in one line, 2 wrong usage, 75 another process
    is at it, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        os.environ["PYTHONSAFEPATH"] = "1"  # no Python that we start, us again included, imports from a repository
        if words and words[0] in _TRAINING:
            restart_with_jemalloc(["-m", "homespun_core.cli", *words])
    try:
        return _run(words)
    except HomespunError as error:
        return _say(str(error), BUSY if isinstance(error, BusyError) else 1)
    except KeyboardInterrupt:
        return _say("interrupted; finished work is kept", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the exit doesn't complain again
        return 1
    except OSError as error:
        known = explain_os_error(error)
        if known is None:
            raise
        return _say(str(known), 1)
    except (MemoryError, RuntimeError) as error:
        wanted = explain_want_of_memory(error)
        if wanted is None:
            raise
        return _say(str(wanted), 1)
    except _library_errors() as error:
        said = os_error_in(error)
        if said is None or (known := explain_os_error(said)) is None:
            raise
        return _say(str(known), 1)


def _library_errors() -> tuple[type[Exception], ...]:
    """Of safetensors, where it was loaded: what the operating system told it, such as of a full disk, it puts into an
    exception of its own."""
    loaded = sys.modules.get("safetensors")
    return (loaded.SafetensorError,) if loaded is not None else ()


def is_confirmed(question: str) -> bool:
    """Asked on the terminal; its end (Ctrl-D) is a no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="homespun",
        description="Code completion spun from your own code.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"homespun {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", required=True)
    # Read by OpenMP when torch is first imported. Its threads spin while they wait for one another, and burn the time
    # other processes need: some steps took 10 to 100 times longer (benchmarks/LOG.md, 2026-11-21, latency).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.umask(0o077)  # the data directory holds all the code; other accounts of this machine have no business there
    wanted = next((w for w in words if not w.startswith("-")), None)
    module = _load(wanted) if wanted in VERBS else None
    for name, verb in VERBS.items():
        sub = verbs.add_parser(
            name,
            help=verb.help,
            description=verb.help.capitalize() + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == wanted and module is not None:
            module.add_arguments(sub)
    args = parser.parse_args(words)
    assert wanted is not None and module is not None  # argparse refuses a missing or unknown verb
    with _explaining_missing_extra(wanted):
        return module.run(args)


def _load(name: str) -> VerbModule:
    with _explaining_missing_extra(name):
        return cast(VerbModule, importlib.import_module(VERBS[name].module))


@contextmanager
def _explaining_missing_extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        missing, extra = (error.name or "").partition(".")[0], VERBS[name].extra
        if missing == "homespun_core":
            raise
        raise HomespunError(
            f"homespun {name} needs the {extra} extra (missing: {missing}): pip install 'homespun[{extra}]'"
        ) from error


def _say(message: str, status: int) -> int:
    print(f"homespun: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
