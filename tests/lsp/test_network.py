"""Proxies, certificates and plain words, with real TLS and a real proxy."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from homespun_core import __version__
from homespun_core.errors import ConfigError
from homespun_lsp.network import Route, client_for, explain, proxy_for, user_agent
from tests.lsp.editor import editor
from tests.lsp.fake_server import FakeServer, fake_server


@dataclass(frozen=True)
class Company:
    """With an authority of its own."""

    authority: trustme.CA
    ca_file: Path
    client_cert: Path

    def tls(self, name: str = "127.0.0.1", *, asks_for_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(name).configure_cert(context)
        if asks_for_certificate:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("developer@example.com").private_key_and_cert_chain_pem.write_to_path(folder / "me.pem")
    yield Company(authority, folder / "ca.pem", folder / "me.pem")


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "option", "environ", "proxy"),
    [
        ("https://code.example.com", "", {}, None),
        ("https://code.example.com", "", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://code.example.com", "", {"ALL_PROXY": "http://p:2"}, "http://p:2"),
        ("http://code.example.com", "", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://code.example.com", "http://o:1", {"HTTPS_PROXY": "http://p:1"}, "http://o:1"),
        ("https://code.example.com", "http://o:1", {"NO_PROXY": "example.com"}, None),
        ("https://code.example.com:8443", "", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "code.example.com:8443"}, None),
        ("https://code.example.com", "", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.com"}, "http://p:1"),
        ("http://127.0.0.1:8080", "http://o:1", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://localhost:8080", "http://o:1", {}, None),
        ("http://[::1]:8080", "http://o:1", {}, None),
    ],
)
def test_which_proxy_is_used(
    url: str, option: str, environ: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url, option) == proxy


async def test_requests_to_elsewhere_go_through_the_proxy() -> None:
    """`.invalid` resolves nowhere: only the proxy can have answered."""
    async with (
        fake_server() as proxy,
        editor(serverUrl="http://code.invalid", proxy=proxy.url, debounceMs=0) as session,
    ):
        proxy.pages["http://code.invalid/v1/models"] = {"data": [{"id": "m", "owned_by": "homespun"}]}
        assert await session.open("x = |").ghost()
    assert [request.path for request in proxy.requests] == ["http://code.invalid/v1/completions"]


async def test_an_authority_of_the_company_is_trusted_once_it_is_named(company: Company) -> None:
    async with fake_server(company.tls()) as fake:
        async with editor(serverUrl=fake.url, debounceMs=0) as session:
            assert await session.open("x = |").ghost() is None
            (line,) = await session.logged(1)
            assert "certificate that isn't trusted" in line and "caFile" in line and "\n" not in line
        async with editor(serverUrl=fake.url, debounceMs=0, caFile=str(company.ca_file)) as session:
            assert await session.open("x = |").ghost()
        environ = {"SSL_CERT_FILE": str(company.ca_file)}
        async with editor(serverUrl=fake.url, debounceMs=0, environ=environ) as session:
            assert await session.open("x = |").ghost()


async def test_a_certificate_of_another_name_is_told_apart(company: Company) -> None:
    async with fake_server(company.tls("other.example.com")) as fake:
        with pytest.raises(httpx.ConnectError) as told:
            async with client_for(fake.url, Route(ca_file=str(company.ca_file))) as http:
                await http.get(fake.url)
        assert "another name" in explain(told.value)


async def test_a_client_certificate_is_shown_to_servers_that_want_one(company: Company) -> None:
    async with fake_server(company.tls(asks_for_certificate=True)) as fake:
        fake.pages["/"] = {}
        route = Route(ca_file=str(company.ca_file), client_cert=str(company.client_cert))
        async with client_for(fake.url, route) as http:
            assert (await http.get(fake.url)).is_success
        async with client_for(fake.url, Route(ca_file=str(company.ca_file))) as http:
            with pytest.raises(httpx.HTTPError):
                await http.get(fake.url)


@pytest.mark.parametrize(
    ("route", "told"),
    [
        (Route(ca_file="/nowhere/ca.pem"), "caFile: /nowhere/ca.pem: No such file"),
        (Route(ca_file=__file__), "caFile: "),
        (Route(client_cert="/nowhere/me.pem"), "clientCert: /nowhere/me.pem: No such file"),
        (Route(client_cert=__file__), "clientCert: "),
        (Route(ca_file="~nobody-here/ca.pem"), "caFile: '~nobody-here/ca.pem': there is no such home"),
        (Route(client_cert=__file__, client_key="~nobody-here/k"), "clientKey: '~nobody-here/k': there is no such"),
        (Route(proxy="3128"), "proxy: "),
        (Route(proxy="ftp://proxy"), "proxy: "),
        (Route(proxy="socks5://proxy:1080"), "pip install socksio"),
    ],
)
def test_a_way_that_cannot_be_taken_is_said_in_one_line(route: Route, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        client_for("https://code.example.com", route)
    assert told in str(error.value) and "\n" not in str(error.value)


async def test_an_option_that_leads_nowhere_is_said_and_nothing_is_asked(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=0, caFile="/nowhere/ca.pem") as session:
        assert await session.open("x = |").ghost() is None
        (line,) = await session.logged(1)
        assert "caFile: /nowhere/ca.pem" in line
    assert fake.requests == []


async def test_a_token_that_is_none_is_said_and_never_repeated(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=0, token="s3cr\u00e9t") as session:
        assert await session.open("x = |").ghost() is None
        (line,) = await session.logged(1)
        assert "token: holds characters" in line and "s3cr" not in line
    assert fake.requests == fake.questions == []


@pytest.mark.parametrize(
    ("editor", "named"),
    [("Neovim", " (Neovim)"), ("Visual Studio Code", " (Visual Studio Code)"), ("", ""), ("\r\nx: (é", " (x)")],
)
def test_a_server_learns_which_editor_asks(editor: str, named: str) -> None:
    assert user_agent(editor) == f"homespun-lsp/{__version__}{named}"


async def test_a_netrc_is_not_read(fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its passwords are for others."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password t0ps3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with client_for(fake.url, Route()) as http:
        await http.get(fake.url + "/v1/models")
    assert "authorization" not in fake.questions[0].headers
