"""Many developers typing at one server: how long they wait, what they get, and what breaks first.

    python benchmarks/load.py REPO [REPO ...] [--developers 1,20,50] [--seconds 60] [--adapters 32]

Runs `homespun serve` with the built-in model and the repositories' indexes, and simulated developers against it. Each
replays recorded keystrokes (benchmarks/traces.py), at the times of the recording, through the language server's own
code: it waits for the next key as long as the language server would, sends nothing while what is typed agrees with a
suggestion, and closes the connection of a request that the next key has overtaken. At the end of a place a developer
reads for a second and goes on to the next one. Nobody accepts a suggestion, so there are more requests than in life.

    keys      typed a second, by all
    asked     requests sent a second; `typed through`: keys that a shown suggestion answered, without a request
    gone      share of requests whose connection was closed before the answer came
    p50 p95   ms from the request to the answer, of those that were answered
    p50 km, p95 km  the same with those that were hung up on, which would have taken longer than they lasted
              (Kaplan-Meier; none where nobody waited long enough to tell)
    goodput   answers a second with something to show; `empty` had nothing
    429 503 failed   refused, not ready; any other status, a broken connection, no answer within ten seconds
    degraded  completions that went without something, by reason, of all in the server's own count
    server    share of the machine's processor time; `here`: share of one core that the simulation itself took

With `--adapters N`, the same again with developers who are all served by one adapter, and then with N adapters taken
in turns: copies of the first repository's index, with N different random LoRAs of rank 16. `x one adapter` compares.

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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peers import HomespunServer, say_how_busy
from traces import Recording, Trace, add_arguments, indexed_at_cut, recording_of, summary

from homespun_core import registry, storage
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles, Trigger
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer
from homespun_lsp.asking import File, why_not
from homespun_lsp.context import Place, window
from homespun_lsp.documents import Document
from homespun_lsp.pace import Pace
from homespun_lsp.suggest import Suggester
from homespun_lsp.suggestions import Suggestion

_TIMEOUT_S = 10.0
"""As the language server's."""
_READING_S = 1.0
_WARM_S = 3.0
"""Not measured at the beginning of a level."""
_STAGGER_S = 3.0
_CANCELS, _IDLE_S = 40, 0.2
_OK, _NOTHING = 200, 204
_METRICS = ("homespun_degraded_total", "homespun_shed_total", "homespun_completions_total")


@dataclass(slots=True)
class Tally:
    """What one level saw, of requests sent while it was measured."""

    keys: int = 0
    typed_through: int = 0
    not_worth_asking: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    answered_ms: list[float] = field(default_factory=list[float])
    gone_ms: list[float] = field(default_factory=list[float])
    is_open: bool = False


class Connection:
    """HTTP/1.1 by hand: the simulation runs on the machine that it measures, and httpx takes ten times the time."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Cancelling it closes the connection. A kept one that the server has closed meanwhile is made anew."""
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        is_kept = self._streams is not None
        try:
            return await self._exchanged(message)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            if not is_kept:
                raise
            return await self._exchanged(message)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchanged(self, message: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(message)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, length = int(head.split(" ", 2)[1]), 0
        for line in head.split("\r\n")[1:]:
            if line.startswith("content-length:"):
                length = int(line.partition(":")[2])
        content = await reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return status, content


class Developer:
    """An editor with the language server's `Suggester`, and hands."""

    def __init__(self, number: int, address: str, repo_of: Callable[[Trace, int], str], tally: Tally) -> None:
        self._number, self._repo_of, self._tally = number, repo_of, tally
        self._connection = Connection(address)
        self._documents: dict[str, Document] = {}
        self._pace = Pace()
        self._suggester = Suggester(self._fetch, self._documents.get, self._pace)
        self._repo = ""
        self._num_sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self, traces: Sequence[Trace]) -> None:
        """For ever, until it is cancelled."""
        try:
            for turn in count():
                trace = traces[turn % len(traces)]
                self._repo = self._repo_of(trace, turn)
                await self._type(trace, f"file:///{turn}/{trace.path}")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._connection.close()

    async def _type(self, trace: Trace, uri: str) -> None:
        typed, asked = "", None
        for version, key in enumerate(trace.keys):
            await asyncio.sleep(key.after_ms / 1e3)
            if asked is not None:
                asked.cancel()
            typed += key.text
            self._pace.key(time.monotonic())
            asked = asyncio.create_task(self._ask(self._place(trace, uri, typed, version)))
            self._tasks.add(asked)
            asked.add_done_callback(self._tasks.discard)
        await asyncio.sleep(_READING_S)
        self._suggester.forget(uri)
        self._documents.pop(uri, None)

    def _place(self, trace: Trace, uri: str, typed: str, version: int) -> Place:
        text = trace.prefix + typed + trace.suffix
        document = Document(uri=uri, language="", version=version, text=text, encoding="utf-16")
        self._documents[uri] = document
        return Place(document=document, text=text, offset=len(trace.prefix) + len(typed))

    async def _ask(self, place: Place) -> None:
        tally = self._tally
        tally.keys += tally.is_open
        if why_not(place, File(), invoked=False, is_known=self._suggester.knows(place)):
            tally.not_worth_asking += tally.is_open
            return
        before = self._num_sent
        found = await self._suggester.suggest(place, wait_ms=self._pace.wait_ms(time.monotonic(), None))
        if found and found.completion and self._num_sent == before:
            tally.typed_through += tally.is_open

    async def _fetch(self, place: Place, trigger: Trigger) -> Suggestion:
        text, made = await self._answer(place)
        return Suggestion(text=place.text, offset=place.offset, completion=text, made=made)

    async def _answer(self, place: Place) -> tuple[str, str | None]:
        tally, is_counted = self._tally, self._tally.is_open
        self._num_sent += 1
        body, started = self._body(place), time.perf_counter()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, content = await self._connection.post("/v1/completions", body)
        except asyncio.CancelledError:
            if is_counted:
                tally.outcomes["gone"] += 1
                tally.gone_ms.append((time.perf_counter() - started) * 1e3)
            raise
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            tally.outcomes["timeout" if isinstance(error, TimeoutError) else "broken"] += is_counted
            return "", None
        ms = (time.perf_counter() - started) * 1e3
        answer = json.loads(content) if status == _OK else {"id": None, "choices": [{"text": ""}]}
        text = answer["choices"][0]["text"]
        if is_counted:
            outcome = ("shown" if text.strip() else "empty") if status in (_OK, _NOTHING) else str(status)
            tally.outcomes[outcome] += 1
            if status in (_OK, _NOTHING):
                tally.answered_ms.append(ms)
        return text if text.strip() else "", answer["id"]

    def _body(self, place: Place) -> bytes:
        prefix, suffix = window(place.text, place.offset)
        path = place.document.uri.removeprefix("file:///").partition("/")[2]
        about = {"path": path, "repo": self._repo, "client": f"developer-{self._number}"}
        body = {"prompt": prefix, "suffix": suffix, "max_tokens": 64, "temperature": 0, "homespun": about}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    name: str
    developers: int
    traces: Sequence[Trace]
    repo_of: Callable[[Trace, int, int], str]
    """By trace, developer and turn."""


async def run(level: Level, server: HomespunServer, seconds: float, seed: int) -> dict[str, Any]:
    tally = Tally()
    tasks = [
        asyncio.create_task(_begin(level, number, server.address, tally, seed)) for number in range(level.developers)
    ]
    await asyncio.sleep(_STAGGER_S + _WARM_S)
    before, started = _counters(server.address), time.perf_counter()
    server_s, here_s = server.cpu_s, time.process_time()
    tally.is_open = True
    await asyncio.sleep(seconds)
    tally.is_open = False
    elapsed = time.perf_counter() - started
    server_s, here_s = server.cpu_s - server_s, time.process_time() - here_s
    await asyncio.sleep(_READING_S)  # for the last answers
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    server_share = server_s / elapsed / len(os.sched_getaffinity(0))
    return _row(tally, elapsed, _difference(before, _counters(server.address))) | {
        "server": round(server_share, 2),
        "here": round(here_s / elapsed, 2),
        "MB": round(server.memory_mb),
    }


async def _begin(level: Level, number: int, address: str, tally: Tally, seed: int) -> None:
    """Every developer has places of their own, or they would find their prompts in the cache already; and not all
    press the first key at once."""
    chooser = random.Random(f"{seed} {number}")
    own = level.traces[number :: level.developers] or level.traces
    traces = chooser.sample(own, len(own))
    await asyncio.sleep(chooser.uniform(0, _STAGGER_S))
    await Developer(number, address, lambda trace, turn: level.repo_of(trace, number, turn), tally).work(traces)


def _row(tally: Tally, elapsed: float, server: Mapping[str, float]) -> dict[str, Any]:
    outcomes, asked = tally.outcomes, sum(tally.outcomes.values())
    failed = {name: n for name, n in outcomes.items() if name not in ("shown", "empty", "gone", "429", "503")}
    return {
        "keys": round(tally.keys / elapsed, 1),
        "asked": round(asked / elapsed, 1),
        "typed through": tally.typed_through,
        "gone": round(outcomes["gone"] / asked, 2) if asked else None,
        "p50": _quantile(tally.answered_ms, [], 0.5),
        "p95": _quantile(tally.answered_ms, [], 0.95),
        "p50 km": _quantile(tally.answered_ms, tally.gone_ms, 0.5),
        "p95 km": _quantile(tally.answered_ms, tally.gone_ms, 0.95),
        "goodput": round(outcomes["shown"] / elapsed, 1),
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


def _counters(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return {
        name.removeprefix("homespun_"): float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith(_METRICS)
    }


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: gone for name, value in after.items() if (gone := value - before.get(name, 0.0))}


def make_adapters(data: DataDir, source: str, model: ModelFiles, number: int) -> list[str]:
    """`number` repositories with the index of `source`, each with a live random adapter of its own; their names."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
    options = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    adapted: Any = get_peft_model(base, options)
    names = [f"adapter-{i:02}" for i in range(number)]
    for i, name in enumerate(names):
        torch.manual_seed(i)
        with torch.no_grad():
            for part, weights in adapted.named_parameters():
                if "lora_" in part:
                    weights.normal_(std=0.01)
        shutil.copytree(data.index(source), data.index(name), copy_function=os.link, symlinks=True)
        _publish(adapted, data.adapters(name), model.digest, f"{i:08}")
    return names


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


async def cancel_ms(server: HomespunServer, recording: Recording, repos: Mapping[str, str]) -> dict[str, float]:
    """How long somebody else waits for a short completion right after a long one was hung up on, and without that."""
    body = {"prompt": "import os\n", "max_tokens": 1, "temperature": 0, "homespun": {"raw": True}}
    short, chooser = json.dumps(body).encode(), random.Random(0)
    idle, after = list[float](), list[float]()
    other = Connection(server.address)
    for trace in (recording.traces * 20)[:_CANCELS]:
        await asyncio.sleep(_IDLE_S)
        idle.append(await _asked_ms(other, short))
        developer = Developer(0, server.address, lambda _trace, _turn: "", Tally())
        place = developer._place(trace, f"file:///0/{trace.path}", f"{chooser.random()}", 0)
        developer._repo = repos[trace.repo]
        task = asyncio.create_task(developer._fetch(place, "typed"))
        await asyncio.sleep(chooser.uniform(0.005, 0.1))
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
    parser.add_argument("--developers", default="1,20,50", metavar="N,N", help="levels (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="that a level lasts (default: %(default)s)")
    parser.add_argument("--adapters", type=int, default=0, metavar="N", help="compare N adapters with one")
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
        settings = Settings(data_dir=f"{folder}/data", base_model=args.base_model)
        model = resolve_base_model(args.base_model, "auto")
        tokenizer, data = load_tokenizer(model), DataDir(settings.data_root)
        repos = {
            r.name: indexed_at_cut(r, Path(folder), settings, model, tokenizer).parent.name
            for r in recording.repositories
        }
        adapters = make_adapters(data, next(iter(repos.values())), model, args.adapters) if args.adapters else []
        chosen = list(levels([int(n) for n in args.developers.split(",")], recording, repos, adapters))
        rows, cancels = asyncio.run(_run_all(args, data.root, recording, repos, chosen))
    with_ratios(rows)
    print("\n".join(table(rows)))
    print("somebody else's one token over HTTP: " + ", ".join(f"{n} {ms:.1f} ms" for n, ms in cancels.items()))
    print(
        json.dumps(
            {"benchmark": "load", "busy": round(busy, 2), "seconds": args.seconds, "levels": rows, "cancel": cancels}
        )
    )


async def _run_all(
    args: argparse.Namespace, root: Path, recording: Recording, repos: Mapping[str, str], chosen: Sequence[Level]
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    server = HomespunServer(root, "--base-model", args.base_model, *shlex.split(args.flags))
    try:
        rows = dict[str, dict[str, Any]]()
        for level in chosen:
            rows[level.name] = await run(level, server, args.seconds, args.seed)
            print(f"{level.name}: {rows[level.name]}", flush=True)
        return rows, await cancel_ms(server, recording, repos)
    finally:
        server.close()


if __name__ == "__main__":
    main()
