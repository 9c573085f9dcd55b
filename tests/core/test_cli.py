import io
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from homespun_core import __version__, cli
from homespun_core.cli import VERBS, is_confirmed, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_teaches(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert VERBS[verb].help[:30].capitalize() in shown


def test_an_unknown_verb_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["indx"])
    assert caught.value.code == 2
    assert "indx" in capsys.readouterr().err


def test_a_bad_setting_is_one_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--port", "x"]) == 1
    assert capsys.readouterr().err == "homespun: --port: 'x' is not a whole number\n"


def test_the_end_of_input_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-D at "Go on?" was a traceback."""

    def answer(text: str | None) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", io.StringIO(text))
            return is_confirmed("Go on?")

    assert [answer(text) for text in ("", "\n", "n\n", "y\n", " Yes \n")] == [False, False, False, True, True]


def test_a_missing_package_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['homespun_trainer.cli'] = None\n"
        "from homespun_core.cli import main; sys.exit(main(['train', '.']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "homespun train needs the trainer extra" in done.stderr
    assert "pip install 'homespun[trainer]'" in done.stderr


def test_a_repository_that_we_stand_in_gives_no_code_to_what_we_start(tmp_path: Path) -> None:
    """Its `homespun_core` would be imported by training's restart and by the children of `up`."""
    (tmp_path / "homespun_core").mkdir()
    (tmp_path / "homespun_core" / "__init__.py").write_text("raise SystemExit('imported from the repository')\n")
    code = (
        "import subprocess, sys\n"
        "from homespun_core.cli import main\n"
        "sys.argv = ['homespun', 'status', '--port', 'x']\n"
        "main()\n"
        "sys.exit(subprocess.call([sys.executable, '-m', 'homespun_core.cli', '--version']))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert __version__ in done.stdout


def test_a_full_disk_that_a_library_in_rust_tells_of_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """safetensors has an exception of its own, which was shown as a traceback after hours of training."""

    def full(words: list[str]) -> int:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(cli, "_run", full)
    assert main(["train"]) == 1
    said = capsys.readouterr().err
    assert "disk is full" in said and "Traceback" not in said and said.count("\n") == 1
