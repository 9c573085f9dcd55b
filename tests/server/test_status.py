from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import registry, storage
from homespun_core.cli import main
from homespun_core.paths import DataDir
from homespun_core.retraining import Reception, append_reception
from homespun_core.storage import Manifest
from homespun_server.status import collect, render


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """One repository with an index and an adapter the gate turned down."""
    data = DataDir(tmp_path / "data")
    manifest = Manifest(
        kind="index", format_version=1, fingerprint="f", sources={"commit": "c" * 40}, info={"files": 2, "chunks": 1500}
    )
    with storage.publish_dir(data.index("app-1") / "g1", manifest) as tmp:
        (tmp / "x").write_text("x")
    storage.set_current(data.index("app-1"), "g1")
    report = {"promote": False, "reasons": ["too little to judge it on"]}
    sources = {"base_model": "d"}
    path = data.adapters("app-1") / "20260101-000000-abcdefgh"
    with registry.publish_adapter(path, fingerprint="abcdefgh", sources=sources, report=report) as tmp:
        (tmp / "adapter_model.safetensors").write_bytes(b"weights")
    return data


def test_an_empty_data_directory_says_where_to_start(tmp_path: Path) -> None:
    assert "start with: homespun up REPO" in render(collect(DataDir(tmp_path)))


def test_index_and_the_gates_reasons_are_shown(data: DataDir) -> None:
    shown = render(collect(data))
    assert "commit cccccccccccc, 2 files, 1,500 chunks" in shown
    assert "was turned down: too little to judge it on" in shown


def test_a_live_adapter_is_named(data: DataDir) -> None:
    newest = registry.newest(data.adapters("app-1"))
    assert newest is not None
    registry.promote(data.adapters("app-1"), newest.version)
    assert f"{newest.version} is live" in render(collect(data))


def test_that_less_is_accepted_of_the_live_adapter_is_an_alarm(data: DataDir) -> None:
    newest = registry.newest(data.adapters("app-1"))
    assert newest is not None
    fallen = Reception(at=time.time(), adapter=newest.version, lately=0.2, before=0.31, is_fall=True)
    append_reception(data.retraining("app-1"), fallen)
    assert "ALARM" not in render(collect(data))
    registry.promote(data.adapters("app-1"), newest.version)
    assert "accepted  20% of what is shown, 31% before; ALARM" in render(collect(data))
    append_reception(data.retraining("app-1"), replace(fallen, is_fall=False))
    assert "ALARM" not in render(collect(data))


def test_damage_is_shown_and_does_not_end_the_command(data: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    (weights,) = data.adapters("app-1").glob("*/adapter_model.safetensors")
    weights.write_bytes(b"other weights")
    assert main(["status", "--json", "--data-dir", str(data.root)]) == 0
    state = json.loads(capsys.readouterr().out)
    assert "damaged" in state["repositories"]["app-1"]["adapter"]["error"]


def test_a_server_that_is_gone_is_said_not_to_answer(data: DataDir) -> None:
    storage.write_atomic(data.server_state, json.dumps({"url": "http://127.0.0.1:9", "pid": 1}))
    assert "(does not answer)" in render(collect(data))


def test_one_repository_has_its_languages_disk_and_what_stayed_out(
    data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    info = {"files": 2, "languages": {"go": 1, "python": 1200}, "skipped": {"generated": 3}}
    manifest = Manifest(kind="index", format_version=1, fingerprint="f", sources={"commit": "c" * 40}, info=info)
    with storage.publish_dir(data.index("app-1") / "g2", manifest) as tmp:
        (tmp / "x").write_text("x")
    storage.set_current(data.index("app-1"), "g2")
    for word in ("app-1", "app"):
        assert main(["status", word, "--data-dir", str(data.root)]) == 0
        shown = capsys.readouterr().out
        assert "languages go 1, python 1,200" in shown and "left out  generated 3" in shown
        assert "disk      index" in shown and "adapters" in shown
    assert main(["status", "ap", "--data-dir", str(data.root)]) == 1
    assert "is not known here" in capsys.readouterr().err
