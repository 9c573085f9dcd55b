"""A server is backed up while it works, and another one made of the backup is the same."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import httpx
import pytest

from homespun_core import registry
from homespun_core.paths import DataDir, repo_id
from homespun_indexer.model_files import resolve_base_model
from tests.e2e.command import homespun, running
from tests.repos import SHOP, make_repo
from tests.server.conftest import write_lora

pytestmark = pytest.mark.e2e
BODY = {"prompt": "def price_of(item):\n    return ", "max_tokens": 12, "homespun": {"repo": "shop", "path": "a.py"}}


def said(words: str, cwd: Path) -> str:
    done = homespun(*words.split(), cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def asked(url: str, token: str) -> str:
    reply = httpx.post(f"{url}/v1/completions", json=BODY, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["text"])


def is_adapted(url: str, token: str) -> bool:
    metrics = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    return "homespun_adapters 1.0" in metrics.text


def publish(adapters: Path, lora: Path, base: str, mark: str, *, live: bool) -> str:
    version = registry.new_version(mark * 8)
    sources = {"base_model": base, "repositories": adapters.name}
    with registry.publish_adapter(adapters / version, fingerprint=mark * 8, sources=sources, report={}) as folder:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(lora / name, folder / name)
    if live:
        registry.promote(adapters, version)
    return version


def test_what_was_backed_up_at_work_serves_the_same_people_with_the_same_text(tmp_path: Path) -> None:
    shop, builtin = make_repo(tmp_path / "shop", SHOP), resolve_base_model("builtin", "auto")
    adapters = DataDir(tmp_path / "data").adapters(repo_id(str(shop)))
    said("index shop --data-dir=data", tmp_path)
    lora = write_lora(Path(builtin.path), tmp_path / "lora", strength=0.02)
    publish(adapters, lora, builtin.digest, "a", live=True)
    said("user add ada --role admin --data-dir=data", tmp_path)
    token = said("token create ada --scope complete --scope index:read --data-dir=data", tmp_path).split()[0]
    ended, failures = threading.Event(), list[Exception]()
    with running("serve", "--port=0", "--data-dir=data", "--requests-per-minute=0", cwd=tmp_path) as server:
        url = server.wait_for("homespun is ready: ").split()[-1]
        expected = asked(url, token)
        assert expected and is_adapted(url, token)

        def work() -> None:
            number = 0
            while not ended.is_set():
                try:
                    asked(url, token)
                    publish(adapters, lora, builtin.digest, "bcdef"[number % 5], live=False)
                    registry.prune(adapters, keep=2)
                except Exception as error:  # noqa: BLE001  # told by the test
                    failures.append(error)
                    return
                number += 1

        worker = threading.Thread(target=work)
        worker.start()
        try:
            said("backup b.tar.gz --with-indexes --data-dir=data", tmp_path)
        finally:
            ended.set()
            worker.join()
        assert failures == []
        assert server.interrupt() == 0
    shutil.rmtree(tmp_path / "data")
    said("restore b.tar.gz --data-dir=elsewhere", tmp_path)
    with running("serve", "--port=0", "--data-dir=elsewhere", cwd=tmp_path) as server:
        url = server.wait_for("homespun is ready: ").split()[-1]
        assert httpx.post(f"{url}/v1/completions", json=BODY, timeout=30).status_code == 401
        assert asked(url, token) == expected and is_adapted(url, token)
        assert server.interrupt() == 0
    assert "ada" in said("user list --data-dir=elsewhere", tmp_path)
