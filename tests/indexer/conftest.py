"""What most tests of the indexer need: a data directory, the built-in model, and an index of the shop."""

from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles, Progress, SilentProgress
from homespun_indexer.indexing import IndexMemory, index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.tokenizer import GuardedTokenizer, load_tokenizer


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


@pytest.fixture(scope="session")
def model() -> ModelFiles:
    return resolve_base_model("builtin", "auto")


@pytest.fixture(scope="session")
def tokenizer(model: ModelFiles) -> GuardedTokenizer:
    return load_tokenizer(model)


class Indexer:
    """`index_repository` with everything but the repository filled in."""

    def __init__(self, data: DataDir, model: ModelFiles, tokenizer: GuardedTokenizer) -> None:
        self.data, self.model, self.tokenizer = data, model, tokenizer

    def open(self, path: Path | str, branch: str = "") -> Repository:
        return open_repository(str(path), self.data, branch=branch, timeout_s=20, progress=SilentProgress())

    def index(
        self,
        repo: Repository | Path | str,
        *,
        settings: Settings | None = None,
        commit: str | None = None,
        exclude: frozenset[str] = frozenset(),
        memory: IndexMemory | None = None,
        progress: Progress | None = None,
    ) -> Path:
        return index_repository(
            repo if isinstance(repo, Repository) else self.open(repo),
            settings=settings or Settings(),
            data=self.data,
            model=self.model,
            tokenizer=self.tokenizer,
            progress=progress or SilentProgress(),
            commit=commit,
            exclude=exclude,
            memory=memory,
        )


@pytest.fixture
def indexer(data: DataDir, model: ModelFiles, tokenizer: GuardedTokenizer) -> Indexer:
    return Indexer(data, model, tokenizer)
