"""QLoRA: a base model of 4 bits a weight (NF4, scales quantised too), for training where the whole one doesn't fit.

What is served and judged is the adapter on the whole model, in the engine's own format; so the gate sees what it costs
that the adapter was trained on another one.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from transformers import BitsAndBytesConfig

from homespun_core.errors import ModelError
from homespun_trainer.placement import Placement

FULL, NF4 = "full", "nf4"
METHODS = ("lora", "rslora", "dora")


def check_possible(base_format: str, method: str, on_top_of: object) -> None:
    """Raises ModelError, with the remedy."""
    if base_format != NF4:
        return
    if method not in METHODS:
        raise ModelError(f"base_format: nf4 goes with {', '.join(METHODS)}, not with {method}")
    if on_top_of:
        raise ModelError("base_format: nothing can be merged into 4 bits, so nf4 doesn't go with an adapter below")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("base_format: nf4 needs bitsandbytes: pip install 'homespun[qlora]'; or leave it at full")


def quantised(placement: Placement) -> dict[str, Any]:
    """Options of `from_pretrained`."""
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=NF4,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=placement.dtype,
    )
    return {"quantization_config": how, "device_map": {"": placement.device}}
