"""Kinds of adapters by name: peft's configuration of each, and the learning rate it needs.

The engine merges all but the adaption prompt into the weights (`server/homespun_server/engine/decoders/changes.py`).
"""

from __future__ import annotations

from typing import Any

from peft import AdaptionPromptConfig, IA3Config, LoraConfig, PeftConfig

from homespun_trainer.sizing import SMALL_MODEL

_RSLORA_ALPHA = 8
"""With it rsLoRA at rank 16 is scaled as plain LoRA is at any rank, by 2, so that one learning rate fits both."""
_DOWN_PROJECTIONS = {"down_proj", "c_proj"}
_IA3_RATE, _PROMPT_RATE = 3e-3, 9e-3
"""Those of the papers (T-Few, 2205.05638; LLaMA-Adapter, 2303.16199)."""


def peft_config(method: str, rank: int, model: Any, dropout: float = 0.0) -> PeftConfig:
    """`method` is one of the setting's choices; only kinds of LoRA have a `rank` and `dropout`."""
    if method == "ia3":
        return _ia3_config(model)
    if method == "adaption-prompt":
        return AdaptionPromptConfig(
            adapter_len=10, adapter_layers=model.config.num_hidden_layers, task_type="CAUSAL_LM"
        )
    return LoraConfig(
        r=rank,
        lora_alpha=_RSLORA_ALPHA if method == "rslora" else 2 * rank,
        lora_dropout=dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        use_rslora=method == "rslora",
        use_dora=method == "dora",
    )


def _ia3_config(model: Any) -> IA3Config:
    """Keys, values and what goes into the last matrix of a layer, as in the paper. Where a model has other names,
    peft's table knows them, or says that it doesn't."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    down = sorted(names & _DOWN_PROJECTIONS)
    if not down or not names >= {"k_proj", "v_proj"}:
        return IA3Config(task_type="CAUSAL_LM")
    return IA3Config(target_modules=["k_proj", "v_proj", *down], feedforward_modules=down, task_type="CAUSAL_LM")


def default_learning_rate(method: str, num_parameters: int) -> float:
    """The usual 2e-4 for LoRA; small models take, and need, more. The built-in one, bits per byte against the base
    after 0.3M tokens: -0.095 with 1e-3, -0.106 with 3e-3, but then it copies from its prompt less surely: edit
    similarity -0.010 and -0.014 (benchmarks/LOG.md)."""
    if method == "ia3":
        return _IA3_RATE
    if method == "adaption-prompt":
        return _PROMPT_RATE
    return 2e-3 if num_parameters < SMALL_MODEL else 2e-4
