"""How long a completion takes while somebody types, beside what else runs the same weights on the same machine.

    python benchmarks/latency.py REPO [REPO ...] [--llama-server FILE] [--traces traces.jsonl] [--json out.json]
    python benchmarks/latency.py --list

One run: 500 recorded keystrokes (benchmarks/traces.py) of commits that the index hasn't seen; prompts of about 1,000
tokens as the server builds them; 24 new tokens, greedy, two threads. At every keystroke each arm is asked the same
prompt, one after the other in an order that rotates, so that a busy machine slows all of them down alike. What an arm
keeps from the keystroke before is its own affair.

    transformers              `generate`, float32
    ours, plain               no cache, no drafts, float32
    ours, reuse               + keys and values of the keystroke before
    ours, int8 plain          no cache, no drafts, int8: what the next three must repeat, token by token
    ours, int8                reuse + int8
    ours, tree                + drafts from the prompt
    ours, datastore           + drafts from the repository's index
    llama.cpp bf16, q8_0      its server, its prompt cache on; `+ ngram` with its own drafts from the prompt
    openvino q8_0             its pipeline with its cache of prefixes; `+ lookup` with its own drafts
    served                    `homespun serve` over HTTP: retrieval, prompt and post-processing included

    cold      ms end to end, median over the first keystrokes of places: nothing is cached;  cold p95
    p50 p95   of the others; also for arms without a cache, which the same keystrokes find cold
    first     ms to the first token;  token: ms for each one after it
    tok/step  tokens that a forward pass decides
    MB        what the process grew by with the arm's first completion; llama.cpp and served: their whole process
    limit     share of its time that an arm can't avoid on this machine (benchmarks/latency_limits.py);  limit cold
    x hf, x llama  times faster than transformers and llama.cpp q8_0: median over keystrokes of the ratio, with a 95 %
              interval (bootstrap over places). llama.cpp counts its own time there, without HTTP; `served` is compared
              with what asking llama.cpp over HTTP takes, `http`
    same      share of keystrokes with the very tokens of the arm that it must agree with (`as` in the JSON)

All tokens are decoded, also past a token that ends a completion; `--stop` ends there, and then completions are shorter.
After the table: how soon the engine is free for somebody else after a request was cancelled. The last line is JSON.

llama.cpp's server is built once, from the source in the package of its Python bindings:

    pip download --no-deps --no-binary :all: llama-cpp-python && tar xzf llama_cpp_python-*.tar.gz
    cmake -S llama_cpp_python-*/vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \\
      -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DBUILD_SHARED_LIBS=OFF
    cmake --build build --target llama-server -j2

Run it on an idle machine; it says when others were busy at the start. An arm that can't be run is left out, and a line
says why.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the server does

import torch
from latency_gguf import Kind, export_gguf
from latency_limits import Format, Limits, Shape
from peers import (
    Answer,
    Arm,
    Client,
    Growth,
    HomespunServer,
    LlamaServer,
    OpenVino,
    Question,
    Transformers,
    UnavailableError,
    say_how_busy,
)
from traces import Recording, Trace, add_arguments, indexed_at_cut, recording_of, summary

from homespun_core.config import Settings
from homespun_core.errors import ModelError
from homespun_core.fim import FimFormat, resolve_family
from homespun_core.languages import language_of_path
from homespun_core.prompt import PromptBuilder, PromptLimits
from homespun_core.types import ModelFiles, SearchQuery, Snippet, Tokenizer
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reader import IndexReader
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.drafts import drafter
from homespun_server.engine.protocol import Draft, EngineRequest
from homespun_server.engine.torch_engine import TorchEngine

HF, LLAMA = "transformers", "llama.cpp q8_0"
PLAIN, REUSE, INT8_PLAIN, INT8 = "ours, plain", "ours, reuse", "ours, int8 plain", "ours, int8"
TREE, DATASTORE, SERVED = "ours, tree", "ours, datastore", "served"
_BOOTSTRAP = 400
_CANCELS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An arm before it is there."""

    name: str
    format: Format
    agrees_with: str | None
    """The arm whose tokens it must repeat, or, in another number format, whose tokens it may."""
    make: Callable[[Bench], Arm]


class Engine:
    """Ours in one number format, for several arms: what one tenant computes is never used for another."""

    def __init__(self, model: ModelFiles, dtype: str, threads: int) -> None:
        growth = Growth()
        self.engine = TorchEngine(Path(model.path), dtype=dtype, num_threads=threads)
        self._growth = growth

    @cached_property
    def memory_mb(self) -> float:
        """When it is first asked for: after the first completion."""
        return self._growth.mb


class Ours:
    """An arm of ours. Cold means a tenant that the engine hasn't met."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        new_tokens: int,
        end_ids: Sequence[int],
        reuses: bool,
        draft: Callable[[str], Draft] | None = None,
    ) -> None:
        self._engine, self._name, self._reuses = engine, name, reuses
        self._draft, self._new_tokens, self._end_ids = draft, new_tokens, frozenset(end_ids)

    @property
    def memory_mb(self) -> float:
        return self._engine.memory_mb

    def ask(self, question: Question) -> Answer:
        place = question.trace if self._reuses else f"key {question.number}"
        request = EngineRequest(
            ids=question.ids,
            max_new_tokens=self._new_tokens,
            end_ids=self._end_ids,
            draft=self._draft(question.repo) if self._draft else None,
            tenant=f"{self._name} {place}",
        )
        started = time.perf_counter()
        generation = self._engine.engine.generate(request)
        ms = (time.perf_counter() - started) * 1e3
        stats = generation.stats
        return Answer(
            ids=tuple(token.id for token in generation.tokens),
            ms=ms,
            first_ms=stats.queue_ms + stats.prefill_ms,
            num_steps=stats.num_steps,
            cached=stats.cached_tokens,
            prompt=stats.prompt_tokens,
            drafted=stats.drafted_tokens,
            accepted=stats.accepted_tokens,
        )

    def close(self) -> None:
        pass  # the engine is shared


class Served:
    """`homespun serve` on the same index, as an editor asks it. What it keeps from earlier keystrokes is real, so a
    place's first keystroke is cold only as far as other places are elsewhere."""

    def __init__(self, data: Path, model: str, threads: int, new_tokens: int) -> None:
        self._server = HomespunServer(data, "--num-threads", str(threads), "--base-model", model)
        self._new_tokens = new_tokens
        self._http = Client(self._server.address)

    @property
    def memory_mb(self) -> float:
        return self._server.memory_mb

    def ask(self, question: Question) -> Answer:
        body = {
            "prompt": question.prefix[-8_000:],
            "suffix": question.suffix[:4_000],
            "max_tokens": self._new_tokens,
            "temperature": 0,
            "homespun": {"path": question.path, "repo": question.repo},
        }
        reply, ms = self._http.post("/v1/completions", body)
        usage = reply["usage"] if reply else {}
        return Answer(
            ids=(-1,) * usage.get("completion_tokens", 0),
            ms=ms,
            first_ms=ms,
            num_steps=0,
            cached=usage.get("prompt_tokens_details", {}).get("cached_tokens"),
            prompt=usage.get("prompt_tokens", 0),
            http_ms=ms,
        )

    def close(self) -> None:
        self._http.close()
        self._server.close()


class Bench:
    """Questions, and the arms that are asked them."""

    def __init__(self, args: argparse.Namespace, recording: Recording, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.model = resolve_base_model(args.base_model, "auto")
        self.tokenizer: Tokenizer = load_tokenizer(self.model)
        self.format: FimFormat = resolve_family(
            self.tokenizer, self.model.config, name=self.model.name, forced=self.model.family
        )
        self.settings = Settings(data_dir=str(folder / "data"), base_model=args.base_model)
        self.readers = {
            r.name: IndexReader.open(
                indexed_at_cut(r, folder, self.settings, self.model, self.tokenizer), self.tokenizer
            )
            for r in recording.repositories
        }
        limits = PromptLimits(max_tokens=args.prompt_tokens)
        self.builder = PromptBuilder(tokenizer=self.tokenizer, format=self.format, limits=limits)
        self.questions = [q for trace in recording.traces for q in self._questions(trace)]
        self._engines: dict[str, Engine] = {}
        self._weights: dict[Kind, Path] = {}

    @property
    def end_ids(self) -> tuple[int, ...]:
        """One that is padding, and never written, where all tokens are wanted."""
        if self.args.stop:
            return tuple(self.format.end_ids)
        unwritten = self.model.config.get("pad_token_id")
        if not isinstance(unwritten, int):
            raise SystemExit(f"{self.model.name} has no padding token; use --stop")
        return (unwritten,)

    def engine(self, dtype: str) -> Engine:
        if dtype not in self._engines:
            try:
                self._engines[dtype] = Engine(self.model, dtype, self.args.threads)
            except (ModelError, AttributeError) as error:
                raise UnavailableError(f"the engine has no {dtype} here: {error}") from error
        return self._engines[dtype]

    def weights(self, kind: Kind) -> Path:
        if kind not in self._weights:
            path = self.folder / f"{kind}.gguf"
            self._weights[kind] = export_gguf(Path(self.model.path), path, kind, self.end_ids)
        return self._weights[kind]

    def close(self) -> None:
        for engine in self._engines.values():
            engine.engine.close()
        for reader in self.readers.values():
            reader.close()

    def _questions(self, trace: Trace) -> Iterator[Question]:
        """Snippets stay for a whole trace, as they do in the server while the cursor is near."""
        language = language_of_path(trace.path)
        name = language.name if language else None
        query = SearchQuery(prefix=trace.prefix, suffix=trace.suffix, path=trace.path, language=name)
        snippets = tuple(self.readers[trace.repo].search(query, self.settings.snippet_count))
        typed = ""
        for i, key in enumerate(trace.keys):
            typed += key.text
            yield Question(
                number=trace.number * 1_000 + i,
                trace=trace.number,
                is_first=i == 0,
                repo=trace.repo,
                path=trace.path,
                prefix=trace.prefix + typed,
                suffix=trace.suffix,
                ids=self._prompt(trace, typed, snippets),
            )

    def _prompt(self, trace: Trace, typed: str, snippets: tuple[Snippet, ...]) -> tuple[int, ...]:
        return self.builder.build(
            prefix=trace.prefix + typed, suffix=trace.suffix, path=trace.path, repo=trace.repo, snippets=snippets
        ).ids


def plans() -> list[Plan]:
    def ours(name: str, dtype: Format, agrees_with: str, *, reuses: bool = True, drafts: str = "") -> Plan:
        def make(bench: Bench) -> Arm:
            sources = {"": None, "nearby": lambda repo: drafter(None), "all": lambda repo: _with_datastore(bench, repo)}
            return Ours(
                bench.engine(dtype),
                name,
                new_tokens=bench.args.new_tokens,
                end_ids=bench.end_ids,
                reuses=reuses,
                draft=sources[drafts],
            )

        return Plan(name=name, format=dtype, agrees_with=agrees_with, make=make)

    return [
        Plan(name=HF, format="float32", agrees_with=None, make=_transformers),
        ours(PLAIN, "float32", HF, reuses=False),
        ours(REUSE, "float32", PLAIN),
        ours(INT8_PLAIN, "int8", HF, reuses=False),
        ours(INT8, "int8", INT8_PLAIN),
        ours(TREE, "int8", INT8_PLAIN, drafts="nearby"),
        ours(DATASTORE, "int8", INT8_PLAIN, drafts="all"),
        ours("ours, bf16 tree", "bfloat16", HF, drafts="nearby"),
        _llama("llama.cpp bf16", "bf16", "bfloat16", HF),
        _llama(LLAMA, "q8_0", "int8", HF),
        _llama(f"{LLAMA} + ngram", "q8_0", "int8", LLAMA, drafts=True),
        _openvino("openvino q8_0", HF, lookup=False),
        _openvino("openvino q8_0 + lookup", "openvino q8_0", lookup=True),
        Plan(name=SERVED, format="int8", agrees_with=None, make=_served),
    ]


def _with_datastore(bench: Bench, repo: str) -> Draft:
    return drafter(bench.readers[repo].draft)


def _transformers(bench: Bench) -> Arm:
    args = bench.args
    return Transformers(Path(bench.model.path), dtype="float32", new_tokens=args.new_tokens, end_ids=bench.end_ids)


def _llama(name: str, kind: Kind, format: Format, agrees_with: str, *, drafts: bool = False) -> Plan:
    def make(bench: Bench) -> Arm:
        if bench.args.llama_server is None:
            raise UnavailableError("--llama-server isn't given; see --help for how to build it")
        return LlamaServer(
            bench.args.llama_server,
            bench.weights(kind),
            threads=bench.args.threads,
            new_tokens=bench.args.new_tokens,
            context=2_048,
            drafts=drafts,
            environ=dict(pair.split("=", 1) for pair in bench.args.llama_env),
        )

    return Plan(name=name, format=format, agrees_with=agrees_with, make=make)


def _openvino(name: str, agrees_with: str, *, lookup: bool) -> Plan:
    def make(bench: Bench) -> Arm:
        return OpenVino(
            bench.weights("q8_0"),
            threads=bench.args.threads,
            new_tokens=bench.args.new_tokens,
            end_ids=bench.end_ids,
            lookup=lookup,
        )

    return Plan(name=name, format="int8", agrees_with=agrees_with, make=make)


def _served(bench: Bench) -> Arm:
    args = bench.args
    return Served(bench.settings.data_root, args.base_model, args.threads, args.new_tokens)


@dataclass(slots=True)
class Measured:
    plan: Plan
    memory_mb: float
    answers: dict[int, Answer] = field(default_factory=dict)
    """By the number of the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything measured, as rows."""

    arms: Mapping[str, Measured]
    questions: Sequence[Question]
    limits: Limits

    def rows(self) -> dict[str, dict[str, Any]]:
        return {name: self._row(arm) for name, arm in self.arms.items()}

    def _row(self, arm: Measured) -> dict[str, Any]:
        warm = [arm.answers[q.number] for q in self.questions if not q.is_first]
        cold = [arm.answers[q.number] for q in self.questions if q.is_first]
        is_served = arm.plan.name == SERVED
        token_ms = [a.token_ms for a in warm if a.token_ms is not None]
        http_ms = [a.http_ms for a in warm if a.http_ms is not None]
        steps, drafted = sum(a.num_steps for a in warm), sum(a.drafted for a in warm)
        return {
            "cold": _middle([a.ms for a in cold]),
            "cold p95": _p95([a.ms for a in cold]),
            "p50": _middle([a.ms for a in warm]),
            "p95": _p95([a.ms for a in warm]),
            "first": None if is_served else _middle([a.first_ms for a in warm]),
            "token": None if is_served else _middle(token_ms),
            "http": _middle(http_ms),
            "tok/step": round(sum(len(a.ids) for a in warm) / steps, 2) if steps else None,
            "right": round(sum(a.accepted for a in warm) / drafted, 2) if drafted else None,
            "cached": _cached_share(warm),
            "tokens": round(statistics.mean(len(a.ids) for a in warm), 1),
            "MB": round(arm.memory_mb),
            "limit": None if is_served else self._share(arm, warm),
            "limit cold": None if is_served else self._share(arm, cold),
            "x hf": self._faster(arm, HF),
            "x llama": self._faster(arm, LLAMA),
            "same": self._same(arm),
            "as": arm.plan.agrees_with,
        }

    def _share(self, arm: Measured, answers: Sequence[Answer]) -> float | None:
        if any(a.cached is None for a in answers):
            return None
        bounds = (
            self.limits.completion_ms(
                arm.plan.format,
                prompt=a.prompt,
                cached=min(a.cached or 0, a.prompt - 1),
                steps=a.num_steps,
                rows=1 + a.drafted / a.num_steps,
            )
            for a in answers
        )
        return round(sum(bounds) / sum(a.ms for a in answers), 3)

    def _faster(self, arm: Measured, peer: str) -> str | None:
        other = self.arms.get(peer)
        if other is None or other is arm:
            return None
        by_place: dict[int, list[float]] = {}
        for q in self.questions:
            if not q.is_first:
                ours, theirs = arm.answers[q.number], other.answers[q.number]
                asked = theirs.http_ms if arm.plan.name == SERVED else None
                by_place.setdefault(q.trace, []).append((asked or theirs.ms) / ours.ms)
        return _median_with_interval(list(by_place.values()))

    def _same(self, arm: Measured) -> float | None:
        other = self.arms.get(arm.plan.agrees_with or "")
        if other is None:
            return None
        return round(statistics.mean(arm.answers[n].ids == other.answers[n].ids for n in arm.answers), 3)


def _cached_share(answers: Sequence[Answer]) -> float | None:
    known = [a for a in answers if a.cached is not None and a.prompt]
    return round(sum(a.cached or 0 for a in known) / sum(a.prompt for a in known), 3) if known else None


def _middle(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


def _p95(values: Sequence[float]) -> float | None:
    return round(sorted(values)[int(len(values) * 0.95)], 2) if values else None


def _median_with_interval(groups: Sequence[Sequence[float]]) -> str | None:
    if not groups:
        return None
    chooser = random.Random(0)
    middles = sorted(
        statistics.median(value for group in chooser.choices(groups, k=len(groups)) for value in group)
        for _ in range(_BOOTSTRAP)
    )
    low, high = middles[int(_BOOTSTRAP * 0.025)], middles[int(_BOOTSTRAP * 0.975)]
    return f"{statistics.median(value for group in groups for value in group):.2f} [{low:.2f}, {high:.2f}]"


def measure(bench: Bench, chosen: Sequence[Plan], stack: ExitStack) -> dict[str, Measured]:
    """Starts the arms one after the other, so that the growth of this process is the arm's, then asks them."""
    arms: dict[str, Arm] = {}
    measured: dict[str, Measured] = {}
    for plan in chosen:
        try:
            arm = plan.make(bench)
        except UnavailableError as error:
            print(f"{plan.name}: left out, {error}", file=sys.stderr)
            continue
        stack.callback(arm.close)
        arm.ask(_warm_up(bench.questions[0]))
        arms[plan.name], measured[plan.name] = arm, Measured(plan, arm.memory_mb)
    order = list(arms)
    for i, question in enumerate(bench.questions):
        print(f"\r{i + 1} of {len(bench.questions)} keystrokes", end="", file=sys.stderr)
        for name in order[i % len(order) :] + order[: i % len(order)]:
            measured[name].answers[question.number] = arms[name].ask(question)
    print(file=sys.stderr)
    return measured


def _warm_up(question: Question) -> Question:
    """Another prompt of the same length: nothing of it may help the first question."""
    return Question(
        number=-1,
        trace=-1,
        is_first=True,
        repo=question.repo,
        path="warm.py",
        prefix="import os\n",
        suffix="",
        ids=question.ids[::-1],
    )


async def cancelled(engine: TorchEngine, questions: Sequence[Question]) -> dict[str, float | None]:
    """Time to the one token of somebody else's short request: on an idle engine, and right after a cold completion was
    cancelled somewhere on its way."""
    chooser, idle, after = random.Random(0), list[float](), list[float]()
    firsts = [q for q in questions if q.is_first]
    for i in range(_CANCELS):
        idle.append(await _one_token(engine, f"idle {i}"))
        ids = firsts[i % len(firsts)].ids
        stream = engine.submit(EngineRequest(ids=ids, max_new_tokens=24, tenant=f"cancelled {i}"))
        work = asyncio.ensure_future(anext(aiter(stream)))
        await asyncio.sleep(chooser.uniform(0.0, 0.1))
        work.cancel()
        await stream.aclose()
        after.append(await _one_token(engine, f"after {i}"))
    return {"idle_p50": _middle(idle), "p50": _middle(after), "p95": _p95(after), "max": round(max(after), 2)}


async def _one_token(engine: TorchEngine, tenant: str) -> float:
    started = time.perf_counter()
    stream = engine.submit(EngineRequest(ids=[1_000] * 8, max_new_tokens=1, tenant=tenant))
    async for _ in stream:
        pass
    return (time.perf_counter() - started) * 1e3


def table(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    columns = [name for name in next(iter(rows.values())) if name != "as"]
    cells = [["", *columns]] + [[name, *(_cell(row[c]) for c in columns)] for name, row in rows.items()]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        yield "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, keystrokes=500, per_trace=12)
    parser.add_argument("--traces", type=Path, metavar="FILE", help="replay these; recorded there first if missing")
    parser.add_argument("--llama-server", type=Path, metavar="FILE", help="llama.cpp's server; see above")
    parser.add_argument(
        "--llama-env", action="append", default=[], metavar="NAME=VALUE", help="for it, as OMP_WAIT_POLICY=PASSIVE"
    )
    parser.add_argument("--arms", default="", metavar="WORDS", help="only arms whose names hold one of these, by comma")
    parser.add_argument("--base-model", default="builtin")
    parser.add_argument("--threads", type=int, default=2, help="of every arm (default: %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=24, help="of a completion (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=1_000, help="at most (default: %(default)s)")
    parser.add_argument("--stop", action="store_true", help="end completions where the model does")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every single answer there")
    parser.add_argument("--list", action="store_true", help="only name the arms")
    return parser.parse_args()


def main() -> None:
    args = _parsed()
    wanted = [word.strip() for word in args.arms.split(",") if word.strip()]
    chosen = [plan for plan in plans() if not wanted or any(word in plan.name for word in wanted)]
    if args.list:
        print("\n".join(plan.name for plan in chosen))
        return
    torch.set_num_threads(args.threads)
    busy = say_how_busy()
    recording = recording_of(
        args.traces, args.repositories, keystrokes=args.keystrokes, per_trace=args.per_trace, seed=args.seed
    )
    with TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(args, recording, Path(folder))
        stack.callback(bench.close)
        limits = Limits(Shape.of(Path(bench.model.path)))
        measured = measure(bench, chosen, stack)
        report = Report(arms=measured, questions=bench.questions, limits=limits)
        rows, cancels = report.rows(), _cancels(bench)
        _print(args, recording, bench, rows, cancels, limits, busy)
        if args.json:
            _save(args.json, report, recording)


def _cancels(bench: Bench) -> dict[str, Any]:
    return {dtype: asyncio.run(cancelled(engine.engine, bench.questions)) for dtype, engine in bench._engines.items()}


def _print(
    args: argparse.Namespace,
    recording: Recording,
    bench: Bench,
    rows: Mapping[str, Mapping[str, Any]],
    cancels: Mapping[str, Mapping[str, float | None]],
    limits: Limits,
    busy: float,
) -> None:
    lengths = sorted(len(q.ids) for q in bench.questions)
    print(summary(recording))
    print(
        f"prompts of {lengths[len(lengths) // 20]} to {lengths[-1]} tokens (5 % are shorter), median"
        f" {statistics.median(lengths):.0f}; {args.new_tokens} new tokens; {args.threads} threads; milliseconds"
    )
    print("\n".join(table(rows)))
    for dtype, ms in cancels.items():
        print(f"free after a cancel, {dtype}: " + ", ".join(f"{name} {value} ms" for name, value in ms.items()))
    machine = limits.report()
    print(f"limits of this machine: {machine}")
    result = {
        "arms": rows,
        "cancel": cancels,
        "machine": machine,
        "keystrokes": len(bench.questions),
        "busy": round(busy, 2),
    }
    print(json.dumps({"benchmark": "latency", "threads": args.threads, "stop": args.stop} | result))


def _save(path: Path, report: Report, recording: Recording) -> None:
    answers = {
        name: {
            n: [a.ms, a.first_ms, a.num_steps, a.cached, a.drafted, a.accepted, a.http_ms, list(a.ids)]
            for n, a in arm.answers.items()
        }
        for name, arm in report.arms.items()
    }
    path.write_text(json.dumps({"recording": summary(recording), "answers": answers}), encoding="utf-8")


if __name__ == "__main__":
    main()
