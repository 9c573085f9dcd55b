"""A git host: git's `http-backend` behind a small server that can be told to fall silent in the middle of a pack."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Host(http.server.ThreadingHTTPServer):
    daemon_threads = True
    stalls_after: int | None = None
    """Bytes of a pack that come, before nothing does any more."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Backend)
        self.root, self.released = root, threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


class _Backend(http.server.BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        own = {
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=os.environ | own, stdout=subprocess.PIPE, check=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        self.wfile.write(b"HTTP/1.0 200 OK\r\n" + head + b"\r\n\r\n")
        stalls_after = self.server.stalls_after if b"PACK" in content else None
        self.wfile.write(content[:stalls_after])
        if stalls_after is not None:
            self.wfile.flush()
            self.server.released.wait()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def hosting(root: Path) -> Iterator[Host]:
    with Host(root) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield host
        finally:
            host.released.set()
            host.shutdown()
            thread.join()


def processes_that_name(port: int) -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if f":{port}/".encode() in _bytes(path)]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
