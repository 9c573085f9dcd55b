"""`helm test`: code is completed, nobody gets in without the token, and nothing here reaches the internet."""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request

SERVER, TOKEN = os.environ["SERVER"], os.environ["TOKEN"]
BODY = {"prompt": "def add(a, b):\n    return ", "suffix": "\n", "max_tokens": 16}
OUTSIDE = os.environ.get("OUTSIDE", "1.1.1.1:443")


def complete(token: str | None) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(f"{SERVER}/v1/completions", json.dumps(BODY).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:  # nothing listens there yet
        return 0, str(error).encode()


def completes() -> str | None:
    for _ in range(30):
        status, answer = complete(TOKEN)
        if status == 200 and isinstance(json.loads(answer)["choices"][0]["text"], str):
            return None
        time.sleep(2)
    return f"no completion: status {status}, {answer.decode(errors='replace')[:200]}"


def denies() -> str | None:
    status, _ = complete(None)
    return None if status == 401 else f"a request without a token gets status {status}, not 401"


def is_closed() -> str | None:
    host, _, port = OUTSIDE.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return None
    return f"{OUTSIDE} can be reached: the cluster doesn't enforce NetworkPolicies"


problems = [problem for check in (completes, denies, is_closed) if (problem := check())]
print("\n".join(problems) or "ok: completes, denies, closed")
sys.exit(bool(problems))
