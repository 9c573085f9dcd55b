from __future__ import annotations

import socket
from pathlib import Path

import pytest

from homespun_core.cli import main
from homespun_server.engine.decoders import kernels


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Check -> its line, by the name it starts with."""
    lines = capsys.readouterr().out.splitlines()
    return {line[5:19].strip(): line for line in lines if not line.startswith("     ")}


def test_a_machine_that_runs_these_tests_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--port=0", "--data-dir", str(tmp_path)])
    found = findings(capsys)
    assert [line for line in found.values() if line.startswith("BAD")] == []
    assert status == 0
    assert "FIM format homespun" in found["base model"]


def test_each_problem_comes_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["doctor", "--port", port, "--base-model", str(tmp_path / "model")]) == 1
    shown = capsys.readouterr().out
    assert f"BAD  port           127.0.0.1:{port}" in shown and "choose another with --port" in shown
    assert "BAD  base model" in shown and "config.json" in shown


def test_missing_kernels_are_a_problem_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "FOLDER", tmp_path)
    assert main(["doctor", "--port=0", "--data-dir", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "BAD  kernels        not compiled" in shown and "install a C++ compiler" in shown


def test_settings_are_shown_with_where_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOMESPUN_SEED", "3")
    (tmp_path / "homespun.toml").write_text("port = 0\n")
    main(["doctor"])
    assert "port from homespun.toml, seed from environment" in findings(capsys)["settings"]
