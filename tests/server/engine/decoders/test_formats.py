"""What a model runs with, where the times are the test's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from homespun_core.errors import ModelError
from homespun_server.engine.decoders import formats
from homespun_server.engine.decoders.formats import _SAMPLE, EXACT_BELOW_PARAMETERS, Format, choose_format
from homespun_server.engine.decoders.kernels import library_paths
from homespun_server.engine.decoders.protocol import Segment

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LARGE = EXACT_BELOW_PARAMETERS
Name = tuple[str, int]
"""Of a format: its kernels, or else its dtype, and its threads, 0 being PyTorch's."""


@dataclass(frozen=True)
class Library:
    """Takes the place of compiled kernels."""

    path: Path
    num_threads: int

    @property
    def kind(self) -> str:
        return self.path.name


def name_of(format: Format) -> Name:
    library = format.library
    if library is None:
        return str(format.dtype).removeprefix("torch."), 0
    assert isinstance(library, Library)
    return library.kind, library.num_threads


class Timed:
    """A decoder whose forwards take what the test says, on the test's clock."""

    length = 0

    def __init__(self, machine: Machine, name: Name) -> None:
        self._machine, self._name = machine, name

    def new_kv(self) -> Timed:
        return self

    def crop(self, length: int) -> None:
        assert length == 0

    def forward(self, batch: Sequence[Segment]) -> None:
        self._machine.tried.append(self._name)
        self._machine.now += self._machine.cost(self._name, len(self._machine.tried))


class Machine:
    def __init__(self) -> None:
        self.kinds: tuple[str, ...] = ("avx2", "portable")
        self.now = 0.0
        self.tried: list[Name] = []
        self.cost: Callable[[Name, int], float] = lambda name, number: 1.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(formats, "time", SimpleNamespace(perf_counter=lambda: made.now))
    monkeypatch.setattr(formats, "library_paths", lambda: [Path(kind) for kind in made.kinds])
    monkeypatch.setattr(formats, "NativeLibrary", Library)
    monkeypatch.setattr(formats, "_decoder", lambda weights, format: Timed(made, name_of(format)))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(6))
    return made


def _chosen(name: str = "auto", device: torch.device = CPU, num_threads: int = 0, num_parameters: int = LARGE) -> Name:
    made = choose_format(name, _SAMPLE, device, num_threads=num_threads, num_parameters=num_parameters)
    return name_of(made)


def test_the_number_of_threads_is_the_one_that_was_fastest(machine: Machine) -> None:
    costs = {1: 4.0, 2: 2.0, 4: 1.0, 6: 3.0}
    machine.cost = lambda name, number: costs[name[1]]
    assert _chosen() == _chosen("int8") == ("avx2", 4)
    assert set(machine.tried) == {("avx2", count) for count in costs}


def test_a_busy_moment_decides_nothing(machine: Machine) -> None:
    machine.cost = lambda name, number: (1.0 if name[1] == 2 else 1.1) + 50 * (name[1] == 2 and number < 60)
    assert _chosen() == ("avx2", 2)


def test_other_instructions_are_tried_and_may_be_faster(machine: Machine) -> None:
    machine.kinds = ("amx", "avx512vnni", "portable")
    machine.cost = lambda name, number: 1.0 if name[0] == "avx512vnni" else 2.0
    assert _chosen() == ("avx512vnni", 6)
    assert "portable" not in {kind for kind, _ in machine.tried}


def test_threads_that_are_said_are_not_tried_against_others(machine: Machine) -> None:
    assert _chosen(num_threads=3) == ("avx2", 3) and machine.tried == []


@pytest.mark.parametrize(
    ("kinds", "num_parameters", "tried"),
    [
        (("portable",), LARGE - 1, {"portable", "float32"}),
        (("portable",), LARGE, {"portable", "float32", "bfloat16"}),
        ((), LARGE, {"float32", "bfloat16"}),
        (("avx2", "portable"), LARGE, {"avx2"}),
    ],
)
def test_pytorch_is_tried_where_the_kernels_have_no_vectors(
    machine: Machine, kinds: tuple[str, ...], num_parameters: int, tried: set[str]
) -> None:
    """In bfloat16 a small model's completion would depend on what was cached."""
    machine.kinds = kinds
    machine.cost = lambda name, number: {"bfloat16": 1.0, "float32": 2.0}.get(name[0], 3.0)
    chosen, _ = _chosen(num_parameters=num_parameters)
    assert {kind for kind, _ in machine.tried} == tried
    assert chosen == min(tried, key=["bfloat16", "float32", "portable", "avx2"].index)


def test_a_small_model_without_kernels_has_nothing_to_choose_from(machine: Machine) -> None:
    machine.kinds = ()
    assert _chosen(num_parameters=LARGE - 1) == ("float32", 0) and machine.tried == []


def test_what_is_said_or_runs_on_a_gpu_isnt_timed(machine: Machine) -> None:
    assert _chosen("bfloat16") == ("bfloat16", 0) and _chosen(device=GPU) == ("bfloat16", 0)
    assert _chosen("float32", GPU) == ("float32", 0) and machine.tried == []


def test_sizes_that_the_kernels_cannot_do_are_pytorchs(machine: Machine) -> None:
    odd = dataclasses.replace(_SAMPLE, intermediate=72)
    made = choose_format("auto", odd, CPU, num_threads=0, num_parameters=1)
    assert name_of(made) == ("float32", 0)
    with pytest.raises(ModelError, match="intermediate size of 72"):
        choose_format("int8", odd, CPU, num_threads=0, num_parameters=1)


@pytest.mark.parametrize(
    ("is_known", "device", "reason"),
    [(True, GPU, "a GPU"), (False, CPU, "this model"), (True, CPU, "compiler")],
)
def test_int8_that_isnt_possible_is_refused_with_the_remedy(
    machine: Machine, is_known: bool, device: torch.device, reason: str
) -> None:
    machine.kinds = ()
    with pytest.raises(ModelError, match=reason):
        choose_format("int8", _SAMPLE if is_known else None, device, num_threads=0, num_parameters=1)


def test_a_damaged_library_is_skipped_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the real loader, and the real kernels behind the damaged ones."""
    damaged = tmp_path / "kernels-damaged.so"
    damaged.write_bytes(library_paths()[-1].read_bytes()[:500])
    monkeypatch.setattr(formats, "library_paths", lambda: [damaged, library_paths()[-1]])
    made = choose_format("int8", _SAMPLE, CPU, num_threads=1, num_parameters=1)
    assert made.library is not None and made.library.kind == "portable"
    assert "kernels-damaged.so can't be used" in caplog.text
    monkeypatch.setattr(formats, "library_paths", lambda: [damaged])
    with pytest.raises(ModelError, match="none of those here can be used"):
        choose_format("int8", _SAMPLE, CPU, num_threads=1, num_parameters=1)
