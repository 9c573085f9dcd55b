"""A base model that is trained and judged in seconds: a Llama of one layer with the built-in model's tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from homespun_indexer.model_files import resolve_base_model

_SIZE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
}


def make_base(folder: Path) -> Path:
    builtin = Path(resolve_base_model("builtin", "auto").path)
    torch.manual_seed(0)
    config = json.loads((builtin / "config.json").read_text())
    LlamaForCausalLM(LlamaConfig(**(config | _SIZE))).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(builtin / name, folder / name)
    return folder


def write_adapter(base: Path, folder: Path) -> None:
    """A new one, which changes nothing yet, as peft saves it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).save_pretrained(str(folder))
