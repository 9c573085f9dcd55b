"""How many machines a number of developers needs. Pure arithmetic on assumptions that can each be given otherwise.

A GPU computes completions in steps. A step reads the weights once and, of each running completion, what is kept of its
prompt (keys and values); it makes one token for each, or a few with drafts. Beside that, the new part of each prompt is
multiplied through the weights. So with `n` completions under way a GPU is busy for

    decode    steps x (weights + n x kept) / bandwidth    for n completions together
    prefill   2 x parameters x new tokens / arithmetic    for each

and the number of completions a second is where it is busy for `most_busy` of the time. Both are divided by the share of
the data sheet's figures that engines reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

BYTES_KV = 2
"""bfloat16."""
MOST_TOGETHER = 256
"""Beyond, engines no longer gain."""
_MS, _HOUR_S = 1e3, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    parameters: float
    layers: int
    kv_heads: int
    head_size: int

    def kept_bytes(self, tokens: float) -> float:
        """Keys and values of so many tokens."""
        return tokens * 2 * self.layers * self.kv_heads * self.head_size * BYTES_KV


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    tflops: float
    gb_per_s: float
    gb: float


Origin = Literal["measured", "setting", "chosen", "assumed"]


def _assumed(default: float, origin: Origin, said: str, where: str) -> Any:
    """`where`: the measurement (benchmarks/LOG.md), or why it is so."""
    return field(default=default, metadata={"origin": origin, "said": said, "where": where})


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    active: float = _assumed(
        0.15, "assumed", "share of the developers who type at the busiest time", "yours is in the dashboard"
    )
    requests_per_s: float = _assumed(
        0.87, "measured", "requests a second of one who types", "2026-11-29, load.py: 20 typists ask 17.3 a second"
    )
    prompt_tokens: int = _assumed(960, "setting", "tokens of a prompt at most", "max_prompt_tokens")
    new_share: float = _assumed(
        0.25,
        "assumed",
        "share of them that the request before hadn't; 1 where nothing is reused",
        "0.27 in scale_out.py with vLLM",
    )
    completion_tokens: int = _assumed(24, "assumed", "tokens of a completion", "most are a line")
    tokens_per_step: float = _assumed(
        1.0, "chosen", "tokens made in a step; 1.5 to 2.5 with drafts where code repeats itself", "vLLM without drafts"
    )
    longest_ms: float = _assumed(400.0, "chosen", "a completion is to take no longer", "then the next key was hit")
    bytes_per_weight: float = _assumed(2.0, "chosen", "2 is bfloat16, 1 is fp8 or int8", "no loss by default")
    most_busy: float = _assumed(
        0.6, "chosen", "share of the time a machine may be busy", "at 0.6 a request waits 1.5 x its time, at 0.8 4 x"
    )
    arithmetic_reached: float = _assumed(
        0.4, "assumed", "share of the data sheet's arithmetic that is reached", "never measured by us: no such GPU"
    )
    bandwidth_reached: float = _assumed(
        0.7, "assumed", "share of its memory bandwidth that is reached", "never measured by us: no such GPU"
    )
    gateway_ms: float = _assumed(
        14.0,
        "measured",
        "processor time of a request in a gateway before vLLM",
        "2026-11-29, scale_out.py: 9 to 11, and 3.7 for a search in 1.4 million lines",
    )
    adapters: int = _assumed(8, "chosen", "adapters loaded at a time", "the chart's vllm.maxLoras")
    adapter_rank: int = _assumed(64, "chosen", "room for so large a rank", "the chart's vllm.maxLoraRank")
    lines_per_developer: float = _assumed(
        10_000, "assumed", "lines of code that are indexed, for each developer", "homespun status shows yours"
    )
    index_bytes_per_line: float = _assumed(
        61, "measured", "bytes of index for a line", "2026-11-21, indexing.py: 50 to 61 in three repositories"
    )
    pushes_per_hour: float = _assumed(1.0, "assumed", "pushes of a developer in the busiest hour", "count your forge's")
    index_s: float = _assumed(
        0.32, "measured", "seconds to index a push of 20 files", "2026-11-29, indexing.py, 1.4 million lines"
    )
    typing_hours: float = _assumed(2.0, "assumed", "hours a day that a developer types", "of eight at work")
    feedback_days: float = _assumed(90, "setting", "days that outcomes of completions are kept", "feedback_days")
    outcome_bytes: float = _assumed(
        650, "measured", "of a completion in PostgreSQL, indexes included", "2026-11-29, scale_out.py"
    )


SHARES = ("active", "new_share", "most_busy", "arithmetic_reached", "bandwidth_reached")
"""Assumptions that can't be above 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    requests_per_s: float
    gpus: int
    per_gpu_per_s: float
    """What one GPU answers at `most_busy`."""
    together: int
    """Completions under way in one GPU then."""
    completion_ms: float
    """Of one, without waiting."""
    weights_gb: float
    kept_gb: float
    """Of the completions under way in one GPU."""
    adapters_gb: float
    fits: bool
    is_quick: bool
    """Whether a completion takes no longer than wanted."""
    gateway_cores: int
    index_gb: float
    """Of all repositories. Every gateway maps all of it, and what is used of it stays in the memory of its machine."""
    watcher_busy: float
    """Share of the busiest hour that one process indexes pushes in."""
    database_gb: float
    """Of outcomes of completions, when the oldest are deleted."""


def plan(developers: int, model: Model, gpu: Gpu, assumed: Assumptions) -> Plan:
    wanted = developers * assumed.active * assumed.requests_per_s
    weights = model.parameters * assumed.bytes_per_weight
    together, rate = _most(model, gpu, assumed)
    took_ms = _completion_s(model, gpu, assumed, together) * _MS
    kept = together * model.kept_bytes(assumed.prompt_tokens + assumed.completion_tokens)
    adapters = assumed.adapters * _adapter_bytes(model, assumed)
    return Plan(
        requests_per_s=wanted,
        gpus=math.ceil(wanted / rate),
        per_gpu_per_s=rate,
        together=together,
        completion_ms=took_ms,
        weights_gb=weights / 1e9,
        kept_gb=kept / 1e9,
        adapters_gb=adapters / 1e9,
        fits=weights + kept + adapters < gpu.gb * 1e9 * 0.9,
        is_quick=took_ms <= assumed.longest_ms,
        gateway_cores=max(1, math.ceil(wanted * assumed.gateway_ms / _MS / assumed.most_busy)),
        index_gb=developers * assumed.lines_per_developer * assumed.index_bytes_per_line / 1e9,
        watcher_busy=developers * assumed.pushes_per_hour * assumed.index_s / _HOUR_S,
        database_gb=developers * _outcomes_kept(assumed) * assumed.outcome_bytes / 1e9,
    )


def _outcomes_kept(assumed: Assumptions) -> float:
    """Of one developer."""
    return assumed.typing_hours * _HOUR_S * assumed.requests_per_s * assumed.feedback_days


def _most(model: Model, gpu: Gpu, assumed: Assumptions) -> tuple[int, float]:
    """How many completions together, and how many a second then, while none takes longer than wanted; where one alone
    does already, than half as long again."""
    limit = max(assumed.longest_ms / _MS, 1.5 * _completion_s(model, gpu, assumed, 1))
    together = 1
    while together < MOST_TOGETHER and _completion_s(model, gpu, assumed, together + 1) <= limit:
        together += 1
    return together, assumed.most_busy * together / _completion_s(model, gpu, assumed, together)


def _completion_s(model: Model, gpu: Gpu, assumed: Assumptions, together: int) -> float:
    """Of that many computed together, and of each: while it decodes, the prompts of the others come in between."""
    return together * _prefill_s(model, gpu, assumed) + _decode_s(model, gpu, assumed, together)


def _prefill_s(model: Model, gpu: Gpu, assumed: Assumptions) -> float:
    operations = 2 * model.parameters * assumed.prompt_tokens * assumed.new_share
    return operations / (gpu.tflops * 1e12 * assumed.arithmetic_reached)


def _decode_s(model: Model, gpu: Gpu, assumed: Assumptions, together: int) -> float:
    kept = model.kept_bytes(assumed.prompt_tokens + assumed.completion_tokens / 2)
    read = model.parameters * assumed.bytes_per_weight + together * kept
    steps = assumed.completion_tokens / assumed.tokens_per_step
    return steps * read / (gpu.gb_per_s * 1e9 * assumed.bandwidth_reached)


def _adapter_bytes(model: Model, assumed: Assumptions) -> float:
    """Of all linear layers, whose sizes follow from the number of parameters to within a factor of two."""
    width = math.sqrt(model.parameters / model.layers / 12)
    return model.layers * 7 * 2 * 2 * width * assumed.adapter_rank * 2
