"""What a run looks like by the size of what is trained on and of what is trained. Pure but for reading headers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles

SMALL_MODEL = 100_000_000
"""Parameters. The recipe of models below was searched with the built-in one (benchmarks/LOG.md)."""

_CHARACTERS_PER_TOKEN = 3.4
_RANKS = (16, 32, 64)
_BITS_PER_PARAMETER = 2.0
"""What parameters of a LoRA hold, against about one bit that a token brings (Schulman, LoRA Without Regret, 2025)."""
_DROPOUT, _MUCH_CODE = 0.05, 5_000_000
"""Tokens."""
_PASSES = ((100_000, 12.0), (1_000_000, 6.0), (math.inf, 3.0))
"""(tokens below, times that as many tokens may be targets): small corpora bear more, as in Refact's table of epochs."""
_LITTLE_CODE, _GENTLY = 200_000, 0.7
"""Tokens, and the share of the usual learning rate: on 12,000 tokens other code suffered from the whole of it, on
150,000 half of it gained as much (benchmarks/LOG.md)."""
_STRENGTH = 0.7
"""Weights between the base model's and the trained ones (Wortsman et al., Robust fine-tuning of zero-shot models, 2022)
lose less of what the model could do before than of what was learned; measured with small models (benchmarks/LOG.md)."""
_HELD_OUT_EXAMPLES = (24, 96)
_HELD_OUT_PER_MINUTE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base model's size, as far as an adapter's depends on it."""

    parameters: int
    per_rank: int
    """Parameters that a LoRA on all linear layers has for each rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rank: int
    dropout: float
    batch_examples: int
    prompt_tokens: int
    """0: as long as the server's."""
    learning_rate: float
    """As a share of what is usual for the model."""
    strength: float
    """Share of what was learned that the adapter keeps."""
    max_targets: float
    """Training ends after so many tokens that it was asked for, though there be time."""


def sizes(characters: int, base: Base, *, is_gpu: bool) -> Sizes:
    tokens, is_small = characters / _CHARACTERS_PER_TOKEN, base.parameters < SMALL_MODEL
    # A prompt of 384 tokens shows more places in minutes on a CPU; a GPU has the time for the server's own.
    is_long = is_gpu and not is_small
    return Sizes(
        rank=next((r for r in _RANKS if r * base.per_rank * _BITS_PER_PARAMETER >= tokens), _RANKS[-1]),
        dropout=_DROPOUT if tokens < _MUCH_CODE and not is_small else 0.0,
        batch_examples=16 if is_long else 8,
        prompt_tokens=0 if is_long else 384,
        learning_rate=_GENTLY if tokens < _LITTLE_CODE and is_small else 1.0,
        strength=_STRENGTH if is_small else 1.0,
        max_targets=float(round(tokens * next(passes for limit, passes in _PASSES if tokens < limit))),
    )


def num_held_out(minutes: float) -> int:
    """Examples that say when it is enough: more in longer runs, where looking at them costs little."""
    least, most = _HELD_OUT_EXAMPLES
    return min(most, max(least, int(minutes * _HELD_OUT_PER_MINUTE)))


def measure(files: ModelFiles) -> Base:
    """From the headers of its weights. Raises ModelError where there are none."""
    shapes: dict[str, list[int]] = {}
    try:
        for path in sorted(Path(files.path).glob("*.safetensors")):
            with safe_open(path, framework="numpy") as weights:
                shapes |= {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"base_model: {files.path} can't be read ({error})") from error
    if not shapes:
        raise ModelError(f"base_model: {files.path} has no safetensors")
    linear = [shape for name, shape in shapes.items() if len(shape) == 2 and not _is_vocabulary(name)]
    return Base(parameters=sum(map(math.prod, shapes.values())), per_rank=max(1, sum(map(sum, linear))))


def _is_vocabulary(name: str) -> bool:
    """Embeddings and the head are never adapted."""
    return any(part in name for part in ("embed", "wte", "lm_head"))
