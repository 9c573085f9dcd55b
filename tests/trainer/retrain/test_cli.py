"""`homespun retrain` on a real repository, with a real engine and a base model of one layer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from homespun_core import registry
from homespun_core.cli import main
from homespun_core.paths import DataDir, repo_id
from homespun_core.retraining import read_scores
from homespun_indexer import forgotten
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.model_files import resolve_base_model
from tests.e2e.company import make_company
from tests.repos import git
from tests.tiny_base import make_base, write_adapter


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The command takes them over for the time of its process, which is ours here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Arguments about a repository whose live adapter was trained 40 commits ago."""
    shop, base = make_company(tmp_path / "shop"), make_base(tmp_path / "base")
    before = git(shop, "rev-parse", "HEAD~40")
    judged = {"adapter+retrieval": {"all": {"bits_per_byte": {"value": 1.0, "low": 0.9, "high": 1.1}}}}
    report = {"corpus": {"head": before, "commit": before}, "arms": judged}
    adapters, version = DataDir(tmp_path / "data").adapters(repo_id(str(shop))), registry.new_version("0" * 8)
    sources = {"base_model": resolve_base_model(str(base), "auto").digest}
    with registry.publish_adapter(adapters / version, fingerprint="0" * 8, sources=sources, report=report) as folder:
        write_adapter(base, folder)
    registry.promote(adapters, version)
    return [str(shop), f"--data-dir={tmp_path / 'data'}", f"--base-model={base}", "--drift-places=15"]


def test_a_look_measures_the_live_adapter_on_what_was_written_since(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retrain", *words]) == 0
    said = capsys.readouterr().out
    assert "not now:" in said and "less than 150 kB" in said
    assert "bits per byte at 15 places" in said and "(alarm)" in said  # its random weights know nothing
    (score,) = read_scores(DataDir(tmp_path / "data").retraining(repo_id(words[0])))
    assert score.head == git(tmp_path / "shop", "rev-parse", "HEAD") and score.bits_per_byte > 1.1
    assert main(["retrain", *words]) == 0
    assert "bits per byte" not in capsys.readouterr().out  # once a day is enough
    page = tmp_path / "drift.html"
    assert main(["retrain", *words, "--report", str(page)]) == 0
    assert f"{score.bits_per_byte:.3f}" in page.read_text()
    assert main(["status", f"--data-dir={tmp_path / 'data'}"]) == 0
    assert "ALARM" in capsys.readouterr().out


def test_a_shared_adapter_is_measured_in_each_of_its_repositories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What each of them learned of is known by its own commit; twelve places are the least that say something."""
    repositories, base = [make_company(tmp_path / name) for name in ("shop", "web")], make_base(tmp_path / "base")
    config, adapters = tmp_path / "homespun.toml", DataDir(tmp_path / "data").adapters("@team")
    tables = [f'[[repository]]\nname = "{path.name}"\nsource = "{path}"' for path in repositories]
    config.write_text("\n".join([*tables, '[[adapter]]\nname = "team"\nrepositories = "all"']))
    heads = {repo_id(str(path)): git(path, "rev-parse", "HEAD~40") for path in repositories}
    report = {"corpora": {id: {"sources": {"head": head, "commit": head}} for id, head in heads.items()}}
    sources = {"base_model": resolve_base_model(str(base), "auto").digest, "repositories": " ".join(heads)}
    version = registry.new_version("0" * 8)
    with registry.publish_adapter(adapters / version, fingerprint="0" * 8, sources=sources, report=report) as folder:
        write_adapter(base, folder)
    registry.promote(adapters, version)
    words = [f"--config={config}", f"--data-dir={tmp_path / 'data'}", f"--base-model={base}", "--drift-places=15"]
    assert main(["retrain", "team", *words]) == 0
    assert "bits per byte at 24 places" in capsys.readouterr().out


def test_an_alarm_makes_training_due_where_that_is_wanted(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", *words]) == 0
    wanted = ["--retrain-on-drift", "--retrain-gap-hours=0", "--dry-run"]
    assert main(["retrain", *words, *wanted]) == 0
    assert "due: " in (said := capsys.readouterr().out) and "less likely" in said


def test_a_repository_that_is_forgotten_is_never_due(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    data_dir, base = words[1], words[2]
    assert main(["forget", words[0], "--yes", data_dir, base]) == 0
    assert "trained" not in capsys.readouterr().err
    assert main(["retrain", "--dry-run", *words]) == 0
    assert "not now: all of it is to be forgotten" in capsys.readouterr().out


def test_a_look_takes_away_what_is_to_be_forgotten_and_a_dry_one_does_not(words: list[str], tmp_path: Path) -> None:
    """`homespun forget` was killed behind its first write."""
    data = DataDir(tmp_path / "data")
    forgotten.add(data, Forgotten(repository=repo_id(words[0])))
    adapters = data.adapters(repo_id(words[0]))
    assert main(["retrain", "--dry-run", *words]) == 0
    assert registry.live(adapters) is not None
    assert main(["retrain", *words]) == 0
    assert registry.live(adapters) is None and registry.versions(adapters) == []


@pytest.mark.parametrize("words", [["retrain"], ["eval", "."]])
def test_a_page_that_could_not_be_written_is_refused_before_anything_is_measured(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--report", str(tmp_path)])
    assert exit_.value.code == 2 and "is a directory; name a file" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["--retrain-schedule=daily", "--retrain-window=9-5", "--retrain-timezone=Mars"])
def test_a_setting_that_makes_no_sense_is_one_line(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retrain", str(tmp_path), f"--data-dir={tmp_path}", setting]) == 1
    assert capsys.readouterr().err.count("\n") == 1
