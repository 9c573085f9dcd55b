"""The endpoints for provisioning, judged by PyPI's scim2-tester."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

from tests.server.signin.certified import OURS
from tests.server.signin.conftest import MakeApp

TOKEN = "a-token-for-provisioning"


@pytest.mark.parametrize("kind", ["User", "Group"])
def test_a_checker_of_the_protocol_finds_nothing(make_app: MakeApp, database_url: str, kind: str) -> None:
    app = make_app(scim_token=TOKEN, database_url=database_url)
    http = TestClient(app, base_url=f"{OURS}/scim/v2", headers={"Authorization": f"Bearer {TOKEN}"})
    results = check_server(SyncSCIMClient(http), resource_types=[kind])
    wrong = [f"{r.status.name} {r.title}: {r.reason}" for r in results if r.status not in _GOOD]
    assert not wrong, "\n".join(wrong)
    assert [r.reason for r in results if r.status is Status.SKIPPED] == [
        "POST /.search: searching several resource types at once is not supported by the server"
    ]
    assert sum(r.status is Status.SUCCESS for r in results) > 20


_GOOD = (Status.SUCCESS, Status.SKIPPED, Status.ACCEPTABLE, Status.COMPLIANT)
