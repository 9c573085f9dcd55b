"""The console's page about usage: of everything, and of one group."""

from __future__ import annotations

import html
import re

import pytest
from sqlalchemy import update

from homespun_server.access.changing import changing
from homespun_server.console import usage
from homespun_server.console.usage import Wanted
from homespun_server.feedback.tables import completions
from tests.server.console.conftest import ADMIN, HOSTILE, VERSIONS, Company

TITLES = ["Accepted, of those shown", "Completions", "Characters kept", "Time of a completion on the server"]
GROUPS = {
    "language": {"python"},
    "editor": {"Neovim", "Visual Studio Code"},
    "adapter": {VERSIONS[1], "base model"},
    "repository": {"shop"},
    "team": {HOSTILE},
}


@pytest.fixture
def teamed(company: Company) -> Company:
    """One of the users who completed is in a team."""
    with changing(company.runtime.database, ADMIN) as change:
        user = change.add_user("u1", role="admin")
        change.add_member(change.add_team(HOSTILE), user, "admin")
        change.connection.execute(update(completions).where(completions.c.user == "u1").values(user=user.id))
    company.runtime.lookup.look()
    return company


def charts(text: str) -> dict[str, list[list[str]]]:
    """The numbers of each chart, by its title."""
    figures = re.findall(r'<figure class="chart">(.*?)</figure>', text, re.DOTALL)
    titles = [re.search(r"<figcaption[^>]*>(.*?)</figcaption>", figure) for figure in figures]
    rows = [[re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", f)] for f in figures]
    return {title[1]: found for title, found in zip(titles, rows, strict=True) if title is not None}


def shown(text: str) -> int:
    return sum(int(row[1].replace(",", "")) for row in charts(text)["Completions"][1:])


async def test_every_row_of_a_group_leads_to_its_charts(teamed: Company) -> None:
    cells = usage.cells(teamed.runtime.database, Wanted(since=0))
    async with teamed.client("u1") as browser:
        whole = (await browser.get("/console/usage?days=30")).text
        links = [html.unescape(link) for link in re.findall(r'href="(\?days=[^"]*by=[^"]*)"', whole)]
        found = {link: (await browser.get(f"/console/usage{link}")).text for link in links}
    assert len(links) == sum(map(len, GROUPS.values()))
    named = {
        (by, name): text
        for by, names in GROUPS.items()
        for name in names
        for text in found.values()
        if f"By day: {by} {html.escape(name)}</h2>" in text
    }
    assert len(named) == len(links)
    assert all(list(charts(text)) == TITLES[:3] for text in named.values())
    for by in ("language", "editor", "adapter", "repository"):
        assert sum(shown(named[by, name]) for name in GROUPS[by]) == shown(whole) == 600
    assert shown(named["team", HOSTILE]) == 120
    neovim = [cell.summary.shown for cell in cells if cell.editor == "Neovim"]
    assert shown(named["editor", "Neovim"]) == sum(neovim)


async def test_the_page_has_the_median_and_the_95th_percentile_of_each_day(company: Company) -> None:
    async with company.client() as browser:
        text = (await browser.get("/console/usage?days=30")).text
    found = charts(text)
    assert list(found) == TITLES
    head, *days = found[TITLES[3]]
    assert head == ["day", "median", "95th percentile"] and len(days) == 30
    measured = [row for row in days if row[1] != "–"]
    assert len(measured) >= 20 and all(re.fullmatch(r"[\d.]+ ms", cell) for row in measured for cell in row[1:])
    figure = text[text.index(TITLES[3]) :]
    assert '<li class="line0">median</li>' in figure and '<li class="line1">95th percentile</li>' in figure
    assert len(re.findall(r'<g class="line[01]">\s*<path d="M', figure)) == 2


@pytest.mark.parametrize("query", ["by=language&name=cobol", "by=user&name=u1", "by=__class__&name=x", "name=python"])
async def test_a_group_that_is_not_there_is_as_none(company: Company, query: str) -> None:
    async with company.client() as browser:
        plain = (await browser.get("/console/usage?days=30")).text
        assert (await browser.get(f"/console/usage?days=30&{query}")).text == plain


async def test_charts_of_a_team_are_for_whoever_may_read_usage(teamed: Company) -> None:
    teamed.add_user("dev", "developer", "*")
    async with teamed.client("dev") as browser:
        text = (await browser.get("/console/usage", params={"by": "team", "name": HOSTILE})).text
    assert "By day" not in text and "By team" not in text
