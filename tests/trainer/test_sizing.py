from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles
from homespun_trainer.lora import attach, load_base
from homespun_trainer.methods import peft_config
from homespun_trainer.sizing import Base, measure, num_held_out, sizes
from tests.trainer.tiny import CPU, make_model

QWEN = Base(parameters=1_500_000_000, per_rank=1_150_000)
BUILTIN = Base(parameters=19_000_000, per_rank=60_000)


@pytest.mark.parametrize(("tokens", "rank"), [(1e4, 16), (30e6, 16), (40e6, 32), (100e6, 64), (1e9, 64)])
def test_the_rank_grows_with_what_there_is_to_hold(tokens: float, rank: int) -> None:
    assert sizes(int(tokens * 3.4), QWEN, is_gpu=True).rank == rank


def test_a_small_corpus_on_a_large_model_gets_dropout_and_a_large_one_or_a_small_model_none() -> None:
    assert sizes(3_400_000, QWEN, is_gpu=False).dropout == 0.05
    assert sizes(34_000_000, QWEN, is_gpu=False).dropout == sizes(3_400_000, BUILTIN, is_gpu=False).dropout == 0


def test_a_gpu_gets_the_servers_prompts_in_larger_batches() -> None:
    shapes = {
        (sizes(10**7, QWEN, is_gpu=gpu).prompt_tokens, sizes(10**7, QWEN, is_gpu=gpu).batch_examples): gpu
        for gpu in (True, False)
    }
    assert shapes == {(0, 16): True, (384, 8): False}


def test_the_recipe_of_the_built_in_model_is_the_one_that_was_searched() -> None:
    found = sizes(3_000_000, BUILTIN, is_gpu=False)
    assert (found.rank, found.dropout, found.batch_examples, found.prompt_tokens) == (16, 0.0, 8, 384)


def test_a_small_model_learns_little_code_gently() -> None:
    rates = [sizes(characters, BUILTIN, is_gpu=False).learning_rate for characters in (40_000, 500_000, 2_500_000)]
    assert rates == [0.7, 0.7, 1.0] and sizes(40_000, QWEN, is_gpu=False).learning_rate == 1.0


def test_small_corpora_are_gone_through_more_often() -> None:
    targets = [sizes(n, BUILTIN, is_gpu=False).max_targets / (n / 3.4) for n in (100_000, 2_000_000, 50_000_000)]
    assert targets == sorted(targets, reverse=True) and targets[-1] == pytest.approx(3)


def test_longer_runs_look_at_more_held_out_examples() -> None:
    assert [num_held_out(m) for m in (0.1, 5, 10, 20, 500)] == [24, 24, 40, 80, 96]


def test_a_models_size_is_read_from_its_headers(tmp_path: Path) -> None:
    files = make_model(tmp_path)
    base, found = load_base(files, CPU), measure(files)
    assert found.parameters == sum(p.numel() for p in base.parameters())
    adapted = attach(base, peft_config("lora", 4, base))
    assert 4 * found.per_rank == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_a_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no safetensors"):
        measure(ModelFiles(name="none", path=str(tmp_path), family=None, digest="", config={}))


def test_small_models_keep_less_than_all_of_what_they_learned() -> None:
    assert sizes(500_000, BUILTIN, is_gpu=False).strength == 0.7 and sizes(500_000, QWEN, is_gpu=False).strength == 1.0
