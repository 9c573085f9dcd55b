"""The real Emacs in batch mode: a scenario in Lisp, and what it said."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.clients.debian import command, unpacked

PACKAGE = Path(__file__).parents[3] / "lsp/editors/emacs"
_TIMEOUT_S = 90
_PRELUDE = """
(setq create-lockfiles nil make-backup-files nil native-comp-jit-compilation nil
      native-comp-enable-subr-trampolines nil warning-minimum-level :error)
(defun wait-for (holds)
  (with-timeout (30 (error "Never came: %S" holds))
    (while (not (funcall holds)) (accept-process-output nil 0.02))))
(defun say (name value)
  (princ (format "said %s\\n" (decode-coding-string (json-serialize (list (cons name value))) 'utf-8))))
(require 'homespun)
"""


def emacs(scenario: str, folder: Path) -> Mapping[str, object]:
    """Runs `scenario`; what it gave to `(say 'name "text")`, by name."""
    script = folder / "scenario.el"
    script.write_text(_PRELUDE + scenario)
    root = unpacked("emacs-30")
    words = [*command(root, "usr/bin/emacs-nox"), f"--dump-file={_dump(root)}", "--batch", "-Q"]
    result = subprocess.run(
        [*words, "-L", str(PACKAGE), "-l", str(script)],
        env=os.environ | _environ(root, folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    said: dict[str, object] = {}
    for line in result.stdout.splitlines():
        if line.startswith("said "):
            said |= json.loads(line.removeprefix("said "))
    assert said, result.stderr
    return said


def _dump(root: Path) -> Path:
    return next((root / "usr/libexec/emacs").glob("*/*/emacs-*.pdmp"))


def _environ(root: Path, folder: Path) -> dict[str, str]:
    share = next((root / "usr/share/emacs").glob("[0-9]*"))
    packages = root / "usr/share/emacs/site-lisp/elpa-src"
    lisp = [share / "lisp", *(path for path in (share / "lisp").iterdir() if path.is_dir()), *packages.iterdir()]
    return {
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
        "EMACSDATA": str(share / "etc"),
        "EMACSDOC": str(share / "etc"),
        "EMACSPATH": str(_dump(root).parent),
        "EMACSLOADPATH": os.pathsep.join(map(str, lisp)),
    }
