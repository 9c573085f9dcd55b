from collections.abc import AsyncIterator

import pytest

from tests.lsp.fake_server import FakeServer, fake_server


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server
