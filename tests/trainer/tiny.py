"""A real Llama of a few thousand weights, a byte tokenizer, and documents it can learn by heart in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from homespun_core import storage
from homespun_core.fim import resolve_family
from homespun_core.prompt import PromptBuilder, PromptLimits
from homespun_core.types import Document, ModelFiles, SearchQuery, Snippet
from homespun_trainer.examples import Example, ExampleStream, Mix
from homespun_trainer.placement import Placement
from homespun_trainer.train import Recipe
from tests.fakes import ByteTokenizer

CONTROLS = ("<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo_name|>", "<|file_sep|>")
TOKENIZER = ByteTokenizer(CONTROLS)
CONFIG: dict[str, object] = {"model_type": "llama", "vocab_size": 272, "max_position_embeddings": 512}
FORMAT = resolve_family(TOKENIZER, CONFIG)
BUILDER = PromptBuilder(tokenizer=TOKENIZER, format=FORMAT, limits=PromptLimits(max_tokens=160))
CPU = Placement(torch.device("cpu"), torch.float32)


def make_model(folder: Path, hidden_size: int = 48, intermediate_size: int = 96) -> ModelFiles:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=272,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    # Such a small model says nothing with small weights: an adapter on frozen random features needs features to read.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.save_pretrained(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return ModelFiles(name="tiny", path=str(folder), family=None, digest=digest, config=CONFIG)


def document(path: str, text: str, language: str = "python") -> Document:
    return Document(path=path, language=language, blob=hashlib.sha1(text.encode()).hexdigest(), text=text)


def repeated_documents(count: int = 4) -> list[Document]:
    """The same few lines in every file."""
    text = "def load(self):\n    return self.session.fetch_all(ORDERS)\n\n\n"
    return [document(f"src/m{i}.py", f"# {i}\n" + text * 3) for i in range(count)]


def nearest(query: SearchQuery) -> Sequence[Snippet]:
    """A search that always finds the same thing."""
    return [Snippet(path="lib/base.py", start_line=1, text="def fetch_all(table): ...", score=1.0, source="usage")]


def make_stream(documents: Sequence[Document] | None = None, seed: int = 0, mix: Mix | None = None) -> ExampleStream:
    return ExampleStream(
        documents or repeated_documents(), builder=BUILDER, repo="acme/shop", seed=seed, retrieve=nearest, mix=mix
    )


def recipe(minutes: float = 1.0, **changes: float | str) -> Recipe:
    # Everything surprises a model that knows nothing.
    usual: dict[str, float | str] = {"rank": 8, "learning_rate": 2e-2, "batch_examples": 4, "max_surprisal": 0.0}
    values = {**usual, **changes}
    return Recipe(minutes=minutes, seed=0, **values)  # type: ignore[arg-type]


class Asked:
    """A stream that remembers which steps it was asked for: a run that goes on asks for none of those before."""

    def __init__(self, stream: ExampleStream) -> None:
        self.steps: list[int] = []
        self._stream = stream

    def batch(self, step: int, size: int) -> list[Example]:
        self.steps.append(step)
        return self._stream.batch(step, size)


def step_of(run: Path) -> int:
    """Of its checkpoint; 0 before the first."""
    current = storage.current(run)
    return int(current.name.split("-")[1]) if current else 0


class StepClock:
    """A clock that is read once a step: each reading is `seconds` later."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds, self._now = seconds, 0.0

    def __call__(self) -> float:
        self._now += self._seconds
        return self._now
