from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from homespun_core.errors import ModelError
from homespun_trainer.placement import Placement
from homespun_trainer.pretrain.model import SIZES, is_hidden_matrix, load_model, new_model, place
from tests.trainer.tiny import make_model


@pytest.mark.parametrize(
    ("name", "least", "most"), [("19m", 18.5e6, 19.5e6), ("40m", 39e6, 44e6), ("110m", 105e6, 115e6)]
)
def test_sizes_are_what_their_names_say(name: str, least: float, most: float) -> None:
    with torch.device("meta"):
        model = new_model(SIZES[name], vocabulary=16_384, end=0, pad=4, seed=0)
    assert least < sum(p.numel() for p in model.parameters()) < most


def test_the_target_size_fits_into_95_megabytes() -> None:
    with torch.device("meta"):
        model = new_model(SIZES["40m"], vocabulary=16_384, end=0, pad=4, seed=0)
    assert 2 * sum(p.numel() for p in model.parameters()) < 95e6


def test_equal_seeds_make_equal_weights() -> None:
    one, same, other = (new_model(SIZES["tiny"], vocabulary=260, end=0, pad=4, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert one["model.embed_tokens.weight"].shape[0] == 320


def test_the_rotary_frequencies_stay_exact_when_weights_are_rounded() -> None:
    """With `model.to(bfloat16)` they were rounded too, and the trained model knew other positions than the served."""
    model = new_model(SIZES["tiny"], vocabulary=260, end=0, pad=4, seed=0)
    exact = model.model.rotary_emb.inv_freq.clone()
    place(model, Placement(torch.device("cpu"), torch.bfloat16))
    assert torch.equal(model.model.rotary_emb.inv_freq, exact)
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_embeddings_and_norms_are_no_hidden_matrices() -> None:
    model = new_model(SIZES["tiny"], vocabulary=260, end=0, pad=4, seed=0)
    hidden = {name for name, weight in model.named_parameters() if is_hidden_matrix(name, weight)}
    assert len(hidden) == 7 * SIZES["tiny"].layers
    assert not any("embed" in name or "norm" in name for name in hidden)


def test_weights_to_go_on_from_must_be_a_llama_with_all_tokens(tmp_path: Path) -> None:
    files = make_model(tmp_path)
    assert load_model(files, vocabulary=262).dtype == torch.float32
    with pytest.raises(ModelError, match="knows 272 tokens"):
        load_model(files, vocabulary=300)
    with pytest.raises(ModelError, match="want llama"):
        load_model(replace(files, config={"model_type": "qwen2"}), vocabulary=262)
