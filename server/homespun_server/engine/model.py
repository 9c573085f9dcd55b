"""Any Hugging Face causal language model as a decoder: ids and a cache in, logits out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers.cache_utils import Cache, DynamicCache

from homespun_core.errors import ModelError
from homespun_server.engine.kv import SlotPool

EXACT_BELOW_PARAMETERS = 300_000_000
"""Smaller models run in float32 on a CPU when the choice is ours, because there a completion does not depend on what
was cached or drafted. Of 200 prompts from real files, 24 tokens each, bfloat16 changed 7 completions when cached, 7
when drafted and 13 when both (the attention kernel rounds differently for one row and for several; the linear layers
don't), float32 none. With packed weights bfloat16 is only 1.1 to 1.4 times faster (18.9M parameters, AVX512-BF16).
Larger models are timed."""
_CROPPABLE_LAYERS = {"full_attention", "sliding_attention"}
_PACK_ROWS = 16
"""Rows the packed layout is made for; in float32, 16 beat 1 by 1.3 times for one row and 1.4 times for 900."""


class PackedLinear(nn.Module):
    """A linear layer whose weights oneDNN has reordered for its own kernels: 1.4 to 2.4 times faster than `nn.Linear`
    (18.9M parameters, float32, whole model: 8.9 -> 5.7 ms for one row, 19.8 -> 8.6 for eight, 512 -> 215 for 900)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().clone(), _PACK_ROWS)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return y


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    vocab_size: int
    num_layers: int
    max_context: int
    can_crop: bool
    """Whether its cache is keys and values of every token, so that taking the last ones off is exact."""


class Decoder:
    """One set of weights, ready to run."""

    def __init__(self, module: Any, facts: ModelFacts, device: torch.device) -> None:
        self._module, self._device = module, device
        self.facts = facts
        self.vocab_size = facts.vocab_size

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], kv: Cache, num_rows: int) -> torch.Tensor:
        """Append `ids` to the cache `kv`; logits of the last `num_rows` of them, (num_rows, vocabulary) in float32."""
        assert 1 <= num_rows <= len(ids)
        inputs = torch.tensor([ids], device=self._device)
        out = self._module(input_ids=inputs, past_key_values=kv, use_cache=True, logits_to_keep=num_rows)
        logits: torch.Tensor = out.logits[0].float()
        return logits

    def new_cache(self) -> Cache:
        """The cache the model itself would choose."""
        return DynamicCache(config=self._module.config)

    def check(self) -> None:
        """Raises ModelError when the weights give anything but numbers: a diverged training run, a damaged file."""
        if not bool(self.forward([0, min(1, self.vocab_size - 1)], self.new_cache(), 1).isfinite().all()):
            raise ModelError("the model computes no finite numbers; train or download it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where weights come from and how they run; every copy of the model is made from it."""

    path: Path
    dtype: torch.dtype
    device: torch.device

    def decoder(self, module: Any) -> Decoder:
        module = module.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)
        facts = _facts(module)
        if self.device.type == "cpu" and _can_pack(self.dtype):
            _pack_linears(module)
        return Decoder(module, facts, self.device)


def open_source(path: Path, dtype: str, device: str) -> ModelSource:
    """Settle device and number format. Raises ModelError when the directory isn't a model we load."""
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device: no CUDA device here; use --device cpu")
    return ModelSource(path=path, dtype=_dtype(path, dtype, chosen), device=chosen)


def load_module(path: Path, dtype: torch.dtype) -> Any:
    """A fresh copy of the weights. Raises ModelError; code in the model directory is never run, pickles never read."""
    config = _read_config(path)
    if "auto_map" in config:
        raise ModelError(f"base_model: {path} needs its own code (auto_map in config.json), which Homespun never runs")
    transformers.utils.logging.disable_progress_bar()
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"base_model: {path} can't be loaded ({_first_line(error)})") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"base_model: {path / 'config.json'} can't be read ({error})") from error
    assert isinstance(config, dict)
    return config


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _dtype(path: Path, name: str, device: torch.device) -> torch.dtype:
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16
    num_bytes = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    if num_bytes < 2 * EXACT_BELOW_PARAMETERS:
        return torch.float32
    return _faster_dtype()


def _faster_dtype() -> torch.dtype:
    """The quicker format on this machine, by a linear layer of a decode step and one of a prefill.

    Timed, because what the processor says it has and what runs fast differ: some hide AVX512-BF16 and emulate.
    """
    return min((torch.bfloat16, torch.float32), key=_linear_seconds)


@torch.inference_mode()
def _linear_seconds(dtype: torch.dtype, rounds: int = 5) -> float:
    linear = nn.Linear(2048, 4096, bias=False, dtype=dtype)
    layer = PackedLinear(linear) if _can_pack(dtype) else linear
    total = 0.0
    for num_rows, weight in ((1, 40), (256, 1)):  # a completion: some forty steps and a prefill
        x = torch.randn(num_rows, 2048, dtype=dtype)
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            layer(x)
            times.append(time.perf_counter() - start)
        total += weight * min(times)
    return total


def _facts(module: Any) -> ModelFacts:
    config = module.config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or ())
    return ModelFacts(
        vocab_size=int(module.get_output_embeddings().weight.shape[0]),
        num_layers=int(config.num_hidden_layers),
        max_context=int(getattr(config, "max_position_embeddings", 0) or 1 << 20),
        can_crop=layer_types <= _CROPPABLE_LAYERS and not getattr(module, "_is_stateful", False),
    )


@cache
def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this machine's oneDNN has kernels for the format: asking it says yes where they don't run, so try one."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        PackedLinear(nn.Linear(32, 32, dtype=dtype).requires_grad_(False))(torch.zeros(2, 32, dtype=dtype))
    except RuntimeError:
        return False
    return True


def _pack_linears(module: nn.Module) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))


def new_pool(facts: ModelFacts, num_slots: int) -> SlotPool | None:
    return SlotPool(num_slots, facts.num_layers) if facts.can_crop else None
