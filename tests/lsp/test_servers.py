"""Which server a file belongs to, and that no code goes to another because of a mistake."""

from pathlib import Path

import pytest

from homespun_lsp.options import Options, merge
from homespun_lsp.servers import server_of, servers_of

BASE = Options(server_url="https://main.example.com", token="main-token")
RULES = {
    "git.example.com/payments": {"serverUrl": "https://payments.example.com", "token": "p"},
    "https://git.example.com/payments/legacy": {"enable": False},
    "git.*.example.org": {"serverUrl": "https://org.example.org"},
    "/home/me/customer": {"serverUrl": "https://customer.example.net", "backend": "openai"},
    "/home/me/customer/ours": {"proxy": "http://proxy:3128"},
}


def chosen(file: str, remote: str | None, rules: object = RULES) -> Options:
    options, problems = merge(BASE, {"homespun": {"servers": rules}})
    servers, wrong = servers_of(options)
    assert not problems and not wrong
    return servers.options_for((Path(file),), remote)


@pytest.mark.parametrize(
    ("file", "remote", "url"),
    [
        ("/src/a.py", None, "https://main.example.com"),
        ("/src/a.py", "project", "https://main.example.com"),
        ("/src/a.py", "https://git.example.com/payments/core.git", "https://payments.example.com"),
        ("/src/a.py", "git@git.example.com:payments/core.git", "https://payments.example.com"),
        ("/src/a.py", "ssh://git@GIT.example.com/payments/core", "https://payments.example.com"),
        ("/src/a.py", "https://git.example.com/payments-old/core", "https://main.example.com"),
        ("/src/a.py", "https://evil.example/git.example.com/payments", "https://main.example.com"),
        ("/src/a.py", "https://git.eu.example.org/team/x", "https://org.example.org"),
        ("/src/a.py", "https://git.eu.west.example.org/team/x", "https://org.example.org"),
        ("/home/me/customer/a.py", "https://git.example.com/payments/core", "https://customer.example.net"),
        ("/home/me/customer-2/a.py", None, "https://main.example.com"),
    ],
)
def test_the_longest_rule_that_fits_decides(file: str, remote: str | None, url: str) -> None:
    assert chosen(file, remote).server_url == url


def test_a_place_can_be_turned_off() -> None:
    assert not chosen("/src/a.py", "https://git.example.com/payments/legacy").enable


def test_a_token_goes_to_the_server_it_was_given_with_and_to_no_other() -> None:
    assert chosen("/src/a.py", "https://git.example.com/payments/core").token == "p"
    assert chosen("/home/me/customer/a.py", None).token == ""
    same = chosen("/home/me/customer/ours/a.py", None)
    assert (same.server_url, same.token, same.proxy) == (BASE.server_url, BASE.token, "http://proxy:3128")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("https://x.example", "is not an object"),
        ({"serverUrl": "x.example"}, "is not an http://"),
        ({"serverUlr": "https://x.example"}, "did you mean 'serverUrl'"),
        ({"serverUrl": "https://x.example", "debounceMs": 5}, "is for all servers"),
        ({"servers": {}}, "is for all servers"),
    ],
)
def test_where_a_rule_makes_no_sense_nothing_is_asked(entry: object, told: str) -> None:
    servers, problems = servers_of(Options(server_url="https://main.example.com", servers={"/w": entry}))
    assert any(told in problem for problem in problems.values())
    assert not servers.options_for((Path("/w/a.py"),), None).enable
    assert servers.options_for((Path("/elsewhere/a.py"),), None).enable


def test_a_folder_that_is_nowhere_leaves_the_other_rules() -> None:
    rules = {"~nobody-here/x": {"enable": True}, "/w": {"serverUrl": "https://x.example"}}
    servers, problems = servers_of(Options(server_url="https://main.example.com", servers=rules))
    assert list(problems) == ["servers['~nobody-here/x']"]
    assert servers.options_for((Path("/w/a.py"),), None).server_url == "https://x.example"


@pytest.mark.parametrize("url", ["http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://h:1"])
def test_an_address_may_be_given_as_openais_clients_have_it(url: str) -> None:
    assert server_of(Options(server_url=url)).url == "http://h:1"


def test_signing_in_goes_the_way_that_the_rule_of_that_server_says() -> None:
    rules = {"git.example.com/x": {"serverUrl": "https://x.example/", "caFile": "/ca.pem"}}
    servers, _ = servers_of(Options(server_url="https://main.example.com", servers=rules))
    assert servers.at("https://x.example").ca_file == "/ca.pem"
    assert servers.at("https://y.example").server_url == "https://y.example"


def test_secrets_are_not_shown() -> None:
    shown = repr(server_of(Options(server_url="https://a", token="t0ps3cret", proxy="http://u:t0ps3cret@p")))
    assert "t0ps3cret" not in shown
