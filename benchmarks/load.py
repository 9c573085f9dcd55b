"""Many developers typing at one server: how long they wait, what they get, and what breaks first.

    python benchmarks/load.py REPO [REPO ...] [--developers 20,50,200] [--seconds 60] [--no-patience] [--adapters 32]
        [--accounts] [--swaps-per-minute 10]

Runs `homespun serve` with the built-in model and the repositories' indexes, and simulated developers against it. Each
replays recorded keystrokes (benchmarks/traces.py), at the times of the recording, through the language server's own
code: it waits for the next key as long as the language server would, sends nothing while what is typed agrees with a
suggestion, closes the connection of a request that the next key has overtaken, and after a refusal stays away for as
long as it was told. At the end of a place a developer reads for a second and goes on to the next one. Nobody accepts a
suggestion, so there are more requests than in life.

    keys      typed a second, by all
    asked     requests sent a second; `typed through`: keys that a shown suggestion answered, without a request
    gone      share of requests whose connection was closed before the answer came
    p50 p95   ms from the request to the answer, of those that were answered
    p50 km, p95 km  the same with those that were hung up on, which would have taken longer than they lasted
              (Kaplan-Meier; none where nobody waited long enough to tell)
    goodput   answers a second with something to show; `served`: developers who got one; `empty` had nothing
    held back  keys for which nothing was asked, since the server had refused and said when to come back
    loop p95  ms that /healthz takes, asked all the time: the delay of the event loop, the way there and back included
    page p95  ms that /console takes; `unseen`: of both, not answered well, or not within ten seconds
    429 503 failed   refused, not ready; any other status, a broken connection, no answer within ten seconds
    degraded  completions that went without something, by reason, of all in the server's own count
    server    share of the machine's processor time; `here`: share of one core that the simulation itself took

With `--no-patience`, each level once more with developers who ask at every key, whatever they were told: an overload
that doesn't give way.

With `--accounts`, each developer has an account and shows its token, as in a company, so that the server can tell them
apart. They are in SQLite, or where HOMESPUN_DATABASE_URL says: an empty PostgreSQL database.

With `--adapters N`, the same again with developers who are all served by one adapter, and then with N adapters taken
in turns: copies of the first repository's index, with one random LoRA of rank 16, to which each adds noise of 1e-6,
so that all write the same texts and none shares weights with another. `x one adapter` compares.

With `--swaps-per-minute N`, each level once more while the first repository's adapter is replaced that often
(benchmarks/swapping.py), by developers who work in that repository. At the end it says how often an answer was made
with a version that it shouldn't have been.

`--flags` are given to `homespun serve`, as in --flags="--max-queue 16 --dtype int8". The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shlex
import shutil
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bystander import LOOP, PAGE, Seen, look
from developers import Connection, Developer, Tally
from peers import HomespunServer, say_how_busy
from people import with_accounts
from swapping import Swaps
from traces import Recording, Trace, add_arguments, indexed_at_cut, recording_of, summary

from homespun_core import registry, storage
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer

_READING_S = 1.0
_WARM_S = 3.0
"""Not measured at the beginning of a level."""
_STAGGER_S = 3.0
_CANCELS, _IDLE_S = 100, 0.2
_STD, _NOISE = 0.01, 1e-6
_WEIGHTS, _TOLD_APART = 3, 0.05
"""How many take turns in swaps, and their spread: enough for them to write different things."""
_DATABASE = "HOMESPUN_DATABASE_URL"
_METRICS = ("homespun_degraded_total", "homespun_shed_total", "homespun_completions_total")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    name: str
    developers: int
    traces: Sequence[Trace]
    repo_of: Callable[[Trace, int, int], str]
    """By trace, developer and turn."""
    is_patient: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Empty where there are no accounts."""

    admin: str = ""
    developers: Sequence[str] = ()

    def of(self, number: int) -> str:
        return self.developers[number] if self.developers else ""


async def run(level: Level, server: HomespunServer, tokens: Tokens, seconds: float, seed: int) -> dict[str, Any]:
    tally = Tally()
    tasks = [
        asyncio.create_task(_begin(level, number, server.address, tokens.of(number), tally, seed))
        for number in range(level.developers)
    ]
    await asyncio.sleep(_STAGGER_S + _WARM_S)
    before, started = _counters(server.address, tokens.admin), time.perf_counter()
    server_s, here_s = server.cpu_s, time.process_time()
    tally.is_open, seen = True, Seen()
    looking = asyncio.create_task(look(server.address, seen, tokens.admin))
    await asyncio.sleep(seconds)
    tally.is_open = False
    looking.cancel()
    elapsed = time.perf_counter() - started
    server_s, here_s = server.cpu_s - server_s, time.process_time() - here_s
    await asyncio.sleep(_READING_S)  # for the last answers
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(looking, *tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    server_share = server_s / elapsed / len(os.sched_getaffinity(0))
    return _row(tally, elapsed, _difference(before, _counters(server.address, tokens.admin))) | {
        "loop p95": _quantile(seen.ms[LOOP], [], 0.95),
        "page p95": _quantile(seen.ms[PAGE], [], 0.95),
        "unseen": seen.failed.total(),
        "server": round(server_share, 2),
        "here": round(here_s / elapsed, 2),
        "MB": round(server.memory_mb),
    }


async def _begin(level: Level, number: int, address: str, token: str, tally: Tally, seed: int) -> None:
    """Every developer has places of their own, or they would find their prompts in the cache already; and not all
    press the first key at once."""
    chooser = random.Random(f"{seed} {number}")
    own = level.traces[number :: level.developers] or level.traces
    traces = chooser.sample(own, len(own))
    await asyncio.sleep(chooser.uniform(0, _STAGGER_S))
    developer = Developer(
        number,
        address,
        lambda trace, turn: level.repo_of(trace, number, turn),
        tally,
        token=token,
        is_patient=level.is_patient,
    )
    await developer.work(traces)


def _row(tally: Tally, elapsed: float, server: Mapping[str, float]) -> dict[str, Any]:
    outcomes, asked = tally.outcomes, sum(tally.outcomes.values())
    failed = {name: n for name, n in outcomes.items() if n and name not in ("shown", "empty", "gone", "429", "503")}
    return {
        "keys": round(tally.keys / elapsed, 1),
        "asked": round(asked / elapsed, 1),
        "typed through": tally.typed_through,
        "held back": tally.held_back,
        "gone": round(outcomes["gone"] / asked, 2) if asked else None,
        "p50": _quantile(tally.answered_ms, [], 0.5),
        "p95": _quantile(tally.answered_ms, [], 0.95),
        "p50 km": _quantile(tally.answered_ms, tally.gone_ms, 0.5),
        "p95 km": _quantile(tally.answered_ms, tally.gone_ms, 0.95),
        "goodput": round(outcomes["shown"] / elapsed, 1),
        "served": len(tally.served),
        "empty": round(outcomes["empty"] / elapsed, 1),
        "429": outcomes["429"],
        "503": outcomes["503"],
        "failed": json.dumps(failed) if failed else 0,
        "degraded": {name: int(n) for name, n in server.items() if "degraded" in name or "shed" in name},
    }


def _quantile(seen: Iterable[float], at_least: Iterable[float], share: float) -> float | None:
    """Kaplan and Meier's: those of `at_least` were still waiting when they went. None beyond what was observed."""
    times = sorted([(ms, True) for ms in seen] + [(ms, False) for ms in at_least])
    surviving = 1.0
    for i, (ms, is_seen) in enumerate(times):
        if is_seen:
            surviving *= 1 - 1 / (len(times) - i)
            if surviving <= 1 - share + 1e-9:
                return round(ms, 1)
    return None


def _counters(address: str, token: str) -> dict[str, float]:
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        lines = response.read().decode().splitlines()
    return {
        name.removeprefix("homespun_"): float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith(_METRICS)
    }


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: gone for name, value in after.items() if (gone := value - before.get(name, 0.0))}


def make_adapters(data: DataDir, source: str, model: ModelFiles, number: int) -> list[str]:
    """`number` repositories with the index of `source`, each with a live adapter of its own; their names."""
    names = [f"adapter-{i:02}" for i in range(number)]
    for i, adapted in enumerate(random_adapters(model, number, _STD, _NOISE)):
        shutil.copytree(data.index(source), data.index(names[i]), copy_function=os.link, symlinks=True)
        _publish(adapted, data.adapters(names[i]), model.digest, f"{i:08}")
    return names


def random_adapters(model: ModelFiles, number: int, std: float, noise: float = 0.0) -> Iterator[Any]:
    """LoRAs of rank 16; with `noise`, all but the first are the one before and so much noise. Each is the same object
    with other weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
    options = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    adapted: Any = get_peft_model(base, options)
    lora = [weights for part, weights in adapted.named_parameters() if "lora_" in part]
    for i in range(number):
        torch.manual_seed(i)
        with torch.no_grad():
            for weights in lora:
                fresh = torch.randn_like(weights)
                weights.copy_(weights + noise * fresh if noise and i else std * fresh)
        yield adapted


def make_swaps(data: DataDir, source: str, model: ModelFiles, folder: Path) -> Swaps:
    """The first version is live when this returns."""
    weights = [folder / f"weights-{i}" for i in range(_WEIGHTS)]
    for own, adapted in zip(weights, random_adapters(model, _WEIGHTS, _TOLD_APART), strict=True):
        adapted.save_pretrained(own)
    swaps = Swaps(place=data.adapters(source), weights=weights, base_digest=model.digest)
    swaps.next()
    return swaps


def _publish(adapted: Any, adapters: Path, digest: str, mark: str) -> None:
    version = registry.new_version(mark)
    with (
        registry.publish_adapter(
            adapters / version, fingerprint=mark, sources={"base_model": digest}, report={}
        ) as tmp,
        TemporaryDirectory() as folder,
    ):
        adapted.save_pretrained(folder)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(Path(folder) / name, tmp / name)
    storage.set_current(adapters, version)


def levels(
    developers: Sequence[int], recording: Recording, repos: Mapping[str, str], adapters: Sequence[str]
) -> Iterator[Level]:
    """`repos`: from the recording's names to the server's."""
    first = recording.repositories[0].name
    of_first = [t for t in recording.traces if t.repo == first]
    for n in developers:
        yield Level(
            name=f"{n} developers",
            developers=n,
            traces=recording.traces,
            repo_of=lambda trace, number, turn: repos[trace.repo],
        )
        for used in (adapters[:1], adapters) if adapters else ():
            yield Level(
                name=f"{n} developers, {len(used)} adapter{'s' * (len(used) > 1)}",
                developers=n,
                traces=of_first,
                repo_of=_in_turns(used, n),
            )


def _in_turns(adapters: Sequence[str], developers: int) -> Callable[[Trace, int, int], str]:
    return lambda _trace, number, turn: adapters[(number + turn * developers) % len(adapters)]


def with_ratios(rows: Mapping[str, dict[str, Any]]) -> None:
    """Adds how much slower many adapters are than one."""
    for name, row in rows.items():
        one = rows.get(f"{name.partition(',')[0]}, 1 adapter")
        is_many = "adapters" in name and one is not None
        row["x one adapter"] = _ratio(row, one) if is_many and one is not None else None


def _ratio(many: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    return ", ".join(f"{c} {many[c] / one[c]:.2f}" for c in ("p50", "p95", "p50 km", "p95 km") if many[c] and one[c])


def table(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    columns = [c for c in next(iter(rows.values())) if c != "degraded"]
    cells = [["", *columns]] + [
        [name, *("-" if r[c] is None else str(r[c]) for c in columns)] for name, r in rows.items()
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        yield "  ".join(
            cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
    for name, row in rows.items():
        if row["degraded"]:
            yield f"{name}: {row['degraded']}"


async def cancel_ms(
    server: HomespunServer, token: str, recording: Recording, repos: Mapping[str, str]
) -> dict[str, float]:
    """How long somebody else waits for a short completion right after a long one was hung up on, at places of their own
    so that none finds its prompt computed, and without that. One that was answered sooner doesn't count."""
    body = {"prompt": "import os\n", "max_tokens": 1, "temperature": 0, "homespun": {"raw": True}}
    short, chooser = json.dumps(body).encode(), random.Random(0)
    idle, after = list[float](), list[float]()
    other = Connection(server.address, token)
    for trace in recording.traces[:_CANCELS]:
        await asyncio.sleep(_IDLE_S)
        idle.append(await _asked_ms(other, short))
        developer = Developer(0, server.address, lambda _trace, _turn: "", Tally(), token=token)
        place = developer._place(trace, f"file:///0/{trace.path}", f"{chooser.random()}", 0)
        developer._repo = repos[trace.repo]
        task = asyncio.create_task(developer._fetch(place, "typed"))
        await asyncio.sleep(chooser.uniform(0.005, 0.1))
        if task.done():
            continue
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        after.append(await _asked_ms(other, short))
    other.close()
    return {
        "idle_p50": statistics.median(idle),
        "p50": statistics.median(after),
        "p95": sorted(after)[int(len(after) * 0.95)],
    }


async def _asked_ms(connection: Connection, body: bytes) -> float:
    started = time.perf_counter()
    await connection.post("/v1/completions", body)
    return (time.perf_counter() - started) * 1e3


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, keystrokes=16_000, per_trace=80)
    parser.add_argument("--traces", type=Path, metavar="FILE", help="replay these; recorded there first if missing")
    parser.add_argument("--developers", default="20,50,200", metavar="N,N", help="levels (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="that a level lasts (default: %(default)s)")
    parser.add_argument("--no-patience", action="store_true", help="each level also with developers who don't back off")
    parser.add_argument("--adapters", type=int, default=0, metavar="N", help="compare N adapters with one")
    parser.add_argument("--swaps-per-minute", type=float, default=0, metavar="N", help="of an adapter, under load")
    parser.add_argument("--accounts", action="store_true", help="each developer has one, and shows its token")
    parser.add_argument("--flags", default="", help="more flags of `homespun serve`")
    parser.add_argument("--base-model", default="builtin")
    return parser.parse_args()


def main() -> None:
    args = _parsed()
    busy = say_how_busy()
    recording = recording_of(
        args.traces, args.repositories, keystrokes=args.keystrokes, per_trace=args.per_trace, seed=args.seed
    )
    print(summary(recording))
    with TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=f"{folder}/data", base_model=args.base_model, database_url=os.environ.get(_DATABASE, "")
        )
        model = resolve_base_model(args.base_model, "auto")
        tokenizer, data = load_tokenizer(model), DataDir(settings.data_root)
        repos = {
            r.name: indexed_at_cut(r, Path(folder), settings, model, tokenizer).parent.name
            for r in recording.repositories
        }
        adapters = make_adapters(data, next(iter(repos.values())), model, args.adapters) if args.adapters else []
        chosen = list(levels([int(n) for n in args.developers.split(",")], recording, repos, adapters))
        if args.no_patience:
            chosen += [replace(level, name=f"{level.name}, no patience", is_patient=False) for level in chosen]
        swaps = None
        if args.swaps_per_minute:
            first = recording.repositories[0].name
            swaps = make_swaps(data, repos[first], model, Path(folder))
            chosen = [replace(level, traces=[t for t in recording.traces if t.repo == first]) for level in chosen]
        tokens = _tokens(settings, max(level.developers for level in chosen)) if args.accounts else Tokens()
        rows, cancels = asyncio.run(_run_all(args, data.root, tokens, recording, repos, chosen, swaps))
    with_ratios(rows)
    print("\n".join(table(rows)))
    print("somebody else's one token over HTTP: " + ", ".join(f"{n} {ms:.1f} ms" for n, ms in cancels.items()))
    print(
        json.dumps(
            {"benchmark": "load", "busy": round(busy, 2), "seconds": args.seconds, "levels": rows, "cancel": cancels}
        )
    )


def _tokens(settings: Settings, number: int) -> Tokens:
    admin, developers = with_accounts(settings, number)
    return Tokens(admin=admin, developers=developers)


async def _run_all(
    args: argparse.Namespace,
    root: Path,
    tokens: Tokens,
    recording: Recording,
    repos: Mapping[str, str],
    chosen: Sequence[Level],
    swaps: Swaps | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    flags = ["--base-model", args.base_model, "--default-access", "everyone", "--log-format", "json"]
    log = root.parent / "serve.log" if swaps else None
    server = HomespunServer(root, *flags, *shlex.split(args.flags), log=log)
    try:
        rows = dict[str, dict[str, Any]]()
        for level in chosen:
            rows[level.name] = await run(level, server, tokens, args.seconds, args.seed)
            print(f"{level.name}: {rows[level.name]}", flush=True)
            if swaps is not None and log is not None:
                name = f"{level.name}, {args.swaps_per_minute:g} swaps a minute"
                rows[name] = await _swapped(args, level, server, tokens, swaps)
                print(f"{name}: {rows[name]}", flush=True)
        if swaps is not None and log is not None:
            print(f"what was given: {swaps.verdict(log)}", flush=True)
        return rows, await cancel_ms(server, tokens.of(0), recording, repos)
    finally:
        server.close()


async def _swapped(
    args: argparse.Namespace, level: Level, server: HomespunServer, tokens: Tokens, swaps: Swaps
) -> dict[str, Any]:
    swapping = asyncio.create_task(swaps.keep_swapping(args.swaps_per_minute))
    asking = asyncio.create_task(swaps.keep_asking(server.address, tokens.of(0)))
    running = asyncio.create_task(run(level, server, tokens, args.seconds, args.seed))
    await asyncio.wait({swapping, asking, running}, return_when=asyncio.FIRST_COMPLETED)
    for task in (swapping, asking, running):
        if not task.done():
            task.cancel()
    for result in await asyncio.gather(swapping, asking, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    return running.result()


if __name__ == "__main__":
    main()
