"""Our checkpoint as a GGUF file, for llama.cpp and whatever reads its files.

    python benchmarks/latency_gguf.py MODEL OUT.gguf [--kind q8_0]

Only Llama: the built-in model and others of that architecture. Prompts are asked as token ids, so the file holds a
vocabulary but no pre-tokeniser that would give the same ids. Control tokens get other names: llama.cpp ends a text at
tokens whose names it knows, and a comparison needs the same ends everywhere. With --named they keep theirs, and texts
are split as Qwen's tokeniser and that of the built-in model do: so its server can be asked for infills.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import gguf
import numpy as np
from safetensors.torch import load_file

Kind = Literal["f32", "f16", "bf16", "q8_0"]
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


def export_gguf(model: Path, out: Path, kind: Kind, end_ids: Sequence[int], *, is_named: bool = False) -> Path:
    """`end_ids` end a text; one that the model never writes is needed where nothing should."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "llama":
        raise SystemExit(f"{model}: only Llama models can be made GGUF files here, not {config['model_type']}")
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(out, "llama")
    _write_config(writer, config, kind)
    _write_vocabulary(writer, model, config["vocab_size"], end_ids, is_named=is_named)
    for name, tensor in _tensors(model, config):
        matrix = tensor.ndim == 2
        type_ = _TYPES[kind] if matrix else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(tensor, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def _write_config(writer: gguf.GGUFWriter, config: Mapping[str, Any], kind: Kind) -> None:
    head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10_000.0), "rope_type": "default"}
    if rope.get("rope_type", "default") != "default":
        raise SystemExit(f"rotary positions of type {rope['rope_type']} can't be exported")
    writer.add_name("homespun")
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def _write_vocabulary(
    writer: gguf.GGUFWriter, model: Path, size: int, end_ids: Sequence[int], *, is_named: bool
) -> None:
    """llama.cpp knows one end of a text, of a turn and of a message each, so three ids at most."""
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    names = {i: name for name, i in tokenizer["model"]["vocab"].items()}
    control = {t["id"]: t["content"] if is_named else f"[control {t['id']}]" for t in tokenizer["added_tokens"]}
    tokens = [control.get(i) or names.get(i, f"[unused {i}]") for i in range(size)]
    types = [gguf.TokenType.CONTROL if i in control else gguf.TokenType.NORMAL for i in range(size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if is_named else "default")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in tokenizer["model"]["merges"]])
    writer.add_add_bos_token(False)
    for add, end in zip(
        (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id), end_ids, strict=False
    ):
        add(end)
    if len(end_ids) > 3:
        raise SystemExit(f"{len(end_ids)} tokens end a completion of this model; llama.cpp can be told three")


def _tensors(model: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for file in sorted(model.glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            stem, _, part = name.rpartition(".")
            values = np.ascontiguousarray(tensor.float().numpy())
            if stem in _OUTER:
                if stem != "lm_head" or not config["tie_word_embeddings"]:
                    yield f"{_OUTER[stem]}.{part}", values
                continue
            _, _, layer, inner = stem.split(".", 3)
            ours = _NAMES[inner]
            yield f"blk.{layer}.{ours}.{part}", _interleaved(values, heads[ours]) if ours in heads else values


def _interleaved(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """llama.cpp rotates neighbouring rows of a head, transformers the first half against the second."""
    rows = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(rows.swapaxes(1, 2).reshape(values.shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="directory with config.json, tokenizer.json and safetensors")
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=get_args(Kind), default="q8_0")
    parser.add_argument("--end", type=int, action="append", default=[], help="id of a token that ends a text")
    parser.add_argument("--named", action="store_true", help="keep the names of control tokens")
    args = parser.parse_args()
    export_gguf(args.model, args.out, args.kind, args.end or [0], is_named=args.named)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
