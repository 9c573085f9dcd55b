"""The console over HTTP: whose each page is, what a form may do, what never shows."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import replace

import httpx
import pytest
from fastapi import Request
from sqlalchemy.pool import QueuePool
from starlette.types import Message

from homespun_core import registry, storage
from homespun_core.paths import repo_id
from homespun_core.retraining import Reception, append_reception
from homespun_server.access import audit, reading
from homespun_server.access.changing import changing
from homespun_server.access.personal import erased
from homespun_server.access.principal import LOCAL
from homespun_server.console import usage
from homespun_server.console.http import audit as audit_pages
from tests.server.console.conftest import ADMIN, HOSTILE, SECRET, VERSIONS, Company

OWN = {"sec-fetch-site": "same-origin"}


def pages(company: Company) -> list[str]:
    adapters = f"/console/adapters/{company.shop}"
    return [
        "/console",
        "/console/repositories",
        f"/console/repositories/{company.shop}",
        f"/console/repositories/{company.odd}",
        f"/console/repositories/{company.web}",
        "/console/adapters",
        adapters,
        f"{adapters}/{VERSIONS[1]}",
        "/console/jobs",
        "/console/jobs/1",
        "/console/playground",
        "/console/usage?days=30",
        "/console/people",
        "/console/audit",
        "/console/audit/verified",
        "/console/settings",
    ]


async def test_every_page_has_a_strict_policy_and_escapes_what_others_wrote(running: Company) -> None:
    async with running.client() as browser:
        for path in pages(running):
            answer = await browser.get(path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert HOSTILE not in answer.text and "<img" not in answer.text, path
            assert not re.search(r"<[^>]* (?:style|on\w+)=", answer.text), path
        assert "&lt;img src=x onerror=alert(1)&gt;" in (await browser.get("/console/repositories")).text


async def test_a_browser_at_the_front_door_comes_to_the_console(company: Company) -> None:
    async with company.client() as browser:
        answer = await browser.get("/", headers={"accept": "text/html,*/*"})
        assert answer.status_code == 302 and answer.headers["location"] == "/console"
        assert (await browser.get("/")).text == "Homespun\n"


async def test_an_evaluation_page_is_a_stranger_to_the_console(company: Company) -> None:
    async with company.client() as browser:
        answer = await browser.get(f"/console/adapters/{company.shop}/{VERSIONS[1]}/report")
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200 and "sandbox;" in policy and "script-src" not in policy


async def test_secrets_are_said_to_be_set_and_no_more(company: Company) -> None:
    async with company.client() as browser:
        text = (await browser.get("/console/settings")).text
    assert SECRET not in text
    row = text[text.index("<code>webhook_secret</code>") :].partition("</tr>")[0]
    assert "<strong>set</strong>" in row and "environment" in row


@pytest.mark.parametrize("headers", [{}, {"sec-fetch-site": "cross-site"}, {"origin": "http://127.0.0.1:9999"}])
async def test_a_form_from_elsewhere_changes_nothing(company: Company, headers: dict[str, str]) -> None:
    fields = {"decision": f"rollback/{VERSIONS[1]}", "why": "mischief"}
    async with company.client() as browser:
        answer = await browser.post(f"/console/adapters/{company.shop}", data=fields, headers=headers)
    assert answer.status_code == 403
    assert registry.aliases(company.data.adapters(company.shop)).champion == VERSIONS[1]


async def decide(browser: httpx.AsyncClient, repo: str, decision: str, why: str = "read the report") -> httpx.Response:
    fields = {"decision": decision, "why": why}
    return await browser.post(f"/console/adapters/{repo}", data=fields, headers=OWN)


async def test_a_decision_takes_effect_and_says_who_and_why(company: Company) -> None:
    place = company.data.adapters(company.shop)
    async with company.client() as browser:
        answer = await decide(browser, company.shop, f"approve/{VERSIONS[2]}")
        assert answer.status_code == 303 and answer.headers["location"].endswith("?said=approve")
        assert "The candidate is the champion now." in (await browser.get(answer.headers["location"])).text
    assert registry.aliases(place).champion == VERSIONS[2]
    last = registry.history(place)[-1]
    assert (last.what, last.by, last.why) == ("approve", "local", "read the report")
    with company.runtime.database.connect() as connection:
        entry = list(audit.entries(connection))[-1]
    assert (entry.action, entry.actor) == ("adapter.approve", "local")
    assert entry.object == f"adapter:{company.shop}/{VERSIONS[2]}"


@pytest.mark.parametrize(
    ("decision", "why", "says"),
    [
        (f"rollback/{VERSIONS[1]}", "  ", "a reason is needed"),
        (f"approve/{VERSIONS[1]}", "late", "was meant"),
        ("approve/nothing", "x", "no such version"),
        (f"explode/{VERSIONS[1]}", "x", "no such decision"),
        ("", "", "no such decision"),
    ],
)
async def test_a_decision_that_can_not_be_is_explained(company: Company, decision: str, why: str, says: str) -> None:
    place = company.data.adapters(company.shop)
    before = registry.aliases(place)
    async with company.client() as browser:
        answer = await decide(browser, company.shop, decision, why)
    assert answer.status_code == 409 and says in answer.text
    assert registry.aliases(place) == before


async def test_a_job_is_asked_for_shown_and_cancelled(company: Company) -> None:
    async with company.client() as browser:
        answer = await browser.post(f"/console/repositories/{company.shop}", data={"job": "train"}, headers=OWN)
        assert answer.status_code == 303
        job = answer.headers["location"]
        assert "No worker was heard from" in (await browser.get("/console/jobs")).text
        lease = {"worker": "w", "kinds": ["train"]}
        bearer = {"authorization": f"Bearer {(company.data.root / 'worker.token').read_text().strip()}"}
        leased = (await browser.post("/v1/homespun/jobs/lease", json=lease, headers=bearer)).json()
        sign = {"job": leased["id"], "fence": leased["fence"], "fraction": 0.25, "words": f"training {HOSTILE}"}
        sign |= {"log": ["loss 1.5", HOSTILE], "eta_s": 600.0}
        await browser.post("/v1/homespun/jobs/heartbeat", json=sign, headers=bearer)
        text = (await browser.get(job)).text
        assert "25%" in text and "about 10 minutes left" in text and "loss 1.5" in text and HOSTILE not in text
        await browser.post(job, data={"change": "cancel"}, headers=OWN)
        assert "being cancelled" in (await browser.get(job)).text
        report = {"job": leased["id"], "fence": leased["fence"], "ending": "cancelled"}
        await browser.post("/v1/homespun/jobs/report", json=report, headers=bearer)
        assert "Try again" in (await browser.get(job)).text
        await browser.post(job, data={"change": "retry"}, headers=OWN)
        assert "queued" in (await browser.get(job)).text
        for wrong in ("0", "99", "x", "9" * 30):
            assert (await browser.get(f"/console/jobs/{wrong}")).status_code == 404
    with company.runtime.database.connect() as connection:
        noted = [(entry.action, entry.object) for entry in audit.entries(connection)]
    id = str(leased["id"])
    assert noted == [("job.add", f"train {company.shop}"), ("job.cancel", id), ("job.retry", id)]


async def test_that_less_is_accepted_of_what_is_served_stands_on_the_repositorys_page(company: Company) -> None:
    company.start()
    fallen = Reception(at=time.time(), adapter=VERSIONS[1], lately=0.2, before=0.31, is_fall=True)
    async with company.client() as browser:
        for is_shown, adapter in ((False, VERSIONS[0]), (True, VERSIONS[1])):
            append_reception(company.data.retraining(company.shop), replace(fallen, adapter=adapter))
            text = (await browser.get(f"/console/repositories/{company.shop}")).text
            assert ("20% of what is shown, 31% before" in text) is is_shown


async def test_a_repository_of_the_settings_is_there_before_it_is_indexed(company: Company) -> None:
    async with company.client() as browser:
        text = (await browser.get("/console/repositories")).text
        assert f'href="/console/repositories/{company.web}">web</a>' in text and "not indexed" in text
        answer = await browser.post(f"/console/repositories/{company.web}", data={"job": "index"}, headers=OWN)
        assert company.web in (await browser.get(answer.headers["location"])).text


async def test_an_admin_adds_a_repository(company: Company) -> None:
    company.add_user("root", "admin")
    company.add_user("grace", "repo-admin", "*")
    wanted = "https://git.example.com/team/new.git"
    async with company.client("root") as browser:
        csrf = await token(browser)
        for wrong, says in (
            ("shop", "a whole path"),
            ("https://ada:pw-canary@git.example.com/x.git", "a password in it"),
            ("", "a whole path"),
        ):
            refused = await browser.post("/console/repositories", data={"source": wrong, "csrf": csrf}, headers=OWN)
            assert refused.status_code == 400 and says in refused.text and "pw-canary" not in refused.text
        answer = await browser.post("/console/repositories", data={"source": wanted, "csrf": csrf}, headers=OWN)
        assert answer.status_code == 303
        assert repo_id(wanted) in (await browser.get(answer.headers["location"])).text
    job = company.app.state.jobs.store.jobs(limit=1)[0]
    assert (job.kind, job.source, job.asked_by) == ("index", wanted, "root")
    async with company.client("grace") as browser:
        fields = {"source": wanted, "csrf": await token(browser)}
        assert "Add one" not in (await browser.get("/console/repositories")).text
        assert (await browser.post("/console/repositories", data=fields, headers=OWN)).status_code == 403


async def test_the_playground_shows_each_layer(running: Company) -> None:
    fields = {
        "repository": running.shop,
        "path": "shop/new.py",
        "prefix": "from shop.prices import price_of\r\n\r\n\r\ndef total(items):\r\n    return sum(price_of(",
        "suffix": "\r\n",
    }
    async with running.client() as browser:
        answer = await browser.post("/console/playground", data=fields, headers=OWN)
    text = answer.text
    assert answer.status_code == 200
    rungs = re.findall(r"<h3>(Base model|With [a-z, ]+)</h3>", text)
    assert rungs == ["Base model", "With snippets", "With snippets, datastore", "With snippets, datastore, adapter"]
    adapters = re.search(r'<th scope="row">adapter</th>(.*?)</tr>', text, re.DOTALL)
    assert adapters is not None
    assert re.findall(r">([^<]+)</td>", adapters[1]) == ["none"] * 3 + [VERSIONS[1]]
    assert "Defines a name in reach" in text and "shop/prices.py" in text and "price_of" in text
    assert text.count("<mark>") >= 3 and f"value=&#34;{SECRET}" not in text


async def test_completions_are_counted_by_editor(running: Company) -> None:
    wanted = usage.Wanted(since=time.time() - 5, until=time.time() + 3_600)
    async with running.client() as editor, asyncio.timeout(30):
        agent = {"user-agent": "homespun-lsp/0.1.0 (helix)"}
        assert (await editor.post("/v1/completions", json={"prompt": "x = "}, headers=agent)).status_code == 200
        while True:
            if found := usage.cells(running.runtime.database, wanted):
                break
            await asyncio.sleep(0.05)
    assert [cell.editor for cell in found] == ["helix"]


async def test_trying_things_out_is_no_usage(running: Company) -> None:
    async with running.client() as browser:
        before = (await browser.get("/console/usage?days=90")).text
        await browser.post("/console/playground", data={"prefix": "x = ", "suffix": ""}, headers=OWN)
        assert running.runtime.recorder is not None
        assert (await browser.get("/console/usage?days=90")).text == before


ROLES = {
    "developer": {"overview", "playground", "usage", "tokens"},
    "repo-admin": {"overview", "repositories", "adapters", "jobs", "playground", "usage", "tokens"},
    "auditor": {"overview", "usage", "tokens", "audit"},
    "admin": {
        "overview",
        "repositories",
        "adapters",
        "jobs",
        "playground",
        "usage",
        "tokens",
        "people",
        "audit",
        "settings",
    },
}


async def test_each_role_has_its_pages_and_no_other(company: Company) -> None:
    every = {section for found in ROLES.values() for section in found}
    for role in ROLES:
        company.add_user(role, role)  # type: ignore[arg-type]
    for role, own in ROLES.items():
        async with company.client(role) as browser:
            for section in every:
                path = "/console" if section == "overview" else f"/console/{section}"
                answer = await browser.get(path)
                assert answer.status_code == (200 if section in own else 403), (role, section)
                links = set(re.findall(r'<a href="/console/?([a-z]*)"', answer.text))
                assert links <= {*own, ""}


async def test_who_is_not_signed_in_is_sent_to_sign_in(company: Company) -> None:
    company.add_user("ada", "admin")
    async with company.client() as browser:
        answer = await browser.get("/console", headers={"accept": "text/html", "sec-fetch-mode": "navigate"})
    assert answer.status_code == 303 and answer.headers["location"].startswith("/signin?next=/console")


async def test_what_one_may_not_read_looks_as_if_it_were_not_there(running: Company) -> None:
    running.add_user("root", "admin")
    running.add_user("grace", "repo-admin", running.odd)
    async with running.client("grace") as browser:
        for path in (f"repositories/{running.shop}", f"adapters/{running.shop}"):
            hidden, missing = await browser.get(f"/console/{path}"), await browser.get(f"/console/{path}-no")
            assert hidden.status_code == missing.status_code == 404 and hidden.text == missing.text
        for path in ("", "/repositories", "/adapters", "/usage?days=90"):
            assert running.shop not in (await browser.get(f"/console{path}")).text, path
        csrf = await token(browser)
        answer = await browser.post(
            "/console/playground", data={"repository": running.shop, "prefix": "price_of(", "csrf": csrf}, headers=OWN
        )
    assert answer.status_code == 200 and "shop/prices.py" not in answer.text and "No repository" in answer.text


async def test_a_developer_sees_their_own_numbers_only(company: Company) -> None:
    company.add_user("root", "admin")
    company.add_user("linus", "developer", "*")
    async with company.client("linus") as browser:
        text = (await browser.get("/console/usage?days=90")).text
    assert "Your usage" in text and "<dt>places</dt><dd>0</dd>" in text


async def token(browser: httpx.AsyncClient) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', (await browser.get("/console")).text)
    assert found is not None
    return found[1]


async def test_a_form_without_the_token_of_its_session_is_refused(company: Company) -> None:
    company.add_user("ada", "admin")
    async with company.client("ada") as browser:
        assert (await decide(browser, company.shop, f"rollback/{VERSIONS[1]}")).status_code == 403
        fields = {"decision": f"rollback/{VERSIONS[1]}", "why": "odd names", "csrf": await token(browser)}
        answer = await browser.post(f"/console/adapters/{company.shop}", data=fields, headers=OWN)
    assert answer.status_code == 303
    assert registry.history(company.data.adapters(company.shop))[-1].by == "ada"


async def test_a_token_is_shown_once_works_and_is_revoked(running: Company) -> None:
    running.add_user("root", "admin")
    running.add_user("ada", "developer")
    async with running.client("ada") as browser:
        fields = {"name": "laptop", "days": "90", "csrf": await token(browser)}
        made = await browser.post("/console/tokens", data=fields, headers=OWN)
        secret = re.search(r"homespun_[\w-]+", made.text)
        assert secret is not None
        again = (await browser.get("/console/tokens")).text
        assert secret[0] not in again and "laptop" in again
        bearer = {"authorization": f"Bearer {secret[0]}"}
        async with running.client() as editor:
            assert (await editor.post("/v1/completions", json={"prompt": "x"}, headers=bearer)).status_code == 200
            address = re.search(r'action="(/console/tokens/\w+/revoke)"', again)
            assert address is not None
            await browser.post(address[1], data={"csrf": fields["csrf"]}, headers=OWN)
            running.runtime.lookup.look()
            assert (await editor.post("/v1/completions", json={"prompt": "x"}, headers=bearer)).status_code == 401


async def test_an_admin_changes_people_and_the_log_says_so(company: Company) -> None:
    company.add_user("root", "admin")
    async with company.client("root") as browser:
        csrf = await token(browser)
        for fields in (
            {"change": "add-user", "user": "grace", "role": "auditor"},
            {"change": "add-team", "team": "shop"},
            {"change": "join", "user": "grace", "team": "shop"},
            {"change": "grant", "subject": "team:shop", "pattern": "shop*"},
            {"change": "deactivate", "user": "grace"},
        ):
            answer = await browser.post("/console/people", data=fields | {"csrf": csrf}, headers=OWN)
            assert answer.status_code == 303, answer.text
        text = (await browser.get("/console/people")).text
        assert "grace" in text and "deactivated" in text and "team:shop" in text
        refused = await browser.post(
            "/console/people", data={"change": "role", "user": "root", "role": "developer", "csrf": csrf}, headers=OWN
        )
        assert refused.status_code == 400 and "last admin" in refused.text
        log = (await browser.get("/console/audit")).text
        assert log.index("user.deactivate") < log.index("access.grant") < log.index("team.join")
        assert "The log is whole" in (await browser.get("/console/audit/verified")).text
        lines = (await browser.get("/console/audit/log.jsonl")).text.splitlines()
        assert len(lines) == len(re.findall(r'<th scope="row" class="number">', log))


@pytest.mark.parametrize("is_session", [False, True])
async def test_a_lost_editor_token_makes_no_successors(company: Company, is_session: bool) -> None:
    company.add_user("root", "admin")
    company.add_user("bob", "developer")
    with changing(company.runtime.database, ADMIN) as change:
        bob = reading.user_named(change.connection, "bob")
        assert bob is not None
        lost = change.add_token(bob, "editor")
        before = reading.all_tokens(change.connection, bob.id)
    company.runtime.lookup.look()
    async with company.client() as browser:
        if is_session:
            browser.cookies.set(
                company.app.state.signin.cookie_name, company.app.state.signin.sessions.start(bob.id, lost.id)
            )
            fields = {"csrf": await token(browser)}
        else:
            browser.headers["authorization"], fields = f"Bearer {lost.text}", {"csrf": ""}
        made = await browser.post("/console/tokens", data=fields | {"name": "evil", "days": "365"}, headers=OWN)
        revoked = await browser.post(f"/console/tokens/{lost.id}/revoke", data=fields, headers=OWN)
        listed = await browser.get("/console/tokens")
        assert '"/console/tokens"' not in (await browser.get("/console")).text
    assert [answer.status_code for answer in (made, revoked, listed)] == [403, 403, 403]
    with company.runtime.database.connect() as connection:
        assert reading.all_tokens(connection, bob.id) == before


async def test_what_was_refused_stands_in_the_audit_log(company: Company) -> None:
    company.add_user("root", "admin")
    ann = company.add_user("ann", "repo-admin")
    async with company.client("ann") as browser:
        fields = {"change": "role", "user": "ann", "role": "admin", "csrf": await token(browser)}
        assert (await browser.post("/console/people", data=fields, headers=OWN)).status_code == 403
    with company.runtime.database.connect() as connection:
        entry = list(audit.entries(connection))[-1]
    assert (entry.actor, entry.action, entry.decision) == (ann, "manage-people", "denied")


async def test_a_slow_reader_of_the_audit_log_holds_no_connection(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_pages, "_AT_ONCE", 2)
    for number in range(3):
        company.add_user(f"u{number}", "developer")
    pool = company.runtime.database.pool
    assert isinstance(pool, QueuePool)
    before, held = pool.checkedout(), set()

    async def slow(line: Message) -> None:
        held.add(pool.checkedout() - before)
        lines.append(line.get("body", b""))

    lines: list[bytes] = []
    answer = audit_pages.export(Request({"type": "http", "app": company.app, "state": {"principal": LOCAL}}))
    await answer({"type": "http", "asgi": {"spec_version": "2.4"}}, _never, slow)
    assert held == {0}
    with company.runtime.database.connect() as connection:
        numbers = [entry.number for entry in audit.entries(connection)]
    assert [json.loads(line)["number"] for line in lines if line] == numbers and len(numbers) > 2


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("fields", [{"change": "activate"}, {"change": "role", "role": "admin"}])
async def test_nobody_comes_back_from_being_erased(company: Company, fields: dict[str, str]) -> None:
    company.add_user("root", "admin")
    id = company.add_user("zoe", "developer")
    with changing(company.runtime.database, ADMIN) as change:
        zoe = reading.user_with(change.connection, id)
        assert zoe is not None
        erased(change, zoe, company.data)
    async with company.client("root") as browser:
        fields = fields | {"user": id, "csrf": await token(browser)}
        assert (await browser.post("/console/people", data=fields, headers=OWN)).status_code == 400
    with company.runtime.database.connect() as connection:
        zoe = reading.user_with(connection, id)
    assert zoe is not None and not zoe.active and zoe.role == "developer"


@pytest.mark.parametrize(
    "manifest",
    [{"sources": [], "info": {}}, {"sources": {}, "info": []}, {"sources": {}, "info": {"languages": [1]}}, []],
)
async def test_an_index_with_an_odd_manifest_is_shown_as_damaged(company: Company, manifest: object) -> None:
    snapshot = storage.current(company.data.index(company.shop))
    assert snapshot is not None
    (snapshot / storage.MANIFEST).write_text(json.dumps(manifest))
    async with company.client() as browser:
        for path in ("/console", "/console/repositories", f"/console/repositories/{company.shop}"):
            assert (await browser.get(path)).status_code == 200, path
        assert "unreadable" in (await browser.get(f"/console/repositories/{company.shop}")).text
