"""Whom the identity provider announces, and takes back: in the forms that providers send it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from homespun_server.access import reading
from homespun_server.access.decisions import Guarded
from homespun_server.access.lookup import Lookup
from homespun_server.access.tables import audit
from homespun_server.signin.tables import identities
from tests.server.signin.certified import OURS, CertifiedProvider
from tests.server.signin.conftest import MakeApp, MakeBrowser
from tests.server.signin.people import change, person, token, within_5_s

TOKEN = "a-token-for-provisioning"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"

DEACTIVATED: dict[str, list[dict[str, Any]]] = {
    "as Okta does": [{"op": "replace", "value": {"active": False}}],
    "as Entra does": [{"op": "Replace", "path": "active", "value": "False"}],
    "as the RFC has it": [{"op": "replace", "path": "active", "value": False}],
}


class IdentityProvider:
    """What one asks of SCIM's endpoints."""

    def __init__(self, app: FastAPI, shown: str = TOKEN) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {shown}", "Content-Type": "application/scim+json"}
        self.http = httpx.AsyncClient(transport=transport, base_url=f"{OURS}/scim/v2", headers=headers)

    async def add(self, name: str, **fields: Any) -> str:
        answer = await self.http.post("/Users", json={"schemas": [USER], "userName": name, "active": True} | fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def patch(self, place: str, operations: list[dict[str, Any]]) -> httpx.Response:
        answer = await self.http.patch(place, json={"schemas": [PATCH], "Operations": operations})
        assert answer.status_code in (200, 204), answer.text
        return answer


@pytest.fixture
def app(make_app: MakeApp) -> FastAPI:
    return make_app(scim_token=TOKEN, api_token="the-servers-own")


@pytest.fixture
def provider(app: FastAPI) -> IdentityProvider:
    return IdentityProvider(app)


async def test_whoever_is_announced_has_an_account(app: FastAPI, provider: IdentityProvider) -> None:
    email = {"value": "ada@example.com", "type": "work", "primary": True}
    id = await provider.add("Ada@Example.com", emails=[{"value": "old@example.com"}, email], externalId="00u1")
    found = person(app, "ada@example.com")
    assert found is not None and found.user.id == id
    assert (found.user.role, found.user.active, found.user.email) == ("developer", True, "ada@example.com")


@pytest.mark.parametrize("how", DEACTIVATED)
async def test_whoever_is_taken_back_is_out_within_the_request(
    app: FastAPI, provider: IdentityProvider, make_browser: MakeBrowser, how: str
) -> None:
    id = await provider.add("ada")
    text, browser = token(app, "ada", "complete", "index:read"), make_browser(app)
    await browser.submit(await browser.get("/signin"), token=text)
    bearer = {"Authorization": f"Bearer {text}"}

    async def statuses() -> set[int]:
        api = await provider.http.get(f"{OURS}/v1/models", headers=bearer)
        return {api.status_code, (await browser.get("/v1/models")).status_code}

    async def is_out() -> bool:
        return await statuses() == {401}

    assert await statuses() == {503}  # let in; there is no model here
    await provider.patch(f"/Users/{id}", DEACTIVATED[how])
    with app.state.runtime.database.connect() as connection:
        assert all(record.revoked for record in reading.all_tokens(connection, id))
        assert connection.exec_driver_sql("SELECT id FROM sessions").all() == []
    assert await within_5_s(is_out)
    assert (await provider.http.get(f"/Users/{id}")).json()["active"] is False


async def test_who_comes_back_has_no_old_tokens(app: FastAPI, provider: IdentityProvider) -> None:
    id = await provider.add("ada")
    token(app, "ada")
    for active in (False, True):
        await provider.patch(f"/Users/{id}", [{"op": "replace", "path": "active", "value": active}])
    found = person(app, "ada")
    assert found is not None and found.user.active
    with app.state.runtime.database.connect() as connection:
        assert all(record.revoked for record in reading.all_tokens(connection, id))


async def test_the_last_admin_can_be_taken_back(app: FastAPI, provider: IdentityProvider) -> None:
    id = await provider.add("ada")
    with change(app) as made:
        made.set_role((person(app, "ada") or pytest.fail()).user, "admin")
    await provider.patch(f"/Users/{id}", DEACTIVATED["as Okta does"])
    found = person(app, "ada")
    assert found is not None and not found.user.active


async def test_a_change_that_says_nothing_of_it_makes_nobody_active(app: FastAPI, provider: IdentityProvider) -> None:
    id = await provider.add("ada", active=False)
    answer = await provider.http.put(f"/Users/{id}", json={"schemas": [USER], "userName": "ada"})
    assert answer.status_code == 200
    found = person(app, "ada")
    assert found is not None and not found.user.active


async def test_who_is_deleted_is_gone_for_the_provider_and_powerless_here(
    app: FastAPI, provider: IdentityProvider
) -> None:
    id = await provider.add("ada")
    assert (await provider.http.delete(f"/Users/{id}")).status_code == 204
    assert (await provider.http.get(f"/Users/{id}")).status_code == 404
    found = person(app, "ada")
    assert found is not None and not found.user.active
    assert await provider.add("ada") != id  # somebody new of the same name is somebody else


async def test_what_is_not_needed_is_not_kept(app: FastAPI, provider: IdentityProvider) -> None:
    extension = {"manager": {"value": "boss"}, "department": "looms"}
    id = await provider.add("ada", **{ENTERPRISE: extension, "phoneNumbers": [{"value": "+49 30 1234"}]})
    operation = {"op": "Add", "path": f"{ENTERPRISE}:department", "value": "shuttles"}
    await provider.patch(f"/Users/{id}", [operation])
    with app.state.runtime.database.connect() as connection:
        kept = str(connection.exec_driver_sql("SELECT * FROM provisioned_users").all())
    assert "1234" not in kept and "looms" not in kept and "shuttles" not in kept


async def test_people_are_found_by_name_whatever_its_case(provider: IdentityProvider) -> None:
    ids = {name: await provider.add(name, externalId=f"x-{name}") for name in ("Ada", "Eve")}
    for filter in ('userName eq "ADA"', 'externalId eq "x-Ada"', f'{USER}:userName eq "ada"', 'userName sw "ad"'):
        found = (await provider.http.get("/Users", params={"filter": filter})).json()
        assert [user["id"] for user in found["Resources"]] == [ids["Ada"]], filter
    for filter in ('userName eq "nobody"', 'externalId eq "x-ada"'):
        assert (await provider.http.get("/Users", params={"filter": filter})).json()["totalResults"] == 0
    wrong = await provider.http.get("/Users", params={"filter": "userName is ada"})
    assert wrong.status_code == 400 and wrong.json()["scimType"] == "invalidFilter"


async def test_lists_come_in_pages(provider: IdentityProvider) -> None:
    for number in range(5):
        await provider.add(f"user-{number}")
    page = (await provider.http.get("/Users", params={"startIndex": 3, "count": 2})).json()
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (5, 3, 2)
    assert [user["userName"] for user in page["Resources"]] == ["user-2", "user-3"]


async def test_a_name_is_taken_once(provider: IdentityProvider) -> None:
    await provider.add("ada")
    again = await provider.http.post("/Users", json={"schemas": [USER], "userName": "ADA"})
    assert again.status_code == 409 and again.json()["scimType"] == "uniqueness"


async def test_an_account_made_by_hand_is_not_taken_over(app: FastAPI, provider: IdentityProvider) -> None:
    with change(app) as made:
        made.add_user("root", role="admin")
    id = await provider.add("root")
    by_hand = person(app, "root")
    assert by_hand is not None and by_hand.user.id != id


async def test_groups_are_teams(app: FastAPI, provider: IdentityProvider) -> None:
    ada, eve = await provider.add("ada"), await provider.add("eve")
    body = {"schemas": [GROUP], "displayName": "shop-developers", "members": [{"value": ada}]}
    group = (await provider.http.post("/Groups", json=body)).json()["id"]
    assert _teams(app, "ada") == {"shop-developers"} and _teams(app, "eve") == set()
    added = {"op": "Add", "path": "members", "value": [{"value": eve}]}
    entra = {"op": "Remove", "path": "members", "value": [{"value": ada}]}
    await provider.patch(f"/Groups/{group}", [added, entra])
    assert _teams(app, "ada") == set() and _teams(app, "eve") == {"shop-developers"}
    await provider.patch(f"/Groups/{group}", [{"op": "remove", "path": f'members[value eq "{eve}"]'}])
    assert _teams(app, "eve") == set()


@pytest.mark.parametrize("how", ["member", "group"])
async def test_code_that_a_group_may_read_is_out_of_reach_within_seconds(
    app: FastAPI, provider: IdentityProvider, how: str
) -> None:
    """As another process on the same database sees it."""
    ada, repositories = await provider.add("ada"), (Guarded(id="shop-1", groups=frozenset({"shop-developers"})),)
    body = {"schemas": [GROUP], "displayName": "shop-developers", "members": [{"value": ada}]}
    group = (await provider.http.post("/Groups", json=body)).json()["id"]
    lookup, text = Lookup(app.state.runtime.database, lambda: repositories), token(app, "ada")
    lookup.start()

    async def may_read() -> bool:
        found = await lookup.bearer(text)
        return found is not None and found.may_read("shop-1")

    async def may_not() -> bool:
        return not await may_read()

    assert await may_read()
    if how == "member":
        await provider.patch(f"/Groups/{group}", [{"op": "remove", "path": f'members[value eq "{ada}"]'}])
    else:
        await provider.http.delete(f"/Groups/{group}")
    assert await within_5_s(may_not)
    lookup.close()


async def test_a_group_takes_back_only_what_it_gave(app: FastAPI, provider: IdentityProvider) -> None:
    ada = await provider.add("ada")
    with change(app) as made:
        team, user = made.add_team("shop-developers"), (person(app, "ada") or pytest.fail()).user
        made.add_member(team, user)
    body = {"schemas": [GROUP], "displayName": "shop-developers", "members": [{"value": ada}]}
    group = (await provider.http.post("/Groups", json=body)).json()["id"]
    assert (await provider.http.delete(f"/Groups/{group}")).status_code == 204
    assert _teams(app, "ada") == {"shop-developers"}


async def test_what_the_provider_says_now_outweighs_the_last_sign_in(
    certified: CertifiedProvider, oidc: dict[str, str], make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    app = make_app(**oidc, scim_token=TOKEN)
    provider = IdentityProvider(app)
    certified.add("ada-1", preferred_username="ada", groups=["shop-developers"])
    ada = await provider.add("ada", externalId="ada-1")
    body = {"schemas": [GROUP], "displayName": "shop-developers", "members": [{"value": ada}]}
    group = (await provider.http.post("/Groups", json=body)).json()["id"]
    await make_browser(app).sign_in("ada-1")
    await provider.patch(f"/Groups/{group}", [{"op": "remove", "path": f'members[value eq "{ada}"]'}])
    assert _teams(app, "ada") == set()


async def test_a_group_that_is_deleted_takes_its_rights_along(app: FastAPI, provider: IdentityProvider) -> None:
    ada = await provider.add("ada")
    body = {"schemas": [GROUP], "displayName": "shop-developers", "members": [{"value": ada}]}
    group = (await provider.http.post("/Groups", json=body)).json()["id"]
    await provider.http.patch(
        f"/Groups/{group}",
        json={"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"displayName": "web"}}]},
    )
    assert _teams(app, "ada") == {"web"}
    await provider.http.delete(f"/Groups/{group}")
    assert _teams(app, "ada") == set()


async def test_nobody_is_put_into_a_group_who_was_not_announced(app: FastAPI, provider: IdentityProvider) -> None:
    with change(app) as made:
        root = made.add_user("root", role="admin")
    body = {"schemas": [GROUP], "displayName": "shop", "members": [{"value": root.id}]}
    answer = await provider.http.post("/Groups", json=body)
    assert answer.status_code == 400 and answer.json()["scimType"] == "invalidValue"
    assert (await provider.http.get("/Groups")).json()["totalResults"] == 0  # nothing of it was done


async def test_only_whom_scim_announced_can_sign_in(
    certified: CertifiedProvider, oidc: dict[str, str], make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    """Else whoever it takes back could come in again as somebody new."""
    app = make_app(**oidc, scim_token=TOKEN)
    provider = IdentityProvider(app)
    certified.add("ada-1", preferred_username="ada")
    page = await make_browser(app).sign_in("ada-1")
    assert page.status_code == 400 and "ada has no account here" in page.text
    id = await provider.add("ada", externalId="ada-1")
    assert "You are signed in as ada." in (await make_browser(app).sign_in("ada-1")).text
    await provider.patch(f"/Users/{id}", DEACTIVATED["as Okta does"])
    assert "ada is deactivated" in (await make_browser(app).sign_in("ada-1")).text
    await provider.http.delete(f"/Users/{id}")
    assert (await make_browser(app).sign_in("ada-1")).status_code == 400


async def test_whoever_signed_in_before_keeps_their_account(
    certified: CertifiedProvider, oidc: dict[str, str], make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    certified.add("ada-1", preferred_username="ada")
    first = make_app(**oidc)
    await make_browser(first).sign_in("ada-1")
    before = person(first, "ada")
    app = make_app(**oidc, scim_token=TOKEN)
    assert "ada has no account here" in (await make_browser(app).sign_in("ada-1")).text  # until they are announced
    assert (
        before is not None and await IdentityProvider(app).add("ada@example.com", externalId="ada-1") == before.user.id
    )
    assert "You are signed in as ada" in (await make_browser(app).sign_in("ada-1")).text


async def test_the_same_subject_at_the_provider_of_before_is_somebody_else(
    certified: CertifiedProvider, oidc: dict[str, str], make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    """Numbers begin anew at each provider: whoever came got the account of whoever had had theirs elsewhere."""
    certified.add("ada-1", preferred_username="ada")
    first = make_app(**oidc)
    await make_browser(first).sign_in("ada-1")
    before = person(first, "ada")
    assert before is not None
    with change(first) as changed:
        changed.connection.execute(update(identities).values(issuer="https://before.example.com"))
    app = make_app(**oidc, scim_token=TOKEN)
    assert await IdentityProvider(app).add("bob@example.com", externalId="ada-1") != before.user.id


async def test_whom_an_administrator_turned_out_the_provider_lets_in_no_more(
    certified: CertifiedProvider, oidc: dict[str, str], make_app: MakeApp, make_browser: MakeBrowser
) -> None:
    certified.add("ada-1", preferred_username="ada")
    first = make_app(**oidc)
    await make_browser(first).sign_in("ada-1")
    ada = person(first, "ada")
    assert ada is not None
    with change(first) as changed:
        changed.set_active(ada.user, False)
    provider = IdentityProvider(app := make_app(**oidc, scim_token=TOKEN))
    assert await provider.add("ada@example.com", externalId="ada-1") == ada.user.id
    for _ in range(2):
        found = person(app, "ada")
        assert found is not None and not found.user.active
        await provider.patch(f"/Users/{ada.user.id}", [{"op": "replace", "value": {"active": True}}])


async def test_what_was_changed_is_in_the_audit_log(app: FastAPI, provider: IdentityProvider) -> None:
    id = await provider.add("ada")
    await provider.patch(f"/Users/{id}", DEACTIVATED["as Okta does"])
    with app.state.runtime.database.connect() as connection:
        rows = connection.execute(audit.select()).all()
    assert {row.actor for row in rows} == {"scim"}
    assert [row.action for row in rows] == ["user.add", "user.deactivate"]


@pytest.mark.parametrize("shown", ["", "wrong", "the-servers-own", "ü"])
async def test_another_token_opens_nothing(app: FastAPI, shown: str) -> None:
    headers = {b"Authorization": f"Bearer {shown}".encode()}
    answer = await IdentityProvider(app).http.get("/Users", headers=headers)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"


async def test_the_token_for_provisioning_opens_nothing_else(app: FastAPI, provider: IdentityProvider) -> None:
    assert (await provider.http.get(f"{OURS}/metrics")).status_code == 401


async def test_without_a_token_provisioning_is_off(make_app: MakeApp) -> None:
    assert (await IdentityProvider(make_app(), "").http.get("/Users")).status_code == 404


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"schemas": 1}', b"[" * 100_000, b"null"])
async def test_what_is_no_resource_is_refused(provider: IdentityProvider, content: bytes) -> None:
    answer = await provider.http.post("/Users", content=content)
    assert answer.status_code == 400 and answer.json()["detail"]


def _teams(app: FastAPI, name: str) -> frozenset[str]:
    return (person(app, name) or pytest.fail()).teams
