from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homespun_core.types import ModelFiles
from homespun_server.engine.decoders.families import Architecture, architecture_of, checkpoint_of
from tests.server.engine.decoders.tiny import KNOWN

# As published, without what has nothing to do with arithmetic in any of them.
QWEN25_CODER = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "initializer_range": 0.02,
    "intermediate_size": 8960,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1",
    "use_cache": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
DEEPSEEK_CODER = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 5504,
    "max_position_embeddings": 16384,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"factor": 4.0, "type": "linear"},
    "rope_theta": 100000,
    "tie_word_embeddings": False,
    "vocab_size": 32256,
}
CODESTRAL = {
    "model_type": "mistral",
    "hidden_act": "silu",
    "hidden_size": 6144,
    "intermediate_size": 16384,
    "max_position_embeddings": 32768,
    "num_attention_heads": 48,
    "num_hidden_layers": 56,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32768,
}
STARCODER2 = {
    "activation_function": "gelu",
    "attention_softmax_in_fp32": True,
    "embedding_dropout": 0.1,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 3072,
    "intermediate_size": 12288,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": 16384,
    "mlp_type": "default",
    "model_type": "starcoder2",
    "norm_epsilon": 1e-05,
    "norm_type": "layer_norm",
    "num_attention_heads": 24,
    "num_hidden_layers": 30,
    "num_key_value_heads": 2,
    "residual_dropout": 0.1,
    "rope_theta": 999999.4420358813,
    "scale_attention_softmax_in_fp32": True,
    "scale_attn_weights": True,
    "sliding_window": 4096,
    "use_bias": True,
    "vocab_size": 49152,
}
CODEGEMMA = {
    "attention_bias": False,
    "head_dim": 256,
    "hidden_act": "gelu",
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "max_position_embeddings": 8192,
    "model_type": "gemma",
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "vocab_size": 256000,
}
GRANITE = {
    "attention_bias": False,
    "attention_multiplier": 0.015625,
    "embedding_multiplier": 12.0,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "logits_scaling": 8.0,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "granite",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000000.0,
    "tie_word_embeddings": True,
    "vocab_size": 49155,
}
Config = dict[str, Any]


def _known(config: Config) -> Architecture:
    found = architecture_of(config)
    assert found is not None
    return found


def test_the_built_in_model_is_known(builtin: ModelFiles) -> None:
    config = json.loads((Path(builtin.path) / "config.json").read_text(encoding="utf-8"))
    assert _known(config) == Architecture(
        vocab_size=16384,
        hidden=384,
        intermediate=1024,
        num_layers=8,
        num_heads=6,
        num_kv_heads=2,
        head_dim=64,
        max_context=2048,
        norm="rms",
        norm_eps=1e-5,
        activation="silu",
        is_gated=True,
        attention_scale=0.125,
    )


def test_what_a_published_configuration_leaves_out_is_what_its_family_means() -> None:
    qwen = _known(QWEN25_CODER)
    assert (qwen.head_dim, qwen.attention_scale, qwen.windows) == (128, 128**-0.5, ())
    assert checkpoint_of(QWEN25_CODER).has_qkv_bias and not checkpoint_of(QWEN25_CODER).has_out_bias
    assert _known(DEEPSEEK_CODER).num_kv_heads == 16
    codestral = _known(CODESTRAL)
    assert (codestral.head_dim, codestral.windows) == (128, ())
    starcoder = _known(STARCODER2)
    assert (starcoder.norm, starcoder.activation, starcoder.is_gated) == ("layer", "gelu_tanh", False)
    assert starcoder.windows == (4096,) * 30
    assert checkpoint_of(STARCODER2).is_tied and checkpoint_of(STARCODER2).has_mlp_bias
    gemma = _known(CODEGEMMA)
    assert (gemma.activation, gemma.head_dim, gemma.embedding_scale) == ("gelu_tanh", 256, 2048**0.5)
    assert checkpoint_of(CODEGEMMA).norm_offset == 1.0 and checkpoint_of(CODEGEMMA).is_tied
    granite = _known(GRANITE)
    assert (granite.attention_scale, granite.embedding_scale) == (0.015625, 12.0)
    assert (granite.residual_scale, granite.logit_scale) == (0.22, 0.125)


@pytest.mark.parametrize("name", KNOWN)
def test_a_configuration_is_read_as_transformers_writes_it(name: str, tmp_path: Path) -> None:
    KNOWN[name]().config.save_pretrained(tmp_path)
    _known(json.loads((tmp_path / "config.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 26}, (0,) * 26 + (4096,) * 2),
        ({"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 28}, ()),
        ({"use_sliding_window": True, "sliding_window": 32768, "max_window_layers": 0}, ()),
        ({"sliding_window": 4096, "max_window_layers": 0}, ()),
    ],
)
def test_windows_are_those_of_the_layers_that_slide(changes: Config, windows: tuple[int, ...]) -> None:
    assert _known(QWEN25_CODER | changes).windows == windows


@pytest.mark.parametrize("base", [DEEPSEEK_CODER, QWEN25_CODER, CODESTRAL, CODEGEMMA, GRANITE])
@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "gemma2"},
        {"model_type": "mixtral"},
        {"model_type": None},
        {"hidden_act": "relu2"},
        {"hidden_act": "gelu_fast"},
        {"quantization_config": {"quant_method": "gptq"}},
        {"num_local_experts": 8},
        {"attn_logit_softcapping": 50.0},
        {"final_logit_softcapping": 30.0},
        {"is_causal": False},
        {"use_bidirectional_attention": True},
        {"partial_rotary_factor": 0.5},
        {"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}},
        {"rope_scaling": {"type": "llama3"}},
        {"rope_scaling": {"type": "yarn", "factor": 2.0, "mrope_section": [1, 1]}},
        {"rope_scaling": {"type": "somebody's own", "factor": 2.0}},
        {"num_key_value_heads": 5},
        {"hidden_size": "many"},
        {"hidden_size": None},
        {"a_key_of_the_future": 1},
    ],
)
def test_what_is_not_surely_known_is_left_to_transformers(base: Config, changes: Config) -> None:
    assert architecture_of(base | changes) is None


@pytest.mark.parametrize(
    "config",
    [
        {},
        STARCODER2 | {"mlp_type": "gated"},
        QWEN25_CODER | {"layer_types": ["linear_attention"] * 28},
        QWEN25_CODER | {"layer_types": ["sliding_attention"] * 28},
        CODESTRAL | {"layer_types": ["sliding_attention"] * 56},
        CODESTRAL | {"sliding_window": 0},
        DEEPSEEK_CODER | {"sliding_window": 4096},
        QWEN25_CODER | {"head_dim": 63},
    ],
)
def test_variants_of_known_families_are_left_to_transformers(config: Config) -> None:
    assert architecture_of(config) is None
