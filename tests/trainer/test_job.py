"""Base model and settings, as training has them."""

from __future__ import annotations

from homespun_core.config import Settings
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer.job import prompt_builder


def test_prompts_are_healed_in_training_where_the_server_heals_them() -> None:
    files = resolve_base_model("builtin", "auto")
    tokenizer = load_tokenizer(files)
    healed = [prompt_builder(files, tokenizer, Settings(token_healing=wanted)).is_healing for wanted in ("auto", "off")]
    assert healed == [True, False]
