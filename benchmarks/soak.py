"""A server for hours, with developers, pushes and adapters that come and go: what grows that shouldn't.

    python benchmarks/soak.py [REPO] [--hours 2] [--developers 4] [--push-minutes 5] [--adapter-minutes 12]

Runs `homespun up --no-train` on a clone of REPO, or on a made-up company's repository (benchmarks/company.py).
Developers type (benchmarks/developers.py: the language server's own code and pace). Every `--push-minutes` a file is
committed or taken away again, which `index --watch` picks up; every `--adapter-minutes` one of two random adapters
goes live, or none. Each minute is a sample:

    MB fds threads   of every process of the server's, by verb; of children that come and go, the number
    index            generations of it on disk, without the frozen ones; three are kept
    p50 p95          ms from a request to its answer, of the last minute; `failed`: any other end than an answer, a
                     refusal with a time to come back, or being hung up on
    text             whether a fixed prompt at temperature 0 got the text that it got before from the same index and
                     adapter; `-` where the server said that it did with less, or either changed meanwhile

At the end, or at Ctrl-C, come the verdicts, and the exit status is 1 where one of them is bad. Memory, descriptors and
threads grow where a line through the samples (Theil and Sen: the median of all slopes) surely rises faster than
allowed, its 95 % interval being above that. The first quarter of an hour is left out, at most half of the time: until
then caches fill up. Of less than half an hour after that no verdict on memory is made. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from company import Company, written
from developers import OK, Connection, Developer, Tally
from peers import rss_mb, say_how_busy
from traces import Key, Trace, recording_of

from homespun_core import registry
from homespun_core.paths import DataDir, repo_id
from homespun_indexer.model_files import resolve_base_model

_ALLOWED = {"MB": 1.0, "fds": 1.0, "threads": 1.0}
"""More, an hour."""
_GENERATIONS = 3
"""What is kept: a push may publish two (its own, then the same in better segments), and a server far away still maps
the one before."""
_WARM_SHARE, _WARM_S = 0.5, 900.0
_PLACES = 200
_MARK = 8
"""Characters at the end of an adapter's name that say whose weights it has."""
_KEY_MS, _KEY_SIGMA = 220.0, 0.5
_MEMORY_S = 1_800.0
_WORDS = {True: "good", False: "BAD", None: "?"}
_REFUSALS = ("429", "503")
_TRIES = 5
_IN_TIME_S = 2.0
"""A completion that took longer may have been ended by its deadline."""
_FIXED = "def find_by_state(self, state: str) -> list[Order]:\n    with span("


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Of one process."""

    name: str
    mb: float
    fds: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    at_s: float
    usage: Sequence[Usage]
    passing: int
    """Processes that come and go."""
    generations: int
    p50: float | None
    p95: float | None
    failed: int
    is_same: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """An hour."""

    value: float
    low: float
    high: float


def slope(points: Sequence[tuple[float, float]]) -> Slope | None:
    """Theil's and Sen's, with the 95 % interval of Kendall's ranks; None of fewer points than say anything."""
    rises = sorted(
        (y - earlier) / (x - before) * 3600 for i, (x, y) in enumerate(points) for before, earlier in points[:i]
    )
    n = len(points)
    if n < 5:
        return None
    width = 1.96 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = int((len(rises) - width) / 2), math.ceil((len(rises) + width) / 2)
    if low < 0 or high >= len(rises):
        return Slope(value=median(rises), low=-math.inf, high=math.inf)
    return Slope(value=median(rises), low=rises[low], high=rises[high])


class Site:
    """`homespun up`, its repository and its data."""

    def __init__(self, folder: Path, source: str | None, flags: Sequence[str]) -> None:
        self._folder = folder
        self.repository = folder / "loomworks"
        self.company = Company(self.repository) if source is None else None
        if source is not None:
            subprocess.run(["git", "clone", "-q", "--", source, str(self.repository)], check=True)
        self.data = DataDir(folder / "data")
        self._log = folder / "up.log"
        words = ["up", str(self.repository), "--no-train", f"--data-dir={self.data.root}", "--port=0", *flags]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "homespun_core.cli", *words], stdout=log, stderr=log, cwd=folder
            )
        self.address = self._ready()

    @property
    def id(self) -> str:
        return repo_id(str(self.repository))

    @property
    def index_folders(self) -> int:
        return sum(path.is_dir() and path.name != "frozen" for path in self.data.index(self.id).iterdir())

    def processes(self) -> tuple[list[Usage], int]:
        """Those that stay, by verb, and the number of the others."""
        found, passing = list[Usage](), 0
        for pid in _family(self._process.pid):
            with suppress(OSError, IndexError):  # it has ended meanwhile
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                verb = words[words.index("homespun_core.cli") + 1] if "homespun_core.cli" in words else None
                if verb is None or (verb == "index" and "--watch" not in words):
                    passing += 1
                    continue
                proc = Path(f"/proc/{pid}")
                fds, threads = (sum(1 for _ in (proc / name).iterdir()) for name in ("fd", "task"))
                found.append(Usage(name=verb, mb=round(rss_mb(pid), 1), fds=fds, threads=threads))
        return sorted(found, key=lambda usage: usage.name), passing

    def push(self, number: int) -> None:
        """A file, or its end."""
        name = f"depot{number // 2}"
        if self.company is not None and number % 2 == 0:
            self.company.push(number // 2)
            return
        file = self.repository / ("loomworks" if self.company else ".") / f"{name}s.py"
        if number % 2 == 0:
            file.write_text(f"def {name}_state(parcels):\n    return [parcel.state for parcel in parcels]\n" * 20)
        else:
            file.unlink()
        for words in (["add", "-A"], ["-c", "user.name=c", "-c", "user.email=c@example.com", "commit", "-qm", name]):
            subprocess.run(["git", *words], cwd=self.repository, check=True)

    def close(self) -> None:
        """What `up` says of its end is its own exit status; nothing of it stays."""
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            for pid in _family(self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
            self._process.wait()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def _ready(self) -> str:
        """Indexed, and with its model."""
        address = None
        while address is None or not _answers(address):
            text = self._log.read_text()
            if found := re.search(r"ready on http://(\S+);", text):
                address = found[1]
            if not self.is_running:
                raise SystemExit(f"homespun up ended: {text.splitlines()[-1] if text else 'it said nothing'}")
            time.sleep(0.2)
        return address


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=10):
            return True
    except OSError:
        return False


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


class Soak:
    """What goes on, and what was seen of it."""

    def __init__(self, site: Site, args: argparse.Namespace) -> None:
        self._site, self._args = site, args
        self._connection = Connection(site.address)
        self._texts: dict[str, str] = {}
        self._tally = Tally(is_open=True)
        self._developers: list[Developer] = []
        self.samples: list[Sample] = []
        self.pushes = self.changes = 0

    async def run(self) -> None:
        """Until the time is over, or it is cancelled."""
        traces = typed(self._site, self._args)
        deeds = [
            *(self._type(number, traces) for number in range(self._args.developers)),
            self._again(self._args.push_minutes, self._push),
            self._again(self._args.adapter_minutes, self._change_adapter),
        ]
        tasks = [asyncio.create_task(deed) for deed in deeds]
        self._began = time.monotonic()
        end = self._began + self._args.hours * 3600
        try:
            while time.monotonic() < end and self._site.is_running:
                done, _ = await asyncio.wait(tasks, timeout=min(self._args.sample_s, end - time.monotonic()))
                for task in done:
                    task.result()  # none of them ends by itself
                await self._sample()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._connection.close()

    async def _type(self, number: int, traces: Sequence[Trace]) -> None:
        chooser = random.Random(f"{self._args.seed} {number}")
        await asyncio.sleep(chooser.uniform(0, 3))
        own = chooser.sample(traces, len(traces))
        await Developer(number, self._site.address, lambda trace, turn: self._site.id, self._tally).work(own)

    async def _again(self, minutes: float, deed: Any) -> None:
        while True:
            await asyncio.sleep(minutes * 60)
            await asyncio.to_thread(deed)

    def _push(self) -> None:
        self._site.push(self.pushes)
        self.pushes += 1

    def _change_adapter(self) -> None:
        place, turn = self._site.data.adapters(self._site.id), self.changes % 3
        if turn < 2:
            registry.promote(place, random_adapter(place, self.changes), by="soak")
        else:
            registry.rollback(place, by="soak", why="to come and go")
        self.changes += 1

    async def _sample(self) -> None:
        tally = self._tally
        answered, tally.answered_ms = sorted(tally.answered_ms), []
        failed = sum(n for name, n in tally.outcomes.items() if name not in ("shown", "empty", "gone", *_REFUSALS))
        tally.outcomes.clear()
        generations = self._site.index_folders
        if generations > _GENERATIONS:  # while one more is published
            await asyncio.sleep(5)
            generations = self._site.index_folders
        usage, passing = self._site.processes()
        sample = Sample(
            at_s=round(time.monotonic() - self._began, 1),
            usage=usage,
            passing=passing,
            generations=generations,
            p50=_quantile(answered, 0.5),
            p95=_quantile(answered, 0.95),
            failed=failed,
            is_same=await self._is_same_at_last(),
        )
        self.samples.append(sample)
        print(line(sample), flush=True)

    async def _is_same_at_last(self) -> bool | None:
        """On a busy machine the first ones may have to do with less."""
        for attempt in range(_TRIES):
            if (found := await self._is_same(attempt)) is not None:
                return found
            await asyncio.sleep(1)
        return None

    async def _is_same(self, attempt: int) -> bool | None:
        before, asked = await self._served(), time.monotonic()
        about = {"repo": self._site.id, "client": f"soak-{len(self.samples)}-{attempt}", "path": "loomworks/fixed.py"}
        body = {"prompt": _FIXED, "suffix": "\n", "max_tokens": 32, "temperature": 0, "homespun": about}
        answer = await self._connection.post("/v1/completions", json.dumps(body).encode())
        is_late = time.monotonic() - asked > _IN_TIME_S
        if answer.status != OK or before is None or is_late or before != await self._served():
            return None
        said = json.loads(answer.content)
        if said.get("homespun", {}).get("degraded"):
            return None
        text = str(said["choices"][0]["text"])
        return self._texts.setdefault(before, text) == text

    async def _served(self) -> str | None:
        """Index and weights."""
        answer = await self._connection.get("/readyz")
        if answer.status != OK:
            return None
        (repository,) = json.loads(answer.content)["repositories"]
        return f"{repository['index_generation']} {str(repository['adapter'])[-_MARK:]}"


def typed(site: Site, args: argparse.Namespace) -> Sequence[Trace]:
    """Lines of the repository's own history, or in the company's style, key after key."""
    if args.repository is not None:
        recorded = recording_of(None, [args.repository], keystrokes=4_000, per_trace=80, seed=args.seed)
        return recorded.traces
    chooser, traces = random.Random(args.seed), list[Trace]()
    for number in range(_PLACES):
        beginning, text = written(chooser)
        keys = tuple(Key(min(2_000.0, chooser.lognormvariate(math.log(_KEY_MS), _KEY_SIGMA)), c) for c in text)
        path = f"loomworks/new{number}.py"
        traces.append(
            Trace(number=number, repo=site.id, commit="", path=path, prefix=beginning, suffix="\n", keys=keys)
        )
    return traces


def random_adapter(place: Path, number: int) -> str:
    """One of two, so that what was said with it can be compared; a version of its own each time."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = resolve_base_model("builtin", "auto")
    torch.manual_seed(number % 2)
    base = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
    adapted: Any = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_" in name:
                weights.normal_(std=0.01)
    version = registry.new_version(f"{number % 2:0{_MARK}}")
    sources = {"base_model": model.digest}
    with (
        registry.publish_adapter(place / version, fingerprint=version, sources=sources, report={}) as published,
        TemporaryDirectory() as folder,
    ):
        adapted.save_pretrained(folder)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(Path(folder) / name, published / name)
    return version


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else None


def line(sample: Sample) -> str:
    processes = "  ".join(f"{u.name} {u.mb:.0f} MB {u.fds} fds {u.threads} threads" for u in sample.usage)
    same = {None: "-", True: "same", False: "ANOTHER"}[sample.is_same]
    return (
        f"{sample.at_s / 60:6.1f} min  {processes}  passing {sample.passing}  index {sample.generations}"
        f"  p50 {sample.p50} p95 {sample.p95} failed {sample.failed}  text {same}"
    )


@dataclass(slots=True)
class Verdicts:
    rows: list[tuple[str, str, bool | None]] = field(default_factory=list)
    """What, what was found, whether that is good; None can't be said."""

    def add(self, what: str, found: str, is_good: bool | None) -> None:
        self.rows.append((what, found, is_good))

    @property
    def is_good(self) -> bool:
        return all(good is not False for _, _, good in self.rows)


def judged(samples: Sequence[Sample], is_running: bool) -> tuple[Verdicts, dict[str, Any]]:
    verdicts, slopes = Verdicts(), dict[str, Any]()
    warm_s = min(_WARM_S, samples[-1].at_s * _WARM_SHARE) if samples else 0.0
    later = [sample for sample in samples if sample.at_s >= warm_s]
    for name in sorted({usage.name for sample in later for usage in sample.usage}):
        for unit, allowed in _ALLOWED.items():
            points = [(s.at_s, float(getattr(u, unit.lower()))) for s in later for u in s.usage if u.name == name]
            found = slope(points)
            if found is None:
                continue
            slopes[f"{name} {unit}"] = [
                round(v, 2) if math.isfinite(v) else None for v in (found.value, found.low, found.high)
            ]
            said = f"{found.value:+.2f} an hour (95 %: {found.low:+.2f} to {found.high:+.2f}), last {points[-1][1]:.0f}"
            is_judged = unit != "MB" or points[-1][0] - points[0][0] >= _MEMORY_S
            verdicts.add(f"{name}: {unit}", said, found.low <= allowed if is_judged else None)
    most = max((s.generations for s in later), default=0)
    verdicts.add("index generations", f"at most {most}", most <= _GENERATIONS)
    asked = [s.is_same for s in samples if s.is_same is not None]
    verdicts.add("the same text", f"{sum(asked)} of {len(asked)} times", all(asked) and bool(asked))
    failed = sum(s.failed for s in samples)
    verdicts.add("failed requests", str(failed), failed == 0)
    verdicts.add("it runs to the end", "yes" if is_running else "no", is_running)
    return verdicts, slopes


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", nargs="?", metavar="REPO", help="cloned from there (default: a made-up one)")
    parser.add_argument("--hours", type=float, default=2.0, help="(default: %(default)s)")
    parser.add_argument("--developers", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--push-minutes", type=float, default=5.0, help="(default: %(default)s)")
    parser.add_argument("--adapter-minutes", type=float, default=12.0, help="(default: %(default)s)")
    parser.add_argument("--sample-s", type=float, default=60.0, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flags", default="", help="more flags of `homespun up`")
    return parser.parse_args()


def main() -> None:
    args = _parsed()
    busy = say_how_busy()
    with TemporaryDirectory() as folder:
        site = Site(Path(folder), args.repository, shlex.split(args.flags))
        soak = Soak(site, args)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has ignored in the background
        try:
            asyncio.run(soak.run())
        except KeyboardInterrupt:
            print("interrupted; this is what was seen", flush=True)
        finally:
            is_running = site.is_running
            site.close()
    verdicts, slopes = judged(soak.samples, is_running)
    for what, found, is_good in verdicts.rows:
        print(f"{_WORDS[is_good]:4}  {what:24} {found}")
    print(json.dumps({"benchmark": "soak", "busy": round(busy, 2), **report(soak, verdicts, slopes)}))
    sys.exit(0 if verdicts.is_good else 1)


def report(soak: Soak, verdicts: Verdicts, slopes: Mapping[str, Any]) -> dict[str, Any]:
    waited = [s.p95 for s in soak.samples if s.p95 is not None]
    return {
        "minutes": round(soak.samples[-1].at_s / 60, 1) if soak.samples else 0,
        "samples": len(soak.samples),
        "pushes": soak.pushes,
        "adapters": soak.changes,
        "slopes": dict(slopes),
        "p95": median(waited) if waited else None,
        "bad": [what for what, _, is_good in verdicts.rows if is_good is False],
    }


if __name__ == "__main__":
    main()
