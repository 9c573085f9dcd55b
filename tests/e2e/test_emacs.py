"""Our package in the real Emacs: ghost text of lsp-mode, completion-at-point of Eglot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.emacs import PACKAGE, emacs
from tests.e2e.command import HOMESPUN
from tests.lsp.fake_server import FakeServer
from tests.lsp.signin.test_device import CODE, error
from tests.lsp.threaded import threaded_fake_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # the first download counts


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with threaded_fake_server() as server:
        yield server


def settings(fake: FakeServer) -> str:
    command = " ".join(json.dumps(word) for word in [*HOMESPUN, "lsp"])
    # A menu isn't kept waiting longer than this, and a test asks once.
    options = f":serverUrl {json.dumps(fake.url)} :completionDeadlineMs 20000"
    return f"(setq homespun-command '({command}) homespun-settings '({options}))"


LSP_MODE = """
(require 'lsp-mode) (require 'lsp-inline-completion)
(setq lsp-enabled-clients '(homespun) lsp-auto-guess-root t lsp-keep-workspace-alive nil lsp-enable-snippet nil
      lsp-session-file (expand-file-name "session") lsp-warn-no-matched-clients nil lsp-lens-enable nil)
(homespun-lsp-mode-setup)
(find-file "sample.py") (python-mode) (lsp-workspace-folders-add default-directory) (lsp)
(wait-for (lambda () (lsp-feature? "textDocument/inlineCompletion")))
(defun ask (text)
  (erase-buffer) (insert text) (lsp--flush-delayed-changes) (lsp-inline-completion-display)
  (wait-for (lambda () lsp-inline-completion--overlay)))
"""


def test_lsp_mode_shows_ghost_text_and_accepts_it(fake: FakeServer, tmp_path: Path) -> None:
    """It announces nothing (its capability is null), and counts positions in characters (UTF-32)."""
    fake.default = {"id": "cmpl-7", "choices": [{"index": 0, "text": "'🧵',\n    '🪡')"}]}
    said = emacs(
        settings(fake)
        + LSP_MODE
        + """
        (let ((server (car (lsp-workspaces))))
          (say 'announced (prin1-to-string
                           (assq 'inlineCompletion (alist-get 'textDocument (lsp--client-capabilities)))))
          (say 'counts (lsp-get (lsp--workspace-server-capabilities server) :positionEncoding)))
        (ask "f('🧶', ")
        (say 'ghost (substring-no-properties (or (overlay-get lsp-inline-completion--overlay 'after-string) "")))
        (say 'delay lsp-inline-completion-idle-delay)
        (lsp-inline-completion-accept)
        (say 'text (buffer-string))
        (set-buffer-modified-p nil)
        (lsp-workspace-shutdown (car (lsp-workspaces)))
        (wait-for (lambda () (null (lsp-workspaces))))
        """,
        tmp_path,
    )
    assert (said["announced"], said["counts"]) == ("(inlineCompletion)", "utf-32")
    assert said["text"] == "f('🧶', '🧵',\n    '🪡')"
    assert "'🧵'" in str(said["ghost"])
    assert said["delay"] == 0.1
    assert fake.requests[0].body["prompt"] == "f('🧶', "
    events = [e for request in fake.requests for e in request.body.get("events", [])]
    assert [e["characters"] for e in events if e["kind"] == "accepted"] == [len("'🧵',\n    '🪡')")]


def test_lsp_mode_accepts_a_word_and_a_line_and_then_the_rest(fake: FakeServer, tmp_path: Path) -> None:
    """What stays needs no second request, and what was accepted in pieces was accepted whole."""
    fake.default = {"id": "cmpl-7", "choices": [{"index": 0, "text": "'🧵x', two,\n  three,\n  four)"}]}
    said = emacs(
        settings(fake)
        + LSP_MODE
        + """
        (defun press (keys)  ; as its own keys do, in a batch that has no keyboard
          (let ((this-command (lookup-key lsp-inline-completion-active-map (kbd keys))))
            (run-hooks 'pre-command-hook) (call-interactively this-command)))
        (ask "f('🧶', ")
        (press "C-<right>") (say 'quote (buffer-string))
        (press "C-<right>") (press "C-<right>") (press "C-<right>") (say 'word (buffer-string))
        (press "C-<down>") (say 'line (buffer-string))
        (say 'ghost (substring-no-properties (overlay-get lsp-inline-completion--overlay 'after-string)))
        (press "C-<return>") (say 'text (buffer-string))
        (set-buffer-modified-p nil)
        (lsp-workspace-shutdown (car (lsp-workspaces)))
        (wait-for (lambda () (null (lsp-workspaces))))
        """,
        tmp_path,
    )
    assert said["quote"] == "f('🧶', '🧵"
    assert said["word"] == "f('🧶', '🧵x', two"
    assert said["line"] == "f('🧶', '🧵x', two,\n"
    assert str(said["ghost"]).lstrip() == "three,\n  four)"
    assert said["text"] == "f('🧶', '🧵x', two,\n  three,\n  four)"
    assert len([request for request in fake.requests if request.body.get("prompt") == "f('🧶', "]) == 1
    events = [e for request in fake.requests for e in request.body.get("events", [])]
    assert sum(e["characters"] for e in events if e["kind"] == "accepted") == len("'🧵x', two,\n  three,\n  four)")


def test_lsp_mode_shows_in_the_mode_line_that_the_server_is_away(fake: FakeServer, tmp_path: Path) -> None:
    away = settings(fake).replace(fake.url, "http://127.0.0.1:1")
    said = emacs(
        away
        + LSP_MODE
        + """
        (wait-for (lambda () homespun-status))
        (say 'status (eval (cadr homespun-mode-line)))  ; there is no window in batch mode
        (set-buffer-modified-p nil)
        """,
        tmp_path,
    )
    assert str(said["status"]).startswith(" Homespun: http://127.0.0.1:1 ")


def test_signing_in_and_out_asks_our_server_alone(fake: FakeServer, tmp_path: Path) -> None:
    """The other one is a server that would do the same."""
    pages = {"/v1/models": 401, "/oauth/device/code": CODE, "/oauth/token": error("authorization_pending")}
    fake.pages |= pages
    with threaded_fake_server() as other:
        other.pages |= pages
        command = " ".join(json.dumps(word) for word in [*HOMESPUN, "lsp", f"--server-url={other.url}"])
        said = emacs(
            settings(fake)
            + LSP_MODE.replace("'(homespun)", "'(homespun other)").replace(
                "(homespun-lsp-mode-setup)",
                f"""(homespun-lsp-mode-setup)
                (lsp-register-client (make-lsp-client :new-connection (lsp-stdio-connection '({command}))
                  :activation-fn (lambda (&rest _) t) :add-on? t :server-id 'other))""",
            )
            + """
            (wait-for (lambda () (length= (seq-filter (lambda (w) (eq (lsp--workspace-status w) 'initialized))
                                                      (lsp-workspaces)) 2)))
            (wait-for (lambda () homespun-status))  ; that one has to sign in
            (setq browse-url-browser-function (lambda (page &rest _) (say 'opened page)))
            (homespun-sign-in)
            (say 'code (current-kill 0))
            (homespun-sign-out)
            (set-buffer-modified-p nil)
            """,
            tmp_path,
        )
        assert said == {"opened": CODE["verification_uri"], "code": CODE["user_code"]}
        assert [q.path for q in fake.questions].count("/oauth/device/code") == 1
        assert not [q.path for q in other.questions if q.path.startswith("/oauth/")]


def test_eglot_completes_at_point(fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "llo(name,\n      greeting)"
    said = emacs(
        settings(fake)
        + """
        (require 'eglot) (setq eglot-sync-connect t eglot-autoshutdown t)
        (find-file "sample.py") (python-mode) (homespun-eglot-ensure) (run-hooks 'post-command-hook)
        (wait-for #'eglot-current-server)
        (insert "he")
        (eglot--signal-textDocument/didChange)
        (completion-at-point)
        (say 'text (buffer-string))
        (set-buffer-modified-p nil)
        """,
        tmp_path,
    )
    assert said["text"] == "hello(name,\n      greeting)"


def test_eglot_accepts_a_word_and_a_line(fake: FakeServer, tmp_path: Path) -> None:
    fake.default = "llo(name,\n      greeting)"
    said = emacs(
        settings(fake)
        + """
        (require 'eglot) (setq eglot-sync-connect t eglot-autoshutdown t)
        (find-file "sample.py") (python-mode) (homespun-eglot-ensure) (run-hooks 'post-command-hook)
        (wait-for #'eglot-current-server)
        (insert "he")
        (homespun-accept-word) (say 'word (buffer-string))
        (homespun-accept-line) (say 'line (buffer-string))
        (set-buffer-modified-p nil)
        """,
        tmp_path,
    )
    assert said == {"word": "hello", "line": "hello(name,\n"}


def test_the_package_compiles_without_a_warning(tmp_path: Path) -> None:
    source = json.dumps(str(PACKAGE / "homespun.el"))
    said = emacs(
        f"""
        (require 'bytecomp)
        (setq byte-compile-error-on-warn t byte-compile-dest-file-function (lambda (_) (expand-file-name "out.elc")))
        (byte-compile-file {source})
        (say 'problems (if (get-buffer "*Compile-Log*") (with-current-buffer "*Compile-Log*" (buffer-string)) ""))
        """,
        tmp_path,
    )
    assert said == {"problems": ""}
