"""A training that runs, on its page and for programs: what the trainer writes is what is drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from homespun_trainer import checkpoint
from homespun_trainer.checkpoint import Checkpoint, RunState
from tests.server.console.conftest import Company


@pytest.fixture
def job(company: Company) -> int:
    """A training that a worker leased."""
    queue = company.app.state.jobs
    asked = queue.ask("train", company.shop, asked_by="ada", known=True)
    assert queue.store.lease("w", ["train"]).id == asked.id
    return int(asked.id)


def saved(run: Path) -> None:
    state = RunState(step=20, elapsed_s=40.0, tokens=900, losses=[(300, 10.0, 2.5), (600, 25.0, 2.0), (900, 40.0, 1.5)])
    state.note_held_out(1.75)
    tensors = {"w": torch.zeros(1)}
    checkpoint.save(run, "f", Checkpoint(state=state, weights=tensors, optimiser=tensors, best=tensors))


async def test_the_loss_of_a_running_training_is_drawn_and_told(company: Company, job: int) -> None:
    page, api = f"/console/jobs/{job}", f"/v1/homespun/admin/jobs/{job}"
    async with company.client() as browser:
        assert "<svg" not in (await browser.get(page)).text and "loss" not in (await browser.get(api)).json()
        saved(company.data.training_run(company.shop))
        text, told = (await browser.get(page)).text, (await browser.get(api)).json()
    assert told["loss"] == [[10.0, 2.5], [25.0, 2.0], [40.0, 1.5]] and told["held_out_loss"] == [[40.0, 1.75]]
    figure = text[text.index("Loss during training") :]
    assert re.search(r'<g class="line0">\s*<path d="M', figure)
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", figure)]
    assert rows[1:] == [["10", "2.50", "–"], ["25", "2.00", "–"], ["40", "1.50", "1.75"]]


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"losses": 3, "dev_losses": [], "elapsed_s": 1, "step": 1}'])
async def test_a_checkpoint_that_can_not_be_read_costs_the_chart_alone(company: Company, job: int, damage: str) -> None:
    run = company.data.training_run(company.shop)
    saved(run)
    (state,) = run.glob("step-*/state.json")
    state.write_text(damage)
    async with company.client() as browser:
        answer = await browser.get(f"/console/jobs/{job}")
    assert answer.status_code == 200 and "<svg" not in answer.text
