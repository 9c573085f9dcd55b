"""The Llama family as a table of differences: what a checkpoint's config.json says about the arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub.errors import StrictDataclassError

from homespun_core.errors import ModelError

_MIN_CONTEXT, _MAX_SIZE = 64, 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Everything about a decoder-only transformer that is not in its weights."""

    vocab_size: int
    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int
    norm: Literal["rms", "layer"]
    norm_eps: float
    activation: Literal["silu", "gelu_tanh"]
    is_gated: bool
    """down(act(gate(x)) * up(x)); otherwise down(act(up(x)))."""
    attention_scale: float
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    """What attention and MLP add is multiplied by it."""
    logit_scale: float = 1.0
    windows: tuple[int, ...] = ()
    """By layer: a token sees itself and the `window - 1` tokens before it; 0 is all. Empty: all, in every layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What the files of an architecture's weights hold, beyond what all have."""

    up: tuple[str, ...]
    """Modules whose rows make up `LayerWeights.up`, in their order."""
    down: str
    has_qkv_bias: bool
    has_out_bias: bool
    has_mlp_bias: bool
    has_norm_bias: bool
    has_head_norms: bool
    norm_offset: float
    """To be added to the stored weights of RMS norms."""
    is_tied: bool


_Flag = bool | str
"""What is so in the whole family, or the key of config.json that says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: str = "rms_norm_eps"
    norm_offset: float = 0.0
    up: tuple[str, ...] = ("gate_proj", "up_proj")
    down: str = "down_proj"
    qkv_bias: _Flag = False
    out_bias: _Flag = False
    mlp_bias: _Flag = False
    has_head_norms: bool = False
    is_embedding_scaled_by_root: bool = False
    windows: Literal["none", "every layer", "by layer"] = "none"
    scales: tuple[tuple[str, str], ...] = ()
    """(field of Architecture, key of config.json); logit_scale is one over it."""
    fixed: tuple[tuple[str, object], ...] = ()
    """(key of config.json, the value that it has or stands for when it is absent)."""


_FAMILIES = {
    "llama": _Family(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias"),
    "mistral": _Family(windows="every layer"),
    "qwen2": _Family(qkv_bias=True, windows="by layer"),
    "qwen3": _Family(qkv_bias="attention_bias", out_bias="attention_bias", has_head_norms=True, windows="by layer"),
    "starcoder2": _Family(
        norm="layer",
        norm_eps="norm_epsilon",
        up=("c_fc",),
        down="c_proj",
        qkv_bias="use_bias",
        out_bias="use_bias",
        mlp_bias="use_bias",
        windows="every layer",
        fixed=(("mlp_type", "default"), ("norm_type", "layer_norm")),
    ),
    "granite": _Family(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        mlp_bias="mlp_bias",
        scales=(
            ("attention_scale", "attention_multiplier"),
            ("embedding_scale", "embedding_multiplier"),
            ("residual_scale", "residual_multiplier"),
            ("logit_scale", "logits_scaling"),
        ),
    ),
    "gemma": _Family(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        norm_offset=1.0,
        is_embedding_scaled_by_root=True,
        # transformers goes by hidden_act, where early files say "gelu" and mean its tanh form, never by the newer key.
        fixed=(("hidden_activation", "gelu_pytorch_tanh"),),
    ),
}
_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_WINDOW_KEYS = {
    "none": frozenset[str](),
    "every layer": frozenset({"sliding_window"}),
    "by layer": frozenset({"sliding_window", "use_sliding_window", "max_window_layers", "layer_types"}),
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READ = _words(
    "model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads"
    " head_dim max_position_embeddings hidden_act tie_word_embeddings rope_parameters rope_theta rope_scaling"
)
_INERT = _words(
    "_name_or_path _attn_implementation_autoset architectures dtype torch_dtype transformers_version use_cache"
    " bos_token_id eos_token_id pad_token_id unk_token_id initializer_range attention_dropout embedding_dropout"
    " residual_dropout resid_pdrop hidden_dropout pretraining_tp return_dict chunk_size_feed_forward id2label"
    " label2id problem_type unsloth_version unsloth_fixed model_name activation_function attention_softmax_in_fp32"
    " layer_norm_epsilon scale_attention_softmax_in_fp32 scale_attn_weights"
)
"""Keys that change no logit: tokens, training, names, and what StarCoder2's first files repeat under old names."""
_FIXED: dict[str, object] = {"is_causal": True}
"""As `_Family.fixed`, for all families: here false would say a lot."""
_NOTHING: tuple[object, ...] = (None, False, "", [], {})
_ROPE_TYPES = frozenset({"default", "linear", "dynamic", "yarn", "llama3"})
"""`dynamic` is constant up to max_context, which we never exceed. Not `longrope`: there the rotation of all tokens
changes once the text is long."""

_ROPE_KEYS = _words(
    "rope_type type rope_theta partial_rotary_factor factor original_max_position_embeddings attention_factor beta_fast"
    " beta_slow mscale mscale_all_dim truncate low_freq_factor high_freq_factor"
)


def architecture_of(config: Mapping[str, Any]) -> Architecture | None:
    """From the content of config.json. None unless every key in it is one whose effect is known here."""
    family = _FAMILIES.get(str(config.get("model_type")))
    if family is None or _unknown_keys(config, family):
        return None
    full = full_config(config)
    if full is None or not _is_plain(full):
        return None
    _check_sizes(full, family)
    try:
        windows = _windows(full, family)
    except ValueError:
        return None
    fields: dict[str, Any] = {
        "attention_scale": _head_dim(full) ** -0.5,
        "embedding_scale": full.hidden_size**0.5 if family.is_embedding_scaled_by_root else 1.0,
    }
    fields |= {field: float(getattr(full, key)) for field, key in family.scales}
    if "logit_scale" in fields:
        fields["logit_scale"] = 1 / fields["logit_scale"]
    return Architecture(
        vocab_size=full.vocab_size,
        hidden=full.hidden_size,
        intermediate=full.intermediate_size,
        num_layers=full.num_hidden_layers,
        num_heads=full.num_attention_heads,
        num_kv_heads=full.num_key_value_heads,
        head_dim=_head_dim(full),
        max_context=full.max_position_embeddings,
        norm=family.norm,
        norm_eps=float(getattr(full, family.norm_eps)),
        activation=_ACTIVATIONS[full.hidden_act],
        is_gated=len(family.up) == 2,
        windows=windows,
        **fields,
    )


def _check_sizes(full: Any, family: Any) -> None:
    """Raises ModelError for sizes that no model has: what is computed with them would fail somewhere, in some way."""
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    sizes = {name: getattr(full, name) for name in (*names, "num_key_value_heads", "max_position_embeddings")}
    sizes["head_dim"] = _head_dim(full) if sizes["num_attention_heads"] else 0
    for name, size in sizes.items():
        least = _MIN_CONTEXT if name == "max_position_embeddings" else 1
        if isinstance(size, bool) or not isinstance(size, int) or not least <= size <= _MAX_SIZE:
            raise ModelError(f"base_model: {name} is {size!r} in config.json; no model has that, download it again")
    if any(not float(getattr(full, key)) for field, key in family.scales if field == "logit_scale"):
        raise ModelError("base_model: the scale of the logits is 0 in config.json; download it again")


def checkpoint_of(config: Mapping[str, Any]) -> Checkpoint:
    """Of a config that `architecture_of` knows."""
    family, full = _FAMILIES[config["model_type"]], full_config(config)

    def is_set(flag: _Flag) -> bool:
        return bool(getattr(full, flag)) if isinstance(flag, str) else flag

    assert full is not None
    return Checkpoint(
        up=family.up,
        down=family.down,
        has_qkv_bias=is_set(family.qkv_bias),
        has_out_bias=is_set(family.out_bias),
        has_mlp_bias=is_set(family.mlp_bias),
        has_norm_bias=family.norm == "layer",
        has_head_norms=family.has_head_norms,
        norm_offset=family.norm_offset,
        is_tied=bool(full.tie_word_embeddings),
    )


def full_config(config: Mapping[str, Any]) -> Any | None:
    """With what transformers fills in where a key is absent: it differs between families, and is part of their
    definition. None when transformers finds that it makes no sense."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        return CONFIG_MAPPING[config["model_type"]].from_dict(copy.deepcopy(dict(config)))
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
        return None


def _unknown_keys(config: Mapping[str, Any], family: _Family) -> set[str]:
    """Those that say something and whose effect isn't known here; null, false and nothing say nothing."""
    flags = {flag for flag in (family.qkv_bias, family.out_bias, family.mlp_bias) if isinstance(flag, str)}
    fixed = _FIXED | dict(family.fixed)
    known = _READ | _INERT | _WINDOW_KEYS[family.windows] | flags | {key for _, key in family.scales} | fixed.keys()
    known |= {family.norm_eps}
    unknown = {key for key, value in config.items() if key not in known and value not in _NOTHING}
    return unknown | {key for key, value in fixed.items() if key in config and config[key] not in (None, value)}


def _is_plain(full: Any) -> bool:
    """Whether its values are among those that our arithmetic covers."""
    rope = full.rope_parameters
    return (
        full.hidden_act in _ACTIVATIONS
        and full.num_attention_heads % full.num_key_value_heads == 0
        and _head_dim(full) % 2 == 0
        and rope.get("rope_type") in _ROPE_TYPES
        and rope.get("partial_rotary_factor") in (None, 1, 1.0)
        and rope.keys() <= _ROPE_KEYS
    )


def _head_dim(full: Any) -> int:
    return int(getattr(full, "head_dim", None) or full.hidden_size // full.num_attention_heads)


def _windows(full: Any, family: _Family) -> tuple[int, ...]:
    """Raises ValueError for layers of a kind that has nothing to do with windows."""
    if family.windows == "none":
        return ()
    window, in_all = full.sliding_window, ["full_attention", "sliding_attention"][full.sliding_window is not None]
    kinds = full.layer_types if family.windows == "by layer" else [in_all] * full.num_hidden_layers
    slides = "sliding_attention" in kinds
    if set(kinds) - {"sliding_attention", "full_attention"} or (slides and (window is None or window < 1)):
        raise ValueError(f"layers of kinds {set(kinds)}, window {window}")
    if not slides or window >= full.max_position_embeddings:
        return ()
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
