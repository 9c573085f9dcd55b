from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.testclient import TestClient

from homespun_server.pages import http as pages

HOSTILE = '"><script>alert(1)</script>'


def _client() -> TestClient:
    app = FastAPI()
    app.include_router(pages.router)

    @app.get("/page")
    def page(request: Request) -> Response:
        return pages.message_page(request, HOSTILE, HOSTILE, status=418)

    return TestClient(app)


def test_what_is_put_into_a_page_is_escaped() -> None:
    answer = _client().get("/page")
    assert answer.status_code == 418
    assert "<script" not in answer.text and answer.text.count("&lt;script&gt;") == 3


def test_pages_run_and_load_nothing_but_ours() -> None:
    """No inline style or script and no address but our own, so that the strict policy breaks nothing."""
    answer = _client().get("/page")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    for template in Path(pages.__file__).parent.parent.rglob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?://", text), template


def test_the_stylesheet_may_be_kept_since_its_address_changes_with_it() -> None:
    client = _client()
    url = re.findall(r'href="(/assets/style\.css[^"]*)"', client.get("/page").text)[0]
    answer = client.get(url)
    assert answer.headers["content-type"].startswith("text/css") and "immutable" in answer.headers["cache-control"]
    assert "@import" not in answer.text and "url(" not in answer.text
