"""The adapter on its base model: attached, stepped in fp32, saved in peft's form. The kinds are in `methods.py`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles
from homespun_trainer.placement import Placement
from homespun_trainer.quantising import FULL, NF4, quantised
from homespun_trainer.stacking import UP


def load_base(files: ModelFiles, placement: Placement, base_format: str = FULL) -> Any:
    """The frozen base model. Raises ModelError when its files aren't a causal language model in safetensors."""
    transformers_logging.disable_progress_bar()
    options = quantised(placement) if base_format == NF4 else {}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            files.path,
            dtype=placement.dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,  # else a terminal is asked whether a model's own code may run
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"base_model: {files.path} can't be loaded ({error})") from error
    model.config.use_cache = False
    return model if options else model.to(placement.device)  # quantised weights are made where they stay


def attach(model: Any, config: PeftConfig, *, recomputes: bool = False) -> PeftModel:
    """A new adapter. It starts as no change at all. Raises ModelError when the model is none that it can adapt.

    recomputes: activations are made again in the backward pass: a third slower, a fraction of the memory.
    """
    with warnings.catch_warnings():
        # Names that later versions of transformers 5 deprecate: ours, which all of them know, and one that peft reads.
        warnings.simplefilter("ignore", FutureWarning)
        if recomputes:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
        try:
            # The adapter computes in the model's dtype: in fp32 on a bf16 model every layer converts its input
            # (measured, two cores: 3,000 against 3,890 tokens/s). Fp32 precision is kept where it matters, in Masters.
            return get_peft_model(model, config, autocast_adapter_dtype=False)
        except (ValueError, NotImplementedError) as error:
            raise ModelError(
                f"method: {config.peft_type} doesn't fit a {model.config.model_type} model ({error}); use --method lora"
            ) from error


class Masters:
    """Fp32 copies of the adapter's weights, which the optimiser steps; the model computes with them in its own dtype.

    Gradients of micro-batches are added up here, in fp32 too.
    """

    def __init__(self, model: Any) -> None:
        self._live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.tensors = {name: p.detach().float().clone() for name, p in self._live.items()}

    @property
    def parameters(self) -> list[torch.Tensor]:
        return list(self.tensors.values())

    def collect(self) -> None:
        """Move the model's gradients here, adding."""
        for name, live in self._live.items():
            if live.grad is None:
                continue
            master, gradient = self.tensors[name], live.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            live.grad = None

    def forget_gradients(self) -> None:
        for name, live in self._live.items():
            live.grad = self.tensors[name].grad = None

    def publish(self) -> None:
        """Give the model the current weights."""
        with torch.no_grad():
            for name, live in self._live.items():
                live.copy_(self.tensors[name])

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, master in self.tensors.items():
                master.copy_(tensors[name])
        self.publish()

    def flat(self) -> torch.Tensor:
        """A copy of all weights in one vector."""
        return torch.cat([t.flatten() for t in self.tensors.values()])

    def set_flat(self, vector: torch.Tensor) -> None:
        self.restore(self._unflattened(vector))

    def flat_gradient(self) -> torch.Tensor:
        return torch.cat([(torch.zeros_like(t) if t.grad is None else t.grad).flatten() for t in self.parameters])

    def set_gradient(self, vector: torch.Tensor) -> None:
        for name, gradient in self._unflattened(vector).items():
            self.tensors[name].grad = gradient

    def _unflattened(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = vector.split([t.numel() for t in self.parameters])
        return {name: part.view_as(t) for (name, t), part in zip(self.tensors.items(), parts, strict=True)}

    def copy(self) -> dict[str, torch.Tensor]:
        return {name: t.detach().cpu().clone() for name, t in self.tensors.items()}


def save_adapter(
    model: PeftModel, tensors: dict[str, torch.Tensor], base_name: str, folder: Path, strength: float = 1.0
) -> None:
    """peft's two files, from the fp32 weights. The base model goes by name: a path of this machine means nothing
    elsewhere. `strength`: of LoRA's change to the model, the share that is saved."""
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, state_dict=dict(tensors), save_embedding_layers=False)
    kept = {name: t * strength if name.endswith(UP) else t for name, t in state.items()}
    save_file({name: t.contiguous() for name, t in kept.items()}, folder / "adapter_model.safetensors")
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_name
    config.inference_mode = True
    config.save_pretrained(str(folder))
    config.inference_mode = False


@contextmanager
def logits_at(model: Any, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the model computes logits for `positions` only (a boolean mask, batch x time), as 1 x n x vocabulary.

    With a vocabulary of 16,384 on a model of width 384 the head is a third of all work, for positions that carry no
    loss (measured, two cores: 1,850 against 3,870 tokens/s). A hook in front of the head, and not the head called from
    here: what a family does behind it (scaling, soft caps) still happens.
    """

    def select(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][positions].unsqueeze(0), *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
