"""Real models: the built-in one, and tiny random ones of several families made on the spot."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from sqlalchemy import Engine
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
    logging,
)

from homespun_core.config import Settings
from homespun_core.fim import FimFormat, resolve_family
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles, SilentProgress, Tokenizer
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.database.opening import open_database
from homespun_server.engine.budget import StepCosts
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.live import LiveRepository
from tests.postgres import Cluster, Unavailable

logging.disable_progress_bar()

VOCAB = 64
_SIZE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # large, so that the likeliest token depends on the context
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
TINY: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SIZE, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_SIZE)),
    "starcoder2": lambda: Starcoder2ForCausalLM(Starcoder2Config(**_SIZE, sliding_window=None)),
    "starcoder2-sliding": lambda: Starcoder2ForCausalLM(Starcoder2Config(**_SIZE, sliding_window=16)),
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    try:
        started = Cluster()
    except Unavailable as reason:
        pytest.skip(f"no PostgreSQL: {reason}")
    yield started
    started.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database. What a test claims of the database, it claims of both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'homespun.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_database()


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """With the newest schema."""
    engine = open_database(database_url, tmp_path / "unused.db")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for number, (name, make) in enumerate(TINY.items()):
        torch.manual_seed(number)
        make().save_pretrained(root / name)
    return {name: root / name for name in TINY}


@pytest.fixture(scope="session")
def builtin() -> ModelFiles:
    return resolve_base_model("builtin", "auto")


@pytest.fixture(scope="session")
def tokenizer(builtin: ModelFiles) -> Tokenizer:
    return load_tokenizer(builtin)


@pytest.fixture(scope="session")
def fim(builtin: ModelFiles, tokenizer: Tokenizer) -> FimFormat:
    return resolve_family(tokenizer, builtin.config)


COSTS = StepCosts(rows=((1, 0.6), (2, 0.7), (4, 0.9), (8, 1.4), (16, 2.4), (32, 4.4)), prefill=((64, 6.0), (256, 20.0)))
"""As on an idle machine: on a busy one no drafts may seem worth it, and tests about drafts would say nothing."""


@pytest.fixture(scope="session")
def engine(builtin: ModelFiles) -> Iterator[TorchEngine]:
    """The built-in model; shared, so tests leave no adapters behind."""
    made = TorchEngine(Path(builtin.path), dtype="int8", device="cpu", costs=COSTS)
    yield made
    made.close()


@pytest.fixture(scope="session")
def make_lora() -> Callable[..., Path]:
    return write_lora


def write_lora(base: Path, path: Path, *, seed: int = 0, strength: float = 0.05) -> Path:
    """A random adapter for the model at `base`, as peft saves it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj"]))
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_" in name:
                weights.normal_(std=strength)
    adapted.save_pretrained(str(path))
    return path


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory, builtin: ModelFiles, tokenizer: Tokenizer) -> Indexed:
    root = tmp_path_factory.mktemp("indexed")
    return Indexed(root, builtin, tokenizer)


class Indexed:
    """A small company repository and its index."""

    def __init__(self, root: Path, model: ModelFiles, tokenizer: Tokenizer) -> None:
        self.work_tree = root / "loom"
        self.data = DataDir(root / "data")
        self._model, self._tokenizer = model, tokenizer
        self.work_tree.mkdir()
        for name in ("order", "parcel", "voucher"):
            (self.work_tree / f"{name}.py").write_text(_source(name), encoding="utf-8")
        self._git("init", "-q", "-b", "main")
        self._git("remote", "add", "origin", "https://git.example.com/loomworks/loom.git")
        self.commit("first")
        self.repository = self.build()

    def commit(self, message: str) -> None:
        self._git("add", "-A")
        self._git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", message)

    def build(self, data: DataDir | None = None) -> Repository:
        data = data or self.data
        repo = open_repository(str(self.work_tree), data, timeout_s=60, progress=SilentProgress())
        index_repository(
            repo,
            settings=Settings(data_dir=str(data.root)),
            data=data,
            model=self._model,
            tokenizer=self._tokenizer,
            progress=SilentProgress(),
        )
        return repo

    def _git(self, *words: str) -> None:
        subprocess.run(["git", *words], cwd=self.work_tree, check=True, capture_output=True)


@pytest.fixture
def loom(indexed: Indexed, tokenizer: Tokenizer) -> Iterator[LiveRepository]:
    (index,) = indexed.data.index_root.iterdir()
    path = next(p for p in index.iterdir() if (p / "manifest.json").is_file())
    with IndexReader.open(path, tokenizer) as reader:
        yield LiveRepository(id="loom-1", identity=str(indexed.work_tree), name="loom", reader=reader, index_path=path)


def _source(name: str) -> str:
    title = name.capitalize()
    return f'''"""Access to {name}s, the house way."""

from loomworks.base import BaseRepository
from loomworks.spans import span


class {title}Repository(BaseRepository):
    def find_by_customer(self, customer_id: str) -> list[{title}]:
        with span("{name}.find_by_customer") as current:
            rows = self.session.fetch_all({name}s.where(customer_id=customer_id))
            current.annotate(rows=len(rows))
        return [{title}.from_row(row) for row in rows]

    def count_by_state(self, state: str) -> int:
        with span("{name}.count_by_state") as current:
            number = self.session.count({name}s.where(state=state))
            current.annotate(rows=number)
        return number
'''
