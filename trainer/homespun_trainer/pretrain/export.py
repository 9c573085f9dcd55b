"""A run's weights as a Hugging Face directory: bfloat16 safetensors, configuration, tokenizer, what it is (card)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from homespun_core import storage
from homespun_core.errors import ModelError, StorageError
from homespun_trainer.placement import Placement
from homespun_trainer.pretrain.card import render
from homespun_trainer.pretrain.model import model_of, place
from homespun_trainer.pretrain.shards import Shards
from homespun_trainer.pretrain.state import Checkpoint
from homespun_trainer.pretrain.training import Recipe

FACTS, CARD = "pretraining.json", "MODEL_CARD.md"
_CONTROLS = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo_name|>", "<|file_sep|>")
_DATA = (
    "repositories",
    "refused",
    "missing",
    "parts",
    "passes",
    "snippets",
    "held_out_share",
    "tokenizer",
    "seed",
)
_TOLERANCE = 1e-3
"""Of logits read back, against the largest of them."""


def export(checkpoint: Checkpoint, shards: Shards, out: Path, *, name: str) -> Mapping[str, Any]:
    """Write the directory anew and return its facts.

    Raises StorageError where another thing than an earlier export is in the way, ModelError when the weights aren't
    finite or don't read back.
    """
    if out.exists() and not (out / FACTS).is_file():
        raise StorageError(f"{out}: exists and is no export of ours; give another --to")
    model = _rounded(checkpoint)
    transformers_logging.disable_progress_bar()
    tmp = out.with_name(f".tmp-{out.name}-export")
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir(parents=True)
    _write(model, shards, tmp)
    _check(model, tmp)
    facts = _facts(model, checkpoint, shards, tmp, name)
    (tmp / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (tmp / CARD).write_text(render(facts, ()), encoding="utf-8")
    if out.exists():
        storage.remove(out)
    tmp.rename(out)
    return facts


def read_facts(folder: Path) -> Mapping[str, Any] | None:
    """Of an export; None of another model."""
    path = folder / FACTS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def update_card(folder: Path, evaluations: Sequence[Mapping[str, Any]]) -> None:
    """Write the card again, with what was measured meanwhile."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    storage.write_atomic(folder / CARD, render(facts, evaluations))


def _rounded(checkpoint: Checkpoint) -> Any:
    """The run's model in bfloat16."""
    model = model_of(dict(checkpoint.facts["config"]))
    live = dict(model.named_parameters())
    if live.keys() != checkpoint.weights.keys():
        raise ModelError("the run's weights don't fit its size; was the run made by another version?")
    with torch.no_grad():
        for name, weight in checkpoint.weights.items():
            if not torch.isfinite(weight).all():
                raise ModelError(f"the run's weights aren't finite ({name}); lower --muon-rate and train again")
            live[name].copy_(weight)
    return place(model, Placement(torch.device("cpu"), torch.bfloat16)).eval()


def _write(model: Any, shards: Shards, folder: Path) -> None:
    end, pad, context = shards.info["end"], shards.info["pad"], model.config.max_position_embeddings
    model.config.use_cache = True
    model.generation_config = GenerationConfig(bos_token_id=end, eos_token_id=end, pad_token_id=pad)
    model.save_pretrained(folder)
    shutil.copy(shards.path / "tokenizer.json", folder / "tokenizer.json")
    config = {
        "backend": "tokenizers",
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "extra_special_tokens": list(_CONTROLS),
        "model_max_length": context,
        "pad_token": "<|fim_pad|>",
        "tokenizer_class": "TokenizersBackend",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@torch.inference_mode()
def _check(model: Any, folder: Path) -> None:
    """The files, read by transformers, give the logits of the weights in memory."""
    again = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    ).eval()
    model = place(model, Placement(torch.device("cpu"), torch.float32))
    ids = torch.arange(model.config.vocab_size)[None, :256]
    ours, theirs = model(input_ids=ids).logits, again(input_ids=ids).logits
    if not (ours - theirs).abs().max() <= _TOLERANCE * theirs.abs().max().clamp(min=1.0):
        raise ModelError(f"{folder}: reads back with other logits; the disk or transformers is at fault")


def _facts(model: Any, checkpoint: Checkpoint, shards: Shards, folder: Path, name: str) -> dict[str, Any]:
    state, config = checkpoint.state, model.config
    embeddings = model.get_input_embeddings().weight.numel()
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "name": name,
        "architecture": {
            key: getattr(config, key)
            for key in (
                "num_hidden_layers",
                "hidden_size",
                "intermediate_size",
                "num_attention_heads",
                "num_key_value_heads",
                "vocab_size",
                "max_position_embeddings",
                "tie_word_embeddings",
            )
        },
        "parameters": parameters,
        "parameters_without_embeddings": parameters - embeddings,
        "weights_bytes": (folder / "model.safetensors").stat().st_size,
        "weights_sha256": storage.file_digest(folder / "model.safetensors"),
        "data": {key: shards.info.get(key) for key in _DATA},  # rows of before say less
        "rows_fingerprint": shards.manifest.fingerprint,
        "run": dict(checkpoint.facts),
        "training": {
            "steps": state.step,
            "tokens": state.tokens,
            "seconds": round(state.elapsed_s),
            "share_of_budget": min(1.0, Recipe(**checkpoint.facts["recipe"]).fraction(state)),
            "rows": state.rows,
            "loss": [list(point) for point in state.losses],
            "held_out_loss": [list(point) for point in state.held_out],
        },
    }
