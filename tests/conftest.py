"""Every test runs away from the user's own settings, data and network."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_CLIENTS = Path(__file__).parent / "e2e/clients"

# A shell has this ignored for what it starts in the background, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Test processes run side by side; more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# The same examples every time, and nothing that depends on how busy the machine is.
settings.register_profile("homespun", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("homespun")


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("HOMESPUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))


@pytest.fixture(autouse=True)
def _parsed_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small repositories are parsed in the test's own process, but for tests that are marked `apart`."""
    if request.node.get_closest_marker("apart") is None:
        from tests.parsing import parse_here  # most tests need it, those of the language server don't

        parse_here(monkeypatch.setattr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that last minutes come first, so that no process is left alone with one of them at the end; GPU tests skip
    themselves without one."""
    long = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)
    wanted = [item for item in items if item.get_closest_marker("gpu")]
    if wanted and not _has_cuda():
        for item in wanted:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """After all else: which real clients were not run. That they pass elsewhere is no news; that nobody ran them is."""
    yield
    not_run: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        where, _, why = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, "")
        if Path(where).parent == _CLIENTS:
            not_run.setdefault(why.removeprefix("Skipped: "), Counter())[report.nodeid.partition("::")[0]] += 1
    if not_run:
        terminalreporter.section("real clients that were NOT run", red=True, bold=True)
    for why, files in not_run.items():
        tests = ", ".join(f"{file} ({count} tests)" for file, count in files.items())
        terminalreporter.line(f"{tests}: {why}", red=True)


def _has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
