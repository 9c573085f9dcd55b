import subprocess
import sys

import pytest

from homespun_core.cli import VERBS, main


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


def test_a_missing_package_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['homespun_trainer.cli'] = None\n"
        "from homespun_core.cli import main; sys.exit(main(['train', '.']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "homespun train needs the trainer extra" in done.stderr
    assert "pip install 'homespun[trainer]'" in done.stderr
