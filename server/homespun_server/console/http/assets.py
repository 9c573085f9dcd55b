"""What the console's pages load beside the layout's stylesheet. Public: there is nothing in it that isn't in every
Homespun."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from homespun_server.pages.http import PATH

_FOLDER = Path(__file__).parent.parent / "assets"
_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_STYLE = (_FOLDER / "console.css").read_bytes()
_SCRIPT = (_FOLDER / "console.js").read_bytes()


def _url(name: str, content: bytes) -> str:
    return f"{PATH}/{name}?{hashlib.sha256(content).hexdigest()[:12]}"


STYLE_URL = _url("console.css", _STYLE)
SCRIPT_URL = _url("console.js", _SCRIPT)

router = APIRouter()


@router.get(f"{PATH}/console.css")
def style() -> Response:
    return Response(_STYLE, media_type="text/css", headers=_HEADERS)


@router.get(f"{PATH}/console.js")
def script() -> Response:
    return Response(_SCRIPT, media_type="text/javascript", headers=_HEADERS)
