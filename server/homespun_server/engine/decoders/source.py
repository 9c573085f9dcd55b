"""Where a model's weights come from and how they run: the base model and every adapter are made here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from homespun_core.errors import ModelError
from homespun_server.engine.decoders.adapters import MISFITS, merged_by_peft, misfit, read_adapter
from homespun_server.engine.decoders.checkpoint import read_config
from homespun_server.engine.decoders.families import Architecture, architecture_of
from homespun_server.engine.decoders.formats import Format, choose_format
from homespun_server.engine.decoders.native_decoder import NativeDecoder
from homespun_server.engine.decoders.protocol import Decoder, Segment
from homespun_server.engine.decoders.torch_decoder import TorchDecoder
from homespun_server.engine.decoders.weights import has_known_weights, load_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model directory, and the device and number format for every copy of it."""

    path: Path
    format: Format
    device: torch.device
    architecture: Architecture | None
    """None: only transformers knows the model."""

    def decoder(self, adapter: Path | None = None) -> Decoder:
        """A copy of the weights with `adapter` merged in. Raises ModelError: the model or the adapter isn't
        what it should be, or computes no numbers (a diverged training run, a damaged file)."""
        decoder = self._loaded(adapter)
        if not _computes_numbers(decoder):
            raise ModelError(
                f"{adapter or self.path}: the model computes no finite numbers; train or download it again"
            )
        return decoder

    def _loaded(self, adapter: Path | None) -> Decoder:
        if self.architecture is None:
            return self._loaded_by_transformers(adapter)
        if self.format.library is not None:
            weights = load_weights(self.path, self.architecture, adapter, torch.float32)
            return NativeDecoder(weights, self.format.library)
        weights = load_weights(self.path, self.architecture, adapter, self.format.dtype)
        return TorchDecoder(weights, self.device, self.format.dtype)

    def _loaded_by_transformers(self, adapter: Path | None) -> Decoder:
        from homespun_server.engine.decoders.hf_decoder import HfDecoder, facts_of

        module = _load_module(self.path, self.format.dtype)
        if adapter is not None:
            read = read_adapter(adapter)
            try:
                module = merged_by_peft(module, read)
            except MISFITS as error:
                raise misfit(adapter, error) from error
        module = module.to(device=self.device, dtype=self.format.dtype).eval().requires_grad_(False)
        return HfDecoder(module, facts_of(module), self.device)


def open_source(path: Path, dtype: str, device: str, num_threads: int = 0) -> ModelSource:
    """Settle device, number format and who computes. Raises ModelError when the directory isn't a model we load."""
    if num_threads:
        torch.set_num_threads(num_threads)
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device: no CUDA device here; use --device cpu")
    config = read_config(path)
    if "auto_map" in config:
        raise ModelError(f"base_model: {path} needs its own code (auto_map in config.json), which Homespun never runs")
    architecture = architecture_of(config)
    if architecture is not None and not has_known_weights(path, architecture):
        architecture = None
    num_parameters = sum(file.stat().st_size for file in path.glob("*.safetensors")) // 2
    format = choose_format(dtype, architecture, chosen, num_threads=num_threads, num_parameters=num_parameters)
    return ModelSource(path=path, format=format, device=chosen, architecture=architecture)


def _computes_numbers(decoder: Decoder) -> bool:
    ids = [0, min(1, decoder.facts.vocab_size - 1)]
    [logits] = decoder.forward([Segment(kv=decoder.new_kv(), ids=ids)])
    return bool(logits.isfinite().all())


def _load_module(path: Path, dtype: torch.dtype) -> Any:
    """A fresh copy of the weights. Raises ModelError; code in the model directory is never run, pickles never read."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, StrictDataclassError) as error:
        raise ModelError(f"base_model: {path} can't be loaded ({_first_line(error)})") from error
    module, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:  # transformers has filled them with random numbers
        raise ModelError(f"base_model: {path} has no weights {missing[0]}; download it again")
    return module


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
