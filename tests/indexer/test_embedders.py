"""The `embedder` setting: what is loaded, what is refused and how, and that a vector depends on its text alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file
from tokenizers import models, pre_tokenizers

from homespun_core.errors import ConfigError, HomespunError, ModelError
from homespun_indexer import embedders
from homespun_indexer.embedders import Embedder, load_embedder, read_tensors

WORDS = ["[UNK]", "def", "read", "write", "path", "rows", "(", ")", ":"]
TABLE = np.random.default_rng(0).standard_normal((len(WORDS), 6)).astype(np.float32)
TEXTS = ["def read(path):", "def write(rows):", "path", "unheard of", "def read(path): write(rows) path path"]
PLACE = "sentence_transformers.models."


def tokenizer() -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return inner


def write_modules(folder: Path, modules: Mapping[str, str]) -> None:
    rows = [
        {"idx": i, "name": str(i), "path": path, "type": PLACE + kind} for i, (path, kind) in enumerate(modules.items())
    ]
    (folder / "modules.json").write_text(json.dumps(rows))


def static_model(folder: Path, tensors: Mapping[str, np.ndarray[Any, Any]], place: str = "0_StaticEmbedding") -> Path:
    where = folder / place
    where.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), where / "model.safetensors")
    tokenizer().save(str(where / "tokenizer.json"))
    if place:
        write_modules(folder, {place: "StaticEmbedding", "1_Normalize": "Normalize"})
    return folder


def transformer_model(folder: Path, pooling: Mapping[str, object]) -> Path:
    """A BERT of random weights, as sentence-transformers saves one."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer(), unk_token="[UNK]").save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    write_modules(folder, {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"})
    return folder


MEAN = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def loaded(setting: Path | str) -> Embedder:
    embedder = load_embedder(str(setting))
    assert embedder is not None
    return embedder


def test_none_is_none() -> None:
    assert load_embedder("none") is None


def test_the_built_in_one_puts_a_text_next_to_its_own_words() -> None:
    embedder = loaded("builtin")
    chunks = embedder.embed(["def read_config(path): return json.load(open(path))", "SELECT name FROM customers"])
    query = embedder.embed(["read_config json"])[0]
    assert chunks.shape == (2, embedder.dimensions)
    assert query @ chunks[0] > query @ chunks[1]


@pytest.fixture(params=["builtin", "static", "model2vec", "transformer"])
def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> Embedder:
    if request.param == "static":
        return loaded(static_model(tmp_path, {"embedding.weight": TABLE}))
    if request.param == "model2vec":
        return loaded(static_model(tmp_path, {"embeddings": TABLE}, place=""))
    return loaded(transformer_model(tmp_path, MEAN) if request.param == "transformer" else "builtin")


def test_a_vector_depends_on_its_text_alone(embedder: Embedder) -> None:
    """To the last bit: vectors are cached by text, and made in batches of whatever has changed."""
    together = embedder.embed(TEXTS)
    assert np.array_equal(together, np.concatenate([embedder.embed([text]) for text in TEXTS]))
    assert np.array_equal(together[::-1], embedder.embed(TEXTS[::-1]))


def test_vectors_are_rows_of_unit_length(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS[:3])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, embedder.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_an_empty_text_has_a_vector_of_zeros_or_of_unit_length(embedder: Embedder) -> None:
    length = np.linalg.norm(embedder.embed([""])[0])
    assert length == 0 or length == pytest.approx(1, abs=1e-5)


def test_a_static_vector_is_the_mean_of_its_tokens(tmp_path: Path) -> None:
    embedder = loaded(static_model(tmp_path, {"embedding.weight": TABLE}))
    mean = TABLE[[WORDS.index(w) for w in ("path", "rows", "path")]].mean(axis=0)
    assert np.allclose(embedder.embed(["path rows path"])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_model2vecs_shared_and_weighted_rows_are_followed(tmp_path: Path) -> None:
    mapping = np.arange(len(WORDS)) % 4
    weights = np.linspace(0.1, 2, len(WORDS)).astype(np.float32)
    packed = static_model(
        tmp_path / "packed", {"embeddings": TABLE[:4], "mapping": mapping, "weights": weights}, place=""
    )
    plain = static_model(tmp_path / "plain", {"embeddings": TABLE[mapping] * weights[:, None]}, place="")
    assert np.allclose(loaded(packed).embed(TEXTS), loaded(plain).embed(TEXTS), atol=1e-6)


def test_model2vec_leaves_unknown_words_out(tmp_path: Path) -> None:
    embedder = loaded(static_model(tmp_path, {"embeddings": TABLE}, place=""))
    assert np.array_equal(*embedder.embed(["path", "path unheard"]))


@pytest.mark.parametrize("names", [MEAN, {"pooling_mode": "mean"}], ids=["flags", "name"])
def test_a_transformers_mean_is_over_all_its_tokens(tmp_path: Path, names: Mapping[str, object]) -> None:
    import torch
    import transformers

    embedder = loaded(transformer_model(tmp_path, names))
    ids = torch.tensor([[WORDS.index("def"), WORDS.index("rows")]])
    with torch.inference_mode():
        states = transformers.BertModel.from_pretrained(tmp_path).eval()(ids).last_hidden_state[0]
    mean = states.mean(dim=0).numpy()
    assert embedder.dimensions == 8
    assert np.allclose(embedder.embed(["def rows"])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_transformers_first_token_can_stand_for_the_text(tmp_path: Path) -> None:
    first = loaded(transformer_model(tmp_path / "first", {"pooling_mode_cls_token": True}))
    mean = loaded(transformer_model(tmp_path / "mean", MEAN))
    assert np.allclose(first.embed(["path"]), mean.embed(["path"]), atol=1e-6)
    assert not np.allclose(first.embed(["path rows"]), mean.embed(["path rows"]), atol=1e-3)


def test_texts_longer_than_a_transformer_reads_are_cut(tmp_path: Path) -> None:
    folder = transformer_model(tmp_path, MEAN)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 3, "do_lower_case": True}))
    embedder = loaded(folder)
    assert np.array_equal(*embedder.embed(["def read path rows rows", "DEF read path"]))


def test_digests_tell_models_apart_and_stay_when_nothing_changes(tmp_path: Path) -> None:
    one = static_model(tmp_path / "one", {"embedding.weight": TABLE})
    same = static_model(tmp_path / "same", {"embedding.weight": TABLE})
    other = static_model(tmp_path / "other", {"embedding.weight": TABLE * 2})
    digests = [loaded(setting).digest for setting in (one, same, other, "builtin")]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def remove(name: str) -> Any:
    return lambda folder: next(folder.rglob(name)).unlink()


def write(name: str, text: str) -> Any:
    return lambda folder: (folder / name).write_text(text)


DAMAGES = {
    "no list of modules": (remove("modules.json"), "no modules.json"),
    "a list that is no list": (write("modules.json", "{"), "modules.json can't be read"),
    "a list of something else": (write("modules.json", '[{"a": 1}]'), "lists no modules"),
    "a list of nothing": (write("modules.json", "[]"), "names nothing"),
    "a path that leads outside": (
        write("modules.json", json.dumps([{"path": "../elsewhere", "type": "StaticEmbedding"}])),
        "files outside",
    ),
    "a module we don't know": (
        write("modules.json", json.dumps([{"path": "", "type": "my_code.Thing"}])),
        "begins with a module 'Thing'",
    ),
    "no weights": (remove("model.safetensors"), "can't be read as safetensors"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer.json is not a usable tokenizer"),
    "weights that are no weights": (write("0_StaticEmbedding/model.safetensors", "x" * 50), "can't be read"),
    "a module after it": (
        lambda folder: write_modules(folder, {"0_StaticEmbedding": "StaticEmbedding", "1_Dense": "Dense"}),
        "module 'Dense'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_model_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    folder = static_model(tmp_path, {"embedding.weight": TABLE})
    change(folder)
    with pytest.raises(HomespunError, match=message) as error:
        load_embedder(str(folder))
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_weights_without_token_embeddings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no token embeddings"):
        load_embedder(str(static_model(tmp_path, {"something": TABLE})))


def test_a_setting_that_names_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="'BAAI/bge-small' is no directory; give none, builtin"):
        load_embedder("BAAI/bge-small")


def test_other_poolings_are_refused(tmp_path: Path) -> None:
    folder = transformer_model(tmp_path, {"pooling_mode_max_tokens": True})
    with pytest.raises(ModelError, match="pools by pooling_mode_max_tokens; mean and cls are supported"):
        load_embedder(str(folder))


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    folder = transformer_model(tmp_path, MEAN)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*\.safetensors file"):
        load_embedder(str(folder))


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    folder = transformer_model(tmp_path, MEAN)
    weights = load_file(folder / "model.safetensors")
    (gone,) = [name for name in weights if name.endswith("output.dense.weight") and "attention" not in name]
    save_file({name: w for name, w in weights.items() if name != gone}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=rf"no weights for {gone}"):
        load_embedder(str(folder))


def test_a_transformer_without_its_unused_pooler_is_as_good(tmp_path: Path) -> None:
    folder = transformer_model(tmp_path, MEAN)
    before = loaded(folder).embed(TEXTS)
    weights = load_file(folder / "model.safetensors")
    save_file({name: w for name, w in weights.items() if not name.startswith("pooler.")}, folder / "model.safetensors")
    assert np.array_equal(loaded(folder).embed(TEXTS), before)


def test_a_transformers_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = transformer_model(tmp_path, MEAN)
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match="can't be loaded"):
        load_embedder(str(folder))


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    folder = transformer_model(tmp_path, MEAN)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="can't be loaded"):
        load_embedder(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_missing_package_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = transformer_model(tmp_path, MEAN)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match="needs the package transformers, which isn't installed; pip install"):
        load_embedder(str(folder))


def test_static_embedders_need_no_torch() -> None:
    code = (
        "import sys; from homespun_indexer.embedders import load_embedder; load_embedder('builtin').embed(['x']);"
        " sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "I8"])
def test_tensors_are_read_in_every_number_format(tmp_path: Path, dtype: str) -> None:
    values = np.array([[1, -2], [4, 3]], np.float32)
    raw = {
        "F32": values.tobytes(),
        "F16": values.astype(np.float16).tobytes(),
        "BF16": (values.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
        "I8": values.astype(np.int8).tobytes(),
    }[dtype]
    entry = {"dtype": dtype, "shape": [2, 2], "data_offsets": [0, len(raw)]}
    header = json.dumps({"__metadata__": {}, "table": entry}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw)
    assert np.array_equal(read_tensors(tmp_path / "m.safetensors", ["table", "other"])["table"], values)


def test_a_base_model_without_token_embeddings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"something": TABLE}, tmp_path / "model.safetensors")
    monkeypatch.setattr(embedders, "builtin_path", lambda: tmp_path)
    with pytest.raises(ModelError, match="no token embeddings"):
        load_embedder("builtin")
