"""The `embedder` setting as an object that turns texts into unit vectors.

`none`, `builtin`, or a directory in the format of sentence-transformers or model2vec. Two kinds are known: static ones,
which average a vector per token and need nothing but numpy, and transformers, which need the package of that name.
Files are data: safetensors and JSON, no code of a model is run, nothing is downloaded.

A vector depends on its text and the embedder's digest alone, not on the texts beside it, so vectors can be cached.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers
from numpy.typing import NDArray
from safetensors import SafetensorError

from homespun_core.errors import ConfigError, ModelError
from homespun_indexer.cache import BlobCache
from homespun_indexer.dense import Vectors
from homespun_indexer.model_files import builtin_path

NONE, BUILTIN = "none", "builtin"
_TABLES = ("embedding.weight", "embeddings")
"""Token embeddings as sentence-transformers and model2vec name them."""
_BASE_MODEL_TABLES = ("model.embed_tokens.weight", "transformer.wte.weight")
_NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I8": "i1"}
_HEADER_LIMIT = 100_000_000
"""safetensors' own limit."""
_SIF = 1e-3
"""How rare a token must be to weigh half (Arora et al. 2017)."""
_CACHED_TOGETHER = 500
_MAX_TOKENS = 512
"""Of a text given to a transformer; no chunk has many more."""


class Embedder(Protocol):
    """Texts to unit vectors; the vector of a text that has no known token is zero."""

    @property
    def digest(self) -> str:
        """What the vectors depend on: vectors of different digests don't compare."""
        ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row a text."""
        ...


def load_embedder(setting: str) -> Embedder | None:
    """The embedder that the setting names; None for `none`.

    Raises ConfigError when it names nothing, ModelError when the directory can't be used.
    """
    if setting == NONE:
        return None
    if setting == BUILTIN:
        return _builtin(builtin_path())
    folder = Path(setting).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"embedder: {setting!r} is no directory; give none, builtin, or a model's directory")
    written = max((path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()), default=0)
    return _loaded(folder, written)


def absolute(setting: str) -> str:
    """The setting as every process understands it, whatever its working directory."""
    return setting if setting in (NONE, BUILTIN) else str(Path(setting).expanduser().resolve())


@lru_cache(maxsize=2)
def _loaded(folder: Path, written: int) -> Embedder:
    """Once for each state of the directory: an index is read again at every save."""
    return _from_folder(folder)


def embedded(embedder: Embedder, cache: BlobCache, texts: Sequence[str], digests: Sequence[int]) -> Vectors:
    """The vectors of chunks, each embedded once for all files, branches and repositories that hold it."""
    keys = [f"{embedder.digest} {digest:016x}" for digest in digests]
    known: dict[str, bytes] = {}
    for start in range(0, len(keys), _CACHED_TOGETHER):
        known |= cache.get(keys[start : start + _CACHED_TOGETHER])
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    made = embedder.embed(list(new.values()))
    fresh = {key: vector.astype("<f4").tobytes() for key, vector in zip(new, made, strict=True)}
    cache.put(fresh)
    found = known | fresh
    vectors = np.frombuffer(b"".join(found[key] for key in keys), "<f4")
    return vectors.reshape(len(keys), embedder.dimensions)


class StaticEmbedder:
    """A weighted mean over the tokens of a text, from a table of one vector a token."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, table: Vectors, digest: str) -> None:
        """`table`: [tokens, dimensions], weights multiplied in. Ids beyond its end are passed over."""
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._table = table
        self._digest = digest

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def dimensions(self) -> int:
        return int(self._table.shape[1])

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        for row, encoding in enumerate(encodings):
            vectors[row] = self._vector(np.asarray(encoding.ids, np.int64))
        return vectors

    def _vector(self, ids: NDArray[np.int64]) -> Vectors:
        """Each kind of token once, in the order of ids: fewer rows, and the same sum wherever it is made."""
        kinds, counts = np.unique(ids[ids < len(self._table)], return_counts=True)
        return _unit(counts.astype(np.float32) @ self._table[kinds])


class TransformerEmbedder:
    """A transformer's last hidden states, their mean or the first of them."""

    def __init__(self, tokenizer: Any, model: Any, pooling: _Pooling, digest: str) -> None:
        self._torch = _imported("torch")
        self._tokenizer = tokenizer
        self._model = model.eval()
        self._pooling = pooling
        self._digest = digest

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def dimensions(self) -> int:
        return int(self._model.config.hidden_size)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Each text by itself: in a batch, padding and other kernels would change a vector's last bits, and on a CPU
        texts as long as chunks gain nothing from company.
        """
        rows = [self._vector(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimensions), np.float32)

    def _vector(self, text: str) -> Vectors:
        inputs = self._tokenizer(
            text.lower() if self._pooling.lower else text,
            return_tensors="pt",
            truncation=True,
            max_length=self._pooling.max_tokens,
        )
        if not inputs["input_ids"].numel():
            return np.zeros(self.dimensions, np.float32)
        with self._torch.inference_mode():
            states = self._model(**inputs).last_hidden_state[0]
        return _unit((states[0] if self._pooling.first_token else states.mean(dim=0)).numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pooling:
    first_token: bool
    max_tokens: int
    lower: bool


@cache
def _builtin(folder: Path) -> StaticEmbedder:
    """The base model's token embeddings, rare tokens weighing more.

    Ids of a byte-pair vocabulary are in the order of its merges, so nearly of frequency: `1 / (1 + id)` stands for how
    often a token is seen (Zipf), which needs no corpus and so gives one text the same vector in every index.
    """
    file = folder / "model.safetensors"
    table = next(iter(read_tensors(file, _BASE_MODEL_TABLES).values()), None)
    if table is None:
        raise _unusable(folder, "has no token embeddings; the built-in model's files are damaged, install it again")
    rows = table.astype(np.float32)
    share = 1 / (np.arange(1, len(rows) + 1) * np.log(len(rows)))
    weights = (_SIF / (_SIF + share)).astype(np.float32)
    tokenizer = _tokenizer(folder / "tokenizer.json")
    return StaticEmbedder(tokenizer, (rows - rows.mean(axis=0)) * weights[:, None], f"builtin-1-{_digest(folder)}")


def _unit(vector: Vectors) -> Vectors:
    length = max(float(np.linalg.norm(vector)), 1e-9)
    unit: Vectors = (vector / length).astype(np.float32)
    return unit


def _from_folder(folder: Path) -> Embedder:
    modules = _modules(folder)
    first, where = modules[0]
    if first == "StaticEmbedding":
        _refuse_others(folder, modules[1:], {"Normalize"})
        return _static(folder, where)
    if first == "Transformer":
        _refuse_others(folder, modules[1:], {"Pooling", "Normalize"})
        return _transformer(folder, where, modules)
    raise _unusable(folder, f"begins with a module {first!r}; StaticEmbedding and Transformer are supported")


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """(type, its folder) in order. model2vec's own format has no list and is one static module."""
    listed = folder / "modules.json"
    if not listed.is_file():
        if (folder / "model.safetensors").is_file() and not _has_hidden_layers(folder):
            return [("StaticEmbedding", folder)]
        raise _unusable(folder, "has no modules.json; save the model with sentence-transformers or model2vec")
    rows = _read_json(listed)
    try:
        modules = [(str(row["type"]).rpartition(".")[2], (folder / row["path"]).resolve()) for row in rows]
    except (KeyError, TypeError) as error:
        raise _unusable(folder, "has a modules.json that lists no modules; download the model again") from error
    if not modules or not all(path.is_relative_to(folder) for _, path in modules):
        raise _unusable(folder, "has a modules.json that names nothing, or files outside; choose another model")
    return modules


def _has_hidden_layers(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and "hidden_size" in _read_json(config)


def _refuse_others(folder: Path, modules: Sequence[tuple[str, Path]], supported: set[str]) -> None:
    for name, _ in modules:
        if name not in supported:
            raise _unusable(folder, f"has a module {name!r}, which isn't supported; choose another model")


def _static(folder: Path, where: Path) -> StaticEmbedder:
    file = where / "model.safetensors"
    table, tokenizer = _token_table(folder, file), _tokenizer(where / "tokenizer.json")
    unknown = _unknown_token(tokenizer)
    if unknown is not None and unknown < len(table) and read_tensors(file, _TABLES[1:]):
        table[unknown] = 0  # model2vec leaves unknown tokens out of the mean
    return StaticEmbedder(tokenizer, table, f"static-{_digest(folder)}")


def _tokenizer(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower for a file it can't use
        raise ModelError(f"embedder: {path} is not a usable tokenizer ({error}); download the model again") from error


def _unknown_token(tokenizer: tokenizers.Tokenizer) -> int | None:
    token = getattr(tokenizer.model, "unk_token", None)
    return tokenizer.token_to_id(token) if isinstance(token, str) else None


def _token_table(folder: Path, file: Path) -> Vectors:
    """One vector a token. model2vec may keep one for several tokens (`mapping`), and `weights` apart."""
    tensors = read_tensors(file, (*_TABLES, "mapping", "weights"))
    table = next((tensors[name] for name in _TABLES if name in tensors), None)
    if table is None or table.ndim != 2:
        raise _unusable(folder, f"has no token embeddings in {file.name}; choose a static model")
    rows = table.astype(np.float32)
    try:
        rows = rows[tensors["mapping"].astype(np.int64)] if "mapping" in tensors else rows
        return rows * tensors["weights"].astype(np.float32)[:, None] if "weights" in tensors else rows
    except (IndexError, ValueError) as error:
        raise _unusable(folder, f"has tensors in {file.name} that don't fit together; download it again") from error


def _transformer(folder: Path, where: Path, modules: Sequence[tuple[str, Path]]) -> TransformerEmbedder:
    if not list(where.glob("*.safetensors")):
        raise _unusable(folder, "has no *.safetensors file; convert the model to safetensors or choose another")
    try:
        tokenizer, model, missing = _pretrained(where)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise _unusable(folder, f"can't be loaded ({type(error).__name__}: {reason}); choose another model") from error
    if missing:
        raise _unusable(folder, f"has no weights for {missing[0]}; download the model again")
    pooling = _pooling(folder, where, modules, model.config)
    return TransformerEmbedder(tokenizer, model, pooling, f"transformer-{_digest(folder)}")


def _pretrained(where: Path) -> tuple[Any, Any, list[str]]:
    """Tokenizer, model, and the weights that the files lack: transformers would make those up, by chance.

    The pooler is a layer that nothing here uses, and many models are saved without it.
    """
    torch, transformers = _imported("torch"), _imported("transformers")
    transformers.utils.logging.disable_progress_bar()
    options = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(where), **options)
    model, info = transformers.AutoModel.from_pretrained(
        str(where), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
    )
    return tokenizer, model, sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))


def _pooling(folder: Path, where: Path, modules: Sequence[tuple[str, Path]], config: Any) -> _Pooling:
    path = next((path for name, path in modules if name == "Pooling"), None)
    if path is None:
        raise _unusable(folder, "has no Pooling module; choose a model of whole texts")
    options = _read_json(where / "sentence_bert_config.json") if (where / "sentence_bert_config.json").is_file() else {}
    limits = [_MAX_TOKENS, options.get("max_seq_length"), getattr(config, "max_position_embeddings", None)]
    return _Pooling(
        first_token=_pooling_mode(folder, _read_json(path / "config.json")) == "cls",
        max_tokens=min(limit for limit in limits if isinstance(limit, int) and limit > 0),
        lower=bool(options.get("do_lower_case")),
    )


def _pooling_mode(folder: Path, config: Mapping[str, Any]) -> str:
    """`mean` or `cls`, from `pooling_mode` or from the older flags, one a mode."""
    named = config.get("pooling_mode")
    flags = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    modes = [named] if named else [flags.get(k, k) for k, v in config.items() if k.startswith("pooling_mode_") and v]
    if modes not in (["mean"], ["cls"]):
        raise _unusable(folder, f"pools by {' and '.join(map(str, modes)) or 'nothing'}; mean and cls are supported")
    return str(modes[0])


def _imported(package: str) -> Any:
    """torch and transformers, by name: an import statement would make every user of the indexer's types load them,
    and import-linter refuses one here. They are used by this one kind of embedder, which nobody gets unasked.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ModelError(
            f"embedder: a transformer needs the package {package}, which isn't installed; pip install {package},"
            " or choose a static embedder"
        ) from error


def _unusable(folder: Path, what: str) -> ModelError:
    return ModelError(f"embedder: {folder} {what}")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"embedder: {path} can't be read ({type(error).__name__}); download the model again"
        ) from error


def _digest(folder: Path) -> str:
    """Over every byte of every JSON and safetensors file, by its path."""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.suffix in {".json", ".safetensors"} and p.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def read_tensors(file: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Those of the named tensors that a safetensors file has. Raises ModelError when it is damaged or missing.

    By hand: safetensors' numpy side doesn't know bfloat16, which is a float32 without its lower half.
    """
    try:
        with file.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 0 < size <= min(_HEADER_LIMIT, file.stat().st_size):
                raise ValueError("its header has no sensible length")
            header = json.loads(handle.read(size))
            return {name: _tensor(handle, 8 + size, header[name]) for name in names if name in header}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: can't be read as safetensors ({error}); download the model again") from error


def _tensor(handle: Any, origin: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    start, end = entry["data_offsets"]
    handle.seek(origin + start)
    flat = np.frombuffer(handle.read(end - start), dtype=_NUMPY_TYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(entry["shape"])
