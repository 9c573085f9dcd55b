"""The processes of benchmarks/scale_out.py, and the way to them."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psycopg
from company import Company
from load import make_adapters
from machines import Postgres, Room, Service, free_port

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.repository import open_repository
from homespun_indexer.tokenizer import load_tokenizer

API_TOKEN, WORKER_TOKEN, VLLM_TOKEN = "an-api-token-of-the-benchmark", "a-worker-token-of-the-benchmark", "a-vllm-token"
AWAY_S = 5.0
_HOMESPUN = (sys.executable, "-m", "homespun_core.cli")
_NUM_ADAPTERS = 2
_START_S = 600.0
_CANNED = "rows = self.session.fetch_all(orders.where(state=state))\n"
_PROBE_S = 1.0
_OK = 200
_VLLM_ENVIRON = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_API_KEY": VLLM_TOKEN,
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}
# More slots than adapters: the CPU backend mixes up the base model and the adapter in the last slot (vllm #49656).
_VLLM_FLAGS = (
    "--served-model-name base --max-model-len 1088 --dtype float32 --enforce-eager --max-num-seqs 8 --enable-lora"
    " --max-loras 8 --max-cpu-loras 8 --max-lora-rank 16 --enable-prompt-tokens-details --shutdown-timeout 5"
)


class Cluster:
    """Two gateways, two workers, PostgreSQL and two engines (but with `engine` "own"), on one data directory."""

    lease_s = 5.0

    def __init__(self, room: Room, folder: Path, company: Company, *, engine: str, vllm: Path) -> None:
        self.folder, self.company, self._room = folder, company, room
        self._settings = Settings(data_dir=str(folder / "data"))
        self._model = resolve_base_model("builtin", "auto")
        self.database = Postgres(room.machine("database"), free_port(), folder)
        self.front_address = ("10.77.0.1" if room.is_apart else "127.0.0.1", free_port())
        self._engine_ports = [] if engine == "own" else [free_port(), free_port()]
        made = self._canned if engine == "canned" else partial(self._vllm, python=vllm)
        self.engines = [made(n, port) for n, port in enumerate(self._engine_ports, 1)]
        ports = [free_port(), free_port()]
        self.gateways = [self._gateway(n, port) for n, port in enumerate(ports, 1)]
        self.gateway_urls = [f"http://{g.machine.address}:{p}" for g, p in zip(self.gateways, ports, strict=True)]
        self.workers = [self._worker(n) for n in (1, 2)]

    def repositories(self) -> list[str]:
        """Indexes the company's, and two under other names that have an adapter each; their ids."""
        data, tokenizer = DataDir(self._settings.data_root), load_tokenizer(self._model)
        repository = open_repository(str(self.company.folder), data, timeout_s=60, progress=SilentProgress())
        index_repository(
            repository,
            settings=self._settings,
            data=data,
            model=self._model,
            tokenizer=tokenizer,
            progress=SilentProgress(),
        )
        return [repository.id, *make_adapters(data, repository.id, self._model, _NUM_ADAPTERS)]

    def start(self) -> None:
        self.database.start()
        for engine in self.engines:
            engine.start()
        for engine, url in zip(self.engines, self._engine_urls, strict=True):
            print(f"{engine.machine.name}: ready after {engine.await_url(f'{url}/health', _START_S):.0f} s", flush=True)
        for gateway in self.gateways:  # both at once: one of them makes the tables
            gateway.start()
        for gateway, url in zip(self.gateways, self.gateway_urls, strict=True):
            gateway.await_url(f"{url}/healthz", _START_S)
        for worker in self.workers:
            worker.start()

    def close(self) -> None:
        for service in (*self.workers, *self.gateways, *self.engines):
            service.kill()
        self.database.remove()

    def worker(self, name: str) -> Service:
        return next(worker for worker in self.workers if worker.machine.name == name)

    def gateway_cpu_s(self) -> float:
        return sum(gateway.cpu_s for gateway in self.gateways)

    def gateway_mb(self) -> float:
        return max(gateway.memory_mb for gateway in self.gateways)

    def outcome_bytes(self) -> float:
        """What PostgreSQL keeps of a completion, indexes included."""
        query = "select pg_total_relation_size('completions'), count(*) from completions"
        with psycopg.connect(self.database.url.replace("+psycopg", "")) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return float(row[0] / max(row[1], 1))

    def new_share(self) -> float:
        """Of the tokens of all prompts, those that engines had not in their caches."""
        pairs = [
            (int(prompt), int(cached))
            for gateway in self.gateways
            for prompt, cached in re.findall(r" prompt=(\d+) cached=(\d+) ", gateway.log.read_text(errors="replace"))
        ]
        return sum(prompt - cached for prompt, cached in pairs) / max(1, sum(prompt for prompt, _ in pairs))

    async def answered(self) -> list[float]:
        """Requests that each engine has answered."""
        async with httpx.AsyncClient(trust_env=False) as client:
            pages = [(await client.get(f"{url}/metrics")).text for url in self._engine_urls]
        return [_sum(page, "vllm:request_success_total") for page in pages]

    @asynccontextmanager
    async def hanging_forge(self) -> AsyncIterator[str]:
        """Takes connections and says nothing: a clone from it lasts."""
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _reader, writer: writers.append(writer), self.front_address[0], 0)
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/team/hanging.git"
        server.close()
        for writer in writers:
            writer.close()

    @property
    def _engine_urls(self) -> list[str]:
        return [f"http://{e.machine.address}:{p}" for e, p in zip(self.engines, self._engine_ports, strict=True)]

    def _canned(self, number: int, port: int) -> Service:
        machine = self._room.machine(f"engine{number}")
        ids = ",".join(map(str, load_tokenizer(self._model).encode(_CANNED)))
        argv = [sys.executable, str(Path(__file__).parent / "canned.py"), f"--ids={ids}"]
        return Service(machine=machine, argv=[*argv, f"--host={machine.address}", f"--port={port}"], folder=self.folder)

    def _vllm(self, number: int, port: int, python: Path) -> Service:
        machine = self._room.machine(f"engine{number}")
        argv = [str(python), "-m", "vllm.entrypoints.openai.api_server", f"--model={self._model.path}"]
        argv += [*_VLLM_FLAGS.split(), f"--host={machine.address}", f"--port={port}"]
        return Service(machine=machine, argv=argv, folder=self.folder, environ=_VLLM_ENVIRON)

    def _gateway(self, number: int, port: int) -> Service:
        machine = self._room.machine(f"gateway{number}")
        flags = ["--data-dir", self._settings.data_dir, "--host", machine.address, "--port", str(port)]
        environ = {
            "HOMESPUN_DATABASE_URL": self.database.url,
            "HOMESPUN_JOB_LEASE_S": str(self.lease_s),
            "HOMESPUN_VLLM_TOKEN": VLLM_TOKEN,
            "HOMESPUN_VLLM_URLS": ",".join(self._engine_urls),
            "HOMESPUN_WORKER_TOKEN": WORKER_TOKEN,
        }
        return Service(machine=machine, argv=[*_HOMESPUN, "serve", *flags], folder=self.folder, environ=environ)

    def _worker(self, number: int) -> Service:
        machine = self._room.machine(f"worker{number}")
        url = "http://{}:{}".format(*self.front_address)
        flags = ["--data-dir", self._settings.data_dir, "--server-url", url, "--name", machine.name, "--kinds", "index"]
        environ = {"HOMESPUN_WORKER_TOKEN": WORKER_TOKEN}
        return Service(machine=machine, argv=[*_HOMESPUN, "worker", *flags], folder=self.folder, environ=environ)


class Front:
    """What a Service of Kubernetes does: new connections go to gateways that are ready. Listens for workers, too."""

    def __init__(self, gateways: list[str], address: tuple[str, int]) -> None:
        self.gateways = gateways
        self.ready: set[str] = set()
        self._address = address
        self._clients: dict[tuple[int, str], httpx.AsyncClient] = {}
        self._given: dict[int, str] = {}
        self._probing = httpx.AsyncClient(trust_env=False, timeout=_PROBE_S, headers=_bearer())
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Front:
        self._server = await asyncio.start_server(self._join, *self._address)
        self._tasks = {asyncio.create_task(self._probe(gateway)) for gateway in self.gateways}
        await until(lambda: len(self.ready) == len(self.gateways))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in (tasks := [*self._tasks]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (self._probing, *self._clients.values()):
            await client.aclose()

    async def post(self, who: int, path: str, body: Any, timeout_s: float, gateway: str | None) -> httpx.Response:
        """Over the connection that `who` has, or a new one to a ready gateway."""
        chosen = gateway or self._given.get(who) or await self._one()
        self._given[who] = chosen
        client = self._clients.get((who, chosen))
        if client is None:
            client = httpx.AsyncClient(base_url=chosen, trust_env=False, headers=_bearer())
            self._clients[who, chosen] = client
        try:
            return await client.post(path, json=body, timeout=timeout_s)
        except httpx.HTTPError:
            del self._given[who]
            raise

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        """Tried again while the database or a gateway is away, as a person would."""
        while True:
            with suppress(httpx.HTTPError):
                answer = await self._probing.request(method, f"{await self._one()}{path}", json=body, timeout=5)
                if answer.is_success:
                    return answer.json()
                if answer.status_code < 500:
                    raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
            await asyncio.sleep(0.1)

    async def commits(self, gateway: str) -> str:
        """What a gateway says of the snapshots that it serves."""
        with suppress(httpx.HTTPError):
            return json.dumps((await self._probing.get(f"{gateway}/readyz")).json())
        return ""

    async def _one(self) -> str:
        await until(lambda: bool(self.ready))
        return random.choice(sorted(self.ready))

    async def _probe(self, gateway: str) -> None:
        while True:
            is_ready = False
            with suppress(httpx.HTTPError):
                is_ready = (await self._probing.get(f"{gateway}/readyz")).status_code == _OK
            (self.ready.add if is_ready else self.ready.discard)(gateway)
            await asyncio.sleep(_PROBE_S)

    def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._joined(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = httpx.URL(await self._one())
        try:
            there = await asyncio.open_connection(url.host, url.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copied(reader, there[1]), _copied(there[0], writer))


async def until(is_so: Callable[[], bool]) -> None:
    while True:
        if is_so():
            return
        await asyncio.sleep(0.02)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {API_TOKEN}"}


def _sum(page: str, metric: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{metric}{{"))
