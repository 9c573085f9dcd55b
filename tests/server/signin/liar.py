"""A provider that signs whatever it is told to: what a certified one can't be brought to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey


class Liar:
    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "known"})
        self.id_token = ""
        """What it gives for any code."""
        self.userinfo: Mapping[str, Any] = {}
        self.endpoints: dict[str, str] = {}
        """What it says of itself besides the truth."""
        self.issuer = ""

    def signed(self, claims: Mapping[str, Any], *, key: RSAKey | None = None, **header: str) -> str:
        used = key or self.key
        return jwt.encode(
            {"alg": "RS256", "kid": "known"} | header, dict(claims), used, algorithms=[header.get("alg", "RS256")]
        )

    def answer(self, path: str) -> Mapping[str, Any] | None:
        answers: dict[str, Mapping[str, Any]] = {
            "/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorise",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/keys",
            }
            | self.endpoints,
            "/keys": dict(KeySet([self.key]).as_dict(private=False)),
            "/token": {"access_token": "opaque", "token_type": "Bearer", "id_token": self.id_token},
            "/userinfo": self.userinfo,
        }
        return answers.get(path)


@contextmanager
def lying_provider() -> Iterator[Liar]:
    liar = Liar()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = liar.answer(self.path)
            content = json.dumps(found or {}).encode()
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        liar.issuer = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield liar
        server.shutdown()
        thread.join()
