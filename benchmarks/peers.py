"""What else completes with the same weights, asked the same way: transformers, llama.cpp's server, OpenVINO GenAI.

Each is an `Arm` of benchmarks/latency.py. The rules are the same for all: greedy, two threads (or `--threads`), the
same prompt ids, the same number of new tokens, one question at a time. `Answer.ms` is the peer's own time from the
question to the last token, without what HTTP costs; `http_ms` is what the one who asks saw.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_START_S = 60.0
_NGRAM = ("--spec-type", "ngram-simple", "--spec-ngram-simple-size-n", "4", "--spec-ngram-simple-size-m", "8")
"""Its defaults (12 and 48) are for rewriting whole texts; these are for completions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One keystroke."""

    number: int
    trace: int
    is_first: bool
    """Of its trace: an arm must not have anything of its prompt in a cache, and be asked cold."""
    repo: str
    path: str
    prefix: str
    suffix: str
    ids: tuple[int, ...]
    """The prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    ids: tuple[int, ...]
    ms: float
    first_ms: float
    """Until the first token."""
    num_steps: int
    """Forward passes that decided tokens."""
    cached: int | None
    """Tokens of the prompt that weren't computed again; None where the arm doesn't tell."""
    prompt: int
    drafted: int = 0
    accepted: int = 0
    http_ms: float | None = None

    @property
    def token_ms(self) -> float | None:
        """A token after the first."""
        return (self.ms - self.first_ms) / (len(self.ids) - 1) if len(self.ids) > 1 else None


class Arm(Protocol):
    """A way to complete. A question whose `is_first` is false comes after the one before it of the same trace."""

    def ask(self, question: Question) -> Answer: ...

    @property
    def memory_mb(self) -> float:
        """Of weights, caches and what else it needs; for a process of its own, all of that."""
        ...

    def close(self) -> None: ...


class UnavailableError(Exception):
    """This machine can't run an arm; the message says why."""


class Growth:
    """Memory that this process took since it was made; freed memory is given back first, as far as libc does that."""

    def __init__(self) -> None:
        self._before = self._rss()

    @property
    def mb(self) -> float:
        return max(0.0, self._rss() - self._before)

    @staticmethod
    def _rss() -> float:
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        return rss_mb(os.getpid())


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def busy_share(seconds: float = 2.0) -> float:
    """How much of the machine others use: of its processor time, while this process sleeps."""

    def times() -> tuple[int, int]:
        user, nice, system, idle, wait, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
        return user + nice + system + sum(rest[:3]), idle + wait

    busy, idle = times()
    time.sleep(seconds)
    busy, idle = times()[0] - busy, times()[1] - idle
    return busy / max(1, busy + idle)


def say_how_busy() -> float:
    """Measured times mean little on a busy machine, and ratios too: threads that spin for one another (llama.cpp's)
    lose far more than threads that sleep."""
    share = busy_share()
    if share > 0.05:
        print(f"others use {share:.0%} of this machine: these measurements don't count", file=sys.stderr)
    return share


class Client:
    """Asks one server over a connection that is kept; one that idled too long is closed by servers, and made anew."""

    def __init__(self, address: str) -> None:
        self._http = http.client.HTTPConnection(address, timeout=60)

    def post(self, path: str, body: object) -> tuple[Any, float]:
        """What it answers, None for nothing, and after how many milliseconds. Building the body isn't counted."""
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            return self._posted(path, data)
        except (ConnectionError, http.client.RemoteDisconnected):
            self._http.close()
            return self._posted(path, data)

    def is_ready(self, path: str) -> bool:
        try:
            self._http.request("GET", path)
            response = self._http.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            self._http.close()
            return False
        return response.status == 200

    def close(self) -> None:
        self._http.close()

    def _posted(self, path: str, data: bytes) -> tuple[Any, float]:
        started = time.perf_counter()
        self._http.request("POST", path, data, {"Content-Type": "application/json"})
        response = self._http.getresponse()
        raw = response.read()
        ms = (time.perf_counter() - started) * 1e3
        if response.status not in (200, 204):
            raise RuntimeError(f"{path} answers {response.status}: {raw[:300]!r}")
        return json.loads(raw) if raw else None, ms


class Transformers:
    """`generate`, as its documentation uses it: nothing is kept from call to call."""

    def __init__(self, model: Path, *, dtype: str, new_tokens: int, end_ids: Sequence[int]) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        growth = Growth()
        self._torch = torch
        self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self._options = {
            "max_new_tokens": new_tokens,
            "do_sample": False,
            "eos_token_id": list(end_ids),
            "pad_token_id": end_ids[0],
        }
        self._ends = frozenset(end_ids)
        self._growth = growth

    @property
    def memory_mb(self) -> float:
        return self._growth.mb

    def ask(self, question: Question) -> Answer:
        clock, ids = _Clock(), self._torch.tensor([question.ids])
        started = time.perf_counter()
        with self._torch.inference_mode():
            out = self._model.generate(ids, attention_mask=self._torch.ones_like(ids), streamer=clock, **self._options)
        ended = time.perf_counter()
        new = out[0, len(question.ids) :].tolist()
        return Answer(
            ids=tuple(i for i in new if i not in self._ends),
            ms=(ended - started) * 1e3,
            first_ms=(clock.times[1] - started) * 1e3,  # the first that a streamer is given is the prompt
            num_steps=len(new),
            cached=0,
            prompt=len(question.ids),
        )

    def close(self) -> None:
        del self._model


class _Clock:
    """As transformers' streamers: told of every token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: object) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class LlamaServer:
    """llama.cpp's `llama-server` with one slot; its prompt cache is on, but for the first question of a trace."""

    def __init__(
        self,
        binary: Path,
        weights: Path,
        *,
        threads: int,
        new_tokens: int,
        context: int,
        drafts: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not binary.is_file():
            raise UnavailableError(f"{binary} isn't there; see --help for how to build llama.cpp's server")
        self._new_tokens = new_tokens
        port = _free_port()
        command = [str(binary), "--model", str(weights), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--threads", str(threads), "--threads-batch", str(threads), "--ctx-size", str(context)]
        # No second cache beside the slot's: it would be filled from the slot at the start of every trace, on our time.
        command += ["--parallel", "1", "--cache-ram", "0", "--no-webui", "--log-disable", *(_NGRAM if drafts else ())]
        # Ours tells OpenMP to let waiting threads sleep; llama.cpp is faster as it comes, with threads that spin.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env | dict(environ or {})
        )
        self._http = Client(f"127.0.0.1:{port}")
        try:
            self._wait()
        except UnavailableError:
            self.close()
            raise

    @property
    def memory_mb(self) -> float:
        return rss_mb(self._process.pid)

    def ask(self, question: Question) -> Answer:
        body = {
            "prompt": question.ids,
            "n_predict": self._new_tokens,
            "temperature": 0,
            "samplers": ["top_k"],
            "top_k": 1,  # greedy, without sorting the vocabulary for other samplers
            "cache_prompt": not question.is_first,
            "id_slot": 0,
            "return_tokens": True,
            "response_fields": ["tokens", "timings"],
        }
        reply, http_ms = self._http.post("/completion", body)
        return self._answer(reply, http_ms)

    def _answer(self, reply: dict[str, Any], http_ms: float) -> Answer:
        times, ids = reply["timings"], tuple(reply["tokens"])
        accepted = times.get("draft_n_accepted", 0)
        return Answer(
            ids=ids,
            ms=times["prompt_ms"] + times["predicted_ms"],
            first_ms=times["prompt_ms"],
            num_steps=max(1, times["predicted_n"] - accepted),
            cached=times["cache_n"],
            prompt=times["cache_n"] + times["prompt_n"],
            drafted=times.get("draft_n", 0),
            accepted=accepted,
            http_ms=http_ms,
        )

    def close(self) -> None:
        self._http.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise UnavailableError(f"llama-server ended with {self._process.returncode}")
            if self._http.is_ready("/health"):
                return
            time.sleep(0.1)
        raise UnavailableError(f"llama-server wasn't ready within {_START_S:g} s")


class HomespunServer:
    """`homespun serve` on a data directory, as its own process and on a free port. Ready when made."""

    def __init__(self, data: Path, *flags: str, log: Path | None = None) -> None:
        """`log`: where its log goes, instead of errors to ours."""
        command = [sys.executable, "-m", "homespun_core.cli", "serve", "--data-dir", str(data), "--port", "0"]
        with ExitStack() as stack:
            self._process = subprocess.Popen(
                [*command, "--log-level", "error" if log is None else "info", *flags],
                stdout=subprocess.PIPE,
                stderr=None if log is None else stack.enter_context(log.open("w")),
                text=True,
                cwd=data,  # a homespun.toml where the benchmark was started must not count
            )
        self.address = self._ready()

    @property
    def memory_mb(self) -> float:
        return rss_mb(self._process.pid)

    @property
    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ready(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "ready: http://" in line:
                return line.rpartition("//")[2].strip()
        self._process.wait()
        raise UnavailableError("homespun serve ended before it was ready")


class OpenVino:
    """OpenVINO GenAI's pipeline, which reads GGUF files itself (f16 and q8_0, not bf16 nor f32) and keeps a cache of
    prefixes. With `lookup`, its drafts from the prompt."""

    def __init__(self, weights: Path, *, threads: int, new_tokens: int, end_ids: Sequence[int], lookup: bool) -> None:
        try:
            import numpy as np
            import openvino as ov
            import openvino_genai as genai  # type: ignore[import-untyped]
        except ImportError as error:
            raise UnavailableError(f"{error.name} isn't installed (pip install openvino-genai)") from None
        self._np, self._ov, self._genai = np, ov, genai
        growth = Growth()
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads} | ({"prompt_lookup": True} if lookup else {})
        try:
            self._pipeline: Any = genai.LLMPipeline(str(weights), "CPU", **options)
        except RuntimeError as error:
            raise UnavailableError(f"OpenVINO GenAI: {str(error).strip().splitlines()[-1]}") from error
        self._new_tokens, self._end_ids, self._lookup = new_tokens, frozenset(end_ids), lookup
        self._growth = growth

    @property
    def memory_mb(self) -> float:
        return self._growth.mb

    def ask(self, question: Question) -> Answer:
        """Its cache can't be emptied, but is by blocks of whole beginnings, and traces begin alike for a few tokens."""
        ids = self._np.array([question.ids], dtype=self._np.int64)
        inputs = self._genai.TokenizedInputs(self._ov.Tensor(ids), self._ov.Tensor(self._np.ones_like(ids)))
        started = time.perf_counter()
        result = self._pipeline.generate(inputs, self._config())
        ms = (time.perf_counter() - started) * 1e3
        new, metrics = list(result.tokens[0]), result.perf_metrics
        return Answer(
            ids=tuple(i for i in new if i not in self._end_ids),
            ms=ms,
            first_ms=metrics.get_ttft().mean,
            num_steps=len(metrics.raw_metrics.m_batch_sizes) or len(new),
            cached=None,
            prompt=len(question.ids),
        )

    def _config(self) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.do_sample = self._new_tokens, False
        config.ignore_eos = True
        config.stop_token_ids = set(self._end_ids)
        if self._lookup:
            config.num_assistant_tokens, config.max_ngram_size = 8, 4
        return config

    def close(self) -> None:
        del self._pipeline


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
