"""What `test_memory` runs: a process that gets no more memory than it has, and its engine or training."""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from homespun_core.errors import ServiceError, explain_want_of_memory
from homespun_core.types import ModelFiles
from homespun_indexer.model_files import resolve_base_model
from homespun_server.engine.protocol import EngineRequest
from homespun_server.engine.torch_engine import TorchEngine
from homespun_trainer.examples import Example
from homespun_trainer.learner import Learner, Plan
from tests.trainer.tiny import CPU

_MB = 1 << 20
_WIDE: dict[str, Any] = {"vocab_size": 24_000, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
"""So that all a step needs are the logits: 192 MB of them for 2,000 targets, and as much again a few times."""


def limit(more: int) -> None:
    """To the address space that there is, and `more`."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmSize:"))
    resource.setrlimit(resource.RLIMIT_AS, (kilobytes * 1024 + more, resource.RLIM_INFINITY))


def engine() -> None:
    """Row 28: a completion for which there is no memory is refused, and the next small one says what it always said."""
    made = TorchEngine(Path(resolve_base_model("builtin", "auto").path), dtype="int8", device="cpu", num_threads=1)

    def ask(tenant: str, *ids: int) -> list[int]:
        return [token.id for token in made.generate(EngineRequest(ids=ids, max_new_tokens=4, tenant=tenant)).tokens]

    expected = ask("small", 5, 6, 7)
    limit(0)
    ballast: list[bytearray] = []
    try:
        while True:
            ballast.append(bytearray(64 << 10))
    except MemoryError:
        del ballast[-32:]
    refused = 0
    for number in range(40):
        try:
            ask(f"large {number}", *[10 + number] * 500)
        except ServiceError as error:
            print(error)
            refused += 1
            break
    assert refused, "there was memory enough"
    assert ask("small", 5, 6, 7) == expected
    ballast.clear()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    assert ask("large again", *[10] * 500)
    made.close()


def training(folder: str) -> None:
    """Row 29: what doesn't fit is done in smaller passes, with the same gradient; what then doesn't is said."""
    LlamaForCausalLM(LlamaConfig(**_WIDE, num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder)
    files = ModelFiles(name="wide", path=folder, family=None, digest="wide", config={"model_type": "llama", **_WIDE})
    plan = Plan(files=files, placement=CPU, method="lora", rank=2, seed=0, parent=None)
    learner, roomy = Learner(plan), Learner(plan)
    row = Example(ids=tuple(range(128)), weights=(1.0,) * 128, prompt_tokens=0, kind="")
    roomy.accumulate([row] * 16, 2032.0)
    learner.accumulate([row], 127.0)  # what every step needs, threads above all
    learner.masters.forget_gradients()
    limit(450 * _MB)
    learner.accumulate([row] * 16, 2032.0)
    whole, parts = roomy.masters.flat_gradient(), learner.masters.flat_gradient()
    assert whole.abs().max() > 0 and (whole - parts).abs().max() < 1e-4 * whole.abs().max()
    learner.masters.forget_gradients()
    limit(4 * _MB)
    try:
        learner.accumulate([row], 127.0)
    except (MemoryError, RuntimeError) as error:
        assert explain_want_of_memory(error) is not None, error
        print("not enough memory")
        return
    raise AssertionError("there was memory enough")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    engine() if sys.argv[1] == "engine" else training(sys.argv[2])
