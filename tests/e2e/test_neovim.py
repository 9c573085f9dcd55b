"""The plugin in the real Neovim, from the oldest that it is for to the newest: real keys, extmarks read back."""

from __future__ import annotations

import shutil
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.neovim import PLUGIN, Neovim, neovim
from tests.e2e.command import HOMESPUN
from tests.lsp.fake_server import HOLD, FakeServer, Request
from tests.lsp.signin.test_device import CODE, TOKEN, error
from tests.lsp.threaded import threaded_fake_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # the first download counts


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with threaded_fake_server() as server:
        yield server


@pytest.fixture
def nvim(tmp_path: Path) -> Iterator[Neovim]:
    with neovim("0.12", tmp_path) as opened:
        yield opened


@pytest.fixture(params=["0.12", "0.11", "0.10"])
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Neovim]:
    """For what is done in another way in older ones."""
    with neovim(request.param, tmp_path) as opened:
        yield opened


def start(nvim: Neovim, fake: FakeServer, folder: Path, text: str = "\n", **opts: object) -> None:
    """A file is open in insert mode, the cursor at its start. Requests can be counted."""
    opts = {"cmd": [*HOMESPUN, "lsp"], "settings": {"serverUrl": fake.url, "prefetch": False}} | opts
    nvim.lua("require('homespun').setup(...)", opts)
    nvim.edit(folder / "sample.py", text)
    nvim.ready()
    nvim.type("i")


def completions(fake: FakeServer) -> list[Request]:
    return [request for request in fake.requests if request.path == "/v1/completions"]


def accepted(fake: FakeServer) -> list[int]:
    events = [event for request in fake.requests for event in request.body.get("events", [])]
    return [event["characters"] for event in events if event["kind"] == "accepted"]


def test_typing_shows_ghost_text_and_tab_accepts_it(each: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = {"id": "cmpl-7", "choices": [{"index": 0, "text": "llo(name)"}]}
    start(each, fake, tmp_path)
    each.type("he")
    each.shows("llo(name)")
    each.type("<Tab>")
    each.has("hello(name)")
    each.shows(None)
    each.until(lambda: accepted(fake) == [len("llo(name)")])


def test_an_opened_file_is_prepared_before_the_first_key(each: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    opts = {"cmd": [*HOMESPUN, "lsp"], "settings": {"serverUrl": fake.url}}
    each.lua("require('homespun').setup(...)", opts)
    each.edit(tmp_path / "sample.py", "one = 1\ntwo = \n")
    each.ready()
    each.until(lambda: [request.body["prompt"] for request in completions(fake)] == ["one = 1"])
    each.type("j")
    each.until(lambda: [request.body["prompt"] for request in completions(fake)] == ["one = 1", "one = 1\ntwo = "])
    assert [request.body["max_tokens"] for request in completions(fake)] == [0, 0]


def test_a_restart_waits_for_a_server_that_is_slow_to_end(each: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "llo(name)"
    slow = "import subprocess, sys, time; subprocess.run(sys.argv[1:]); time.sleep(1.5)"
    start(each, fake, tmp_path, cmd=[sys.executable, "-c", slow, *HOMESPUN, "lsp"])
    before = each.lua("return vim.lsp.get_clients({ name = 'homespun' })[1].id")
    each.type("<Esc>:Homespun restart<CR>")
    each.until(lambda: each.lua("local c = require('homespun.client').of() return c and c.id or 0") not in (0, before))
    each.type("ihe")
    each.shows("llo(name)")


def test_tab_is_a_tab_where_nothing_is_shown(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = ""
    start(nvim, fake, tmp_path)
    nvim.type("<Tab>x")
    nvim.has("\tx")


def test_letters_typed_before_the_key_stand_once(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    """neovim#36529: the built-in ghost text puts in what came from the server, over what was typed since."""
    fake.default = "llo_world():\n    return 42"
    start(nvim, fake, tmp_path)
    nvim.type("def he")
    nvim.shows("llo_world():\n    return 42")
    nvim.paste("llo<Tab>")
    nvim.has("def hello_world():\n    return 42")


def test_typing_through_a_suggestion_asks_nobody(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "completed"
    start(nvim, fake, tmp_path)
    nvim.type("x = ")
    nvim.shows("completed")
    before = len(completions(fake))
    nvim.type("compl")
    nvim.shows("eted")
    nvim.type("<BS>")
    nvim.shows("leted")
    assert len(completions(fake)) == before


def test_words_and_lines_are_accepted_one_by_one(each: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "first(second)\nthird(fourth)\nfifth()"
    start(each, fake, tmp_path)
    each.type("x = ")
    each.shows("first(second)\nthird(fourth)\nfifth()")
    each.type("<C-Right>")
    each.shows("(second)\nthird(fourth)\nfifth()")
    each.has("x = first")
    each.type("<C-Down>")
    each.shows("third(fourth)\nfifth()")
    each.type("<Tab>")
    each.has("x = first(second)\nthird(fourth)\nfifth()")
    assert len(completions(fake)) == 1


def test_leaving_insert_mode_hides_it(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "completed"
    start(nvim, fake, tmp_path)
    nvim.type("x = ")
    nvim.shows("completed")
    nvim.type("<Esc>")
    nvim.shows(None)


def test_moving_the_cursor_hides_it(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    """Otherwise it would be drawn, and put in, before letters of it that were typed already."""
    fake.default = "completed"
    start(nvim, fake, tmp_path)
    nvim.type("x = ")
    nvim.shows("completed")
    nvim.type("com")
    nvim.shows("pleted")
    nvim.type("<Left>")
    nvim.shows(None)
    nvim.type("<Tab>")
    nvim.has("x = co\tm")


def test_undoing_a_part_of_it_raises_no_error(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "first\nsecond\nthird"
    start(nvim, fake, tmp_path)
    nvim.type("    x = ")
    nvim.shows("first\nsecond\nthird")
    nvim.type("<C-Down>")
    nvim.shows("second\nthird")
    nvim.lua("vim.api.nvim_buf_set_lines(0, 0, 1, false, {''})")
    nvim.type("y")
    nvim.has("\ny")
    assert nvim.lua("return vim.v.errmsg") == ""


def test_what_is_typed_over_is_cancelled_up_to_the_server(each: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.replies.append(HOLD)
    fake.default = "(new)"
    start(each, fake, tmp_path, settings={"serverUrl": fake.url, "debounceMs": 0, "prefetch": False})
    each.type("x")
    each.until(lambda: completions(fake))
    each.type("y")
    each.shows("(new)")
    each.until(completions(fake)[0].closed.is_set)
    assert [request.body["prompt"] for request in completions(fake)] == ["x", "xy"]


def test_several_lines_take_the_closing_bracket_with_them(each: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "a,\n    b,\n"
    start(each, fake, tmp_path, "f()\n")
    each.type("<Right><Right> ")
    each.shows("a,\n    b,\n)")
    each.type("<Tab>")
    each.has("f( a,\n    b,\n)")


def test_an_emoji_before_the_cursor_moves_nothing(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "'🧵'"
    start(nvim, fake, tmp_path, "s = '🧶' \n")
    nvim.type("<End>+ ")
    nvim.shows("'🧵'")
    nvim.type("<Tab>")
    nvim.has("s = '🧶' + '🧵'")
    assert completions(fake)[-1].body["prompt"] == "s = '🧶' + "


def test_line_ends_of_windows_stay(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "a(\n    b)"
    start(nvim, fake, tmp_path, "\r\nz = 3\r\n")
    nvim.type("y = ")
    nvim.shows("a(\n    b)")
    nvim.type("<Tab>")
    nvim.has("y = a(\n    b)\nz = 3")
    nvim.type("<Esc>")
    nvim.command("write")
    assert (tmp_path / "sample.py").read_bytes() == b"y = a(\r\n    b)\r\nz = 3\r\n"


def test_the_command_turns_it_off_and_on(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "completed"
    start(nvim, fake, tmp_path)
    nvim.command("Homespun disable")
    nvim.type("x = ")
    nvim.has("x = ")
    assert nvim.lua("return require('homespun').statusline()") == "homespun off"
    assert not fake.requests and nvim.ghost() is None
    nvim.command("Homespun toggle")
    nvim.type("(")
    nvim.shows("completed")
    assert nvim.lua("return require('homespun').statusline()").startswith("homespun")


def test_the_status_line_says_when_the_server_is_away(each: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    start(each, fake, tmp_path, settings={"serverUrl": "http://127.0.0.1:1"})
    each.type("x")
    each.until(lambda: "127.0.0.1:1" in each.lua("return require('homespun').statusline()"))
    each.command("checkhealth homespun")
    assert "running: http://127.0.0.1:1" in each.text


def test_signing_in_shows_the_code(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.pages |= {"/v1/models": 401, "/oauth/device/code": CODE, "/oauth/token": error("authorization_pending")}
    start(nvim, fake, tmp_path)
    nvim.lua("vim.ui.open = function(address) vim.g.opened = address end")
    nvim.type("<Esc>")
    nvim.command("Homespun signin")
    nvim.until(lambda: nvim.lua("return vim.g.opened"))
    assert nvim.lua("return vim.g.opened") == CODE["verification_uri_complete"]
    assert "enter the code WDJB-MJHT at https://code.example.com" in nvim.lua("return vim.fn.execute('messages')")


def test_a_suggestion_can_be_asked_for_and_dismissed(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "n(x)"
    start(nvim, fake, tmp_path, "return\n")
    nvim.type("<Right><Right><Right>")  # in the middle of a word
    assert nvim.ghost() is None
    nvim.lua("require('homespun').trigger()")
    nvim.shows("n(x)")
    assert nvim.lua("return require('homespun').visible()") == "n(x)"
    nvim.lua("require('homespun').dismiss()")
    nvim.shows(None)
    assert len(completions(fake)) == 1


def test_the_command_tells_the_state_signs_out_and_opens_the_log(
    nvim: Neovim, fake: FakeServer, tmp_path: Path
) -> None:
    fake.pages |= {
        "/v1/models": deque([401, fake.pages["/v1/models"]]),
        "/oauth/device/code": CODE | {"interval": 0.1},
        "/oauth/token": TOKEN,
        "/oauth/revoke": {},
    }
    start(nvim, fake, tmp_path)
    nvim.lua("vim.ui.open = function() end")
    nvim.type("<Esc>")
    nvim.until(lambda: "sign in" in nvim.lua("return require('homespun').statusline()"))
    nvim.command("Homespun signin")
    nvim.until(lambda: nvim.lua("return require('homespun').statusline()") == "homespun")
    nvim.command("Homespun status")
    assert "Homespun: homespun" in nvim.lua("return vim.fn.execute('messages')")
    nvim.command("Homespun signout")
    nvim.until(lambda: [q.body["token"] for q in fake.questions if q.path == "/oauth/revoke"] == ["t0ken"])
    nvim.command("Homespun log")
    assert nvim.lua("return vim.fn.expand('%:p') == require('homespun.client').log_path()")


def test_the_health_check_names_what_is_wrong(nvim: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    nvim.lua("require('homespun').setup({ cmd = { 'homespun-is-not-there' }, keys = { accept = '<C-y>' } })")
    nvim.lua("vim.keymap.set('i', '<C-y>', 'x')")
    nvim.command("checkhealth homespun")
    assert "homespun-is-not-there is not there" in nvim.text and "pip install 'homespun[lsp]'" in nvim.text
    assert "the language server is not running" in nvim.text
    assert "<C-y> belongs to something else" in nvim.text


def test_the_health_check_is_content_where_all_is_well(each: Neovim, fake: FakeServer, tmp_path: Path) -> None:
    start(each, fake, tmp_path)
    each.type("<Esc>")
    each.command("checkhealth homespun")
    assert Path(sys.executable).name in each.text and "<Tab> accepts a suggestion" in each.text
    assert "ERROR" not in each.text and "WARN" not in each.text


def test_the_help_file_has_an_entry_for_each_command_and_function(nvim: Neovim, tmp_path: Path) -> None:
    shutil.copytree(PLUGIN / "doc", tmp_path / "doc")
    nvim.command(f"helptags {tmp_path}/doc")
    tags = {line.split("\t")[0] for line in (tmp_path / "doc/tags").read_text().splitlines()}
    commands = nvim.lua("return vim.tbl_keys(require('homespun.commands'))")
    functions = nvim.lua("return vim.tbl_keys(require('homespun'))")
    assert commands and functions
    assert {f":Homespun-{name}" for name in commands} | {f"homespun.{name}()" for name in functions} <= tags


def test_neovims_own_ghost_text_works_without_the_plugin(fake: FakeServer, tmp_path: Path) -> None:
    """As its README has it: letters that are typed right before the key stand once."""
    fake.default = "llo_world():\n    return 42"
    snippet = (PLUGIN / "README.md").read_text().partition("## Without the plugin")[2].split("```")[1]
    snippet = snippet.removeprefix("lua\n").replace("{ 'homespun', 'lsp' }", "...")
    with neovim("0.12", tmp_path) as nvim:
        nvim.command("filetype on")
        nvim.lua(snippet, [*HOMESPUN, "lsp", f"--server-url={fake.url}"])
        nvim.edit(tmp_path / "own.py", "\n")
        nvim.ready()
        nvim.until(lambda: fake.questions)  # it asks once for each key, and what comes too early isn't asked again
        nvim.type("idef he")
        nvim.shows("llo_world():\n    return 42", "nvim.lsp.inline_completion")
        nvim.paste("llo<Tab>")
        nvim.has("def hello_world():\n    return 42")
