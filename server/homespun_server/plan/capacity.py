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
from dataclasses import dataclass

BYTES_KV = 2
"""bfloat16."""
MOST_TOGETHER = 256
"""Beyond, engines no longer gain."""
_MS = 1e3


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    active: float = 0.15
    """Share of the developers who are typing at the busiest time."""
    requests_per_s: float = 0.8
    """Of one who is typing: most keys are answered by the suggestion that is shown."""
    prompt_tokens: int = 960
    new_share: float = 0.25
    """Of a prompt's tokens, those that weren't computed for the request before: 1 where nothing is reused."""
    completion_tokens: int = 24
    tokens_per_step: float = 1.0
    """More with drafts: 1.5 to 2.5 where code repeats itself."""
    longest_ms: float = 400.0
    """A completion that takes longer comes when the next key was hit."""
    bytes_per_weight: float = 2.0
    """2 is bfloat16, 1 is fp8 or int8."""
    most_busy: float = 0.6
    """Of the time. Above, waiting grows steeply: at 0.6 a request waits 1.5 x as long as it takes, at 0.8 4 x."""
    arithmetic_reached: float = 0.4
    bandwidth_reached: float = 0.7
    gateway_ms: float = 8.0
    """Processor time of a request in a gateway: access, retrieval, prompt, HTTP."""
    adapters: int = 8
    """Loaded at a time."""
    adapter_rank: int = 16


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
    )


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
