"""`homespun eval` for real, with the built-in model on a repository of a few functions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from homespun_core import registry, storage
from homespun_core.cli import main
from homespun_core.config import Settings
from homespun_core.paths import DataDir, repo_id
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.past import Past
from homespun_indexer.reader import IndexReader
from homespun_trainer.lora import Masters, attach, load_base, save_adapter
from homespun_trainer.methods import peft_config
from tests.repos import commit, git, make_repo
from tests.trainer.tiny import CPU


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository, and the commit before its last functions."""
    root = tmp_path_factory.mktemp("eval")
    text = "".join(f"def price_{i}(item):\n    return item.net_{i} * (1 + VAT)\n\n\n" for i in range(20))
    path = make_repo(root / "shop", {"prices.py": text})
    before = commit(path, {"README.md": "shop\n"}, "Readme", day=1)
    for i in range(20, 24):
        text += f"def price_{i}(item):\n    return item.net_{i} * (1 + VAT)\n\n\n"
        commit(path, {"prices.py": text}, f"Add {i}", day=i)
    return path, before


def evaluate(shop: tuple[Path, str], data: Path, *more: str) -> int:
    return main(["eval", str(shop[0]), "--since", shop[1], "--data-dir", str(data), *more])


def test_a_table_and_a_page_and_a_second_time_only_what_is_new(
    shop: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "pages" / "shop.html"
    assert evaluate(shop, tmp_path / "data", "--places", "2", "--report", str(page)) == 0
    said = capsys.readouterr().out
    assert "base+retrieval - base+random snippets" in said and f"report: {page}" in said
    assert "Completions in shop" in page.read_text(encoding="utf-8")
    (log,) = DataDir(tmp_path / "data").root.glob("evaluations/*/*.jsonl")
    first = log.read_bytes()
    assert evaluate(shop, tmp_path / "data", "--places", "3") == 0
    assert log.read_bytes().startswith(first)
    assert log.read_bytes().count(b"\n") == first.count(b"\n") * 3 // 2


def test_a_line_is_asked_for_with_the_index_of_the_commit_before_its_own(
    shop: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with that of the cut, which is older than any server's."""
    asked: list[str] = []
    before = Past.before

    def told(past: Past, commit: str) -> IndexReader:
        index = before(past, commit)
        assert index is not None
        asked.append(f"{commit} {index.manifest.sources['commit']}")
        return index

    monkeypatch.setattr(Past, "before", told)
    assert evaluate(shop, tmp_path / "data", "--places", "8") == 0
    log = git(shop[0], "log", "--first-parent", "--format=%H %P").splitlines()
    assert len(set(asked)) > 1 and set(asked) <= set(log)
    oldest_first = list(dict.fromkeys(asked))
    assert oldest_first == sorted(oldest_first, key=log.index, reverse=True)


def test_scores_of_other_prompts_are_not_taken_for_these(shop: tuple[Path, str], tmp_path: Path) -> None:
    """With the word before the cursor spelled again, a completion is another one."""
    logs: set[Path] = set()
    for number, healing in enumerate(("on", "off"), 1):
        assert evaluate(shop, tmp_path, "--places", "1", "--token-healing", healing) == 0
        logs |= set(tmp_path.glob("evaluations/*/*.jsonl"))
        assert len(logs) == number


def test_scores_with_other_rules_for_what_is_indexed_are_not_taken_for_these(
    shop: tuple[Path, str], tmp_path: Path
) -> None:
    """Of commits after the cut as well, whose folders the index of the cut doesn't tell apart."""
    logs: set[Path] = set()
    for number, exclude in enumerate(("", 'exclude = ["gen/"]'), 1):
        config = tmp_path / "homespun.toml"
        config.write_text(f'[[repository]]\nsource = "{shop[0]}"\nname = "shop"\n{exclude}\n')
        words = ["eval", "shop", "--since", shop[1], "--data-dir", str(tmp_path / "data"), "--places", "1"]
        assert main([*words, "--config", str(config)]) == 0
        logs |= set(tmp_path.glob("data/evaluations/*/*.jsonl"))
        assert len(logs) == number


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--adapter", "nonsense"), "no version 'nonsense'"),
        (("--adapter", "../.."), "no version '../..'"),
        (("--other", "nowhere"), "give the directory of an adapter"),
    ],
)
def test_what_is_not_there_is_one_line(
    shop: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, str], said: str
) -> None:
    assert evaluate(shop, tmp_path, *flags, "--places", "2") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("homespun:")]
    assert said in line


def test_each_repository_of_a_shared_adapter_is_measured_with_it(
    shop: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said: no such directory, 'team'."""
    data, files = DataDir(tmp_path / "data"), resolve_base_model(Settings().base_model, Settings().fim_family)
    web = Path(shutil.copytree(shop[0], tmp_path / "web"))
    model = load_base(files, CPU)
    model = attach(model, peft_config("lora", 2, model))
    save_adapter(model, Masters(model).copy(), files.name, tmp_path / "weights")
    saw = {"repositories": f"{repo_id(str(shop[0]))} {repo_id(str(web))}"}
    sources = {"base_model": files.digest, **saw}
    with registry.publish_adapter(data.adapters("@team") / "t1", fingerprint="f", sources=sources, report={}) as folder:
        shutil.copytree(tmp_path / "weights", folder, dirs_exist_ok=True)
    storage.set_current(data.adapters("@team"), "t1")
    tables = "".join(f'[[repository]]\nname = "{n}"\nsource = "{p}"\n' for n, p in (("shop", shop[0]), ("web", web)))
    config = tmp_path / "homespun.toml"
    config.write_text(f'{tables}[[adapter]]\nname = "team"\nrepositories = "all"\n', encoding="utf-8")
    shared = ["--config", str(config), "--since", shop[1], "--data-dir", str(data.root), "--places", "1"]
    assert main(["eval", "--repo", "team", *shared]) == 0
    said = capsys.readouterr().out
    assert said.count("adapter @team/t1;") == 2 and "adapter+retrieval - base+retrieval" in said
    assert main(["eval", "shop", *shared]) == 0  # lent
    assert "adapter @team/t1;" in capsys.readouterr().out
    assert main(["eval", "team", "--report", "all.html", *shared]) == 1
    assert "--report: team is 2 repositories; name one" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["shop", "--repo", "shop"]])
def test_a_repository_is_named_once(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["eval", *words])
    assert exit_.value.code == 2


@pytest.mark.parametrize("count", ["0", "-1", "many", "1.5"])
def test_places_are_a_number(shop: tuple[Path, str], tmp_path: Path, count: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        evaluate(shop, tmp_path, "--places", count)
    assert exit_.value.code == 2
