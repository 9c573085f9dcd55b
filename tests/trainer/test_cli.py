from __future__ import annotations

import argparse
import random
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homespun_core import personal
from homespun_core.cli import main
from homespun_core.config import Settings
from homespun_core.errors import TooLittleCode
from homespun_core.loading import load_settings
from homespun_core.paths import DataDir, repo_id
from homespun_core.personal import Wish
from homespun_core.prompt import Prompt
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_core.types import EvalTask, SearchQuery, SilentProgress
from homespun_indexer import forgotten, people
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.repository import open_repository
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.engine.protocol import EngineRequest
from homespun_server.mixing import Around, mixer
from homespun_trainer import cli, heads, report
from homespun_trainer.cli import judging, preparing
from homespun_trainer.evaluate import Lookup
from homespun_trainer.job import Job
from homespun_trainer.pipeline import examples_of, recipe_of
from homespun_trainer.publishing import Outcome, _seen
from tests.repos import git, make_repo


def make_repository(root: Path) -> Path:
    (root / "basket.py").write_text("def total(items):\n    return sum(item.price for item in items)\n" * 5)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)
    return root


def test_too_little_code_is_said_below_what_there_is_and_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop").mkdir()
    source = make_repository(tmp_path / "shop")
    assert main(["train", str(source), "--data-dir", str(tmp_path / "data")]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("homespun:")]
    assert len(said) == 1 and "too little to train on" in said[0]
    assert not (tmp_path / "data" / "adapters").exists()


def prepared(tmp_path: Path, *sources: Path, **settings: Any) -> AbstractContextManager[Job]:
    """Of a shared adapter."""
    data, files = DataDir(tmp_path / "data"), resolve_base_model("builtin", "auto")
    repos = [open_repository(str(source), data, timeout_s=60, progress=SilentProgress()) for source in sources]
    scope = ScopeConfig(name="team", repositories=tuple(RepositoryConfig(source=str(source)) for source in sources))
    return preparing.prepared(repos, files, Settings(**settings), data, SilentProgress(), scope)


def test_a_repository_without_source_is_no_failure_that_is_tried_again_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = make_repo(tmp_path / "empty", {"NOTICE": "ours\n"})
    assert main(["train", str(empty), "--data-dir", str(tmp_path / "data")]) == 0
    assert "no source files to train on (1 unknown language)" in capsys.readouterr().out


def test_a_repository_without_source_keeps_no_shared_adapter_from_the_others(tmp_path: Path) -> None:
    """`repositories = "all"` is what people write, and some repository holds documents only."""
    (tmp_path / "shop").mkdir()
    shop, empty = make_repository(tmp_path / "shop"), make_repo(tmp_path / "empty", {"NOTICE": "ours\n"})
    with prepared(tmp_path, empty, shop) as job:
        assert [part.name for part in job.parts] == ["shop"]
        (left_out,) = job.left_out
        assert "empty: no source files to train on" in left_out.why
        facts = report.corpus_facts(job)
    wanted = {repo_id(str(each)): git(each, "rev-parse", "HEAD") for each in (shop, empty)}
    assert heads.trained_head(facts) == heads.joined(wanted)


def drawn_icons() -> str:
    """25 kB of code that every filter lets through: each line is too long to ask for, or says nothing."""
    rng = random.Random(1)
    paths = ("".join(rng.choices("abcdefghij klmnop", k=250)) for _ in range(100))
    return "".join(f"  f('{path}',\n  ),\n" for path in paths)


def test_a_repository_without_a_line_worth_learning_keeps_no_shared_adapter_from_the_others(tmp_path: Path) -> None:
    """By its size it could be learned from. The run ended at the first example of it, and was noted as done."""
    (tmp_path / "shop").mkdir()
    shop, drawn = make_repository(tmp_path / "shop"), make_repo(tmp_path / "drawn", {"icons.ts": drawn_icons()})
    with prepared(tmp_path, drawn, shop) as job:
        assert [part.name for part in job.parts] == ["shop"]
        (left_out,) = job.left_out
    assert left_out.why == "drawn: its 1 files are too little to train on: none has a line worth learning"
    with pytest.raises(TooLittleCode, match="team: none of its repositories"), prepared(tmp_path, drawn):
        pass


def test_files_without_a_line_worth_learning_are_counted_as_left_out(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "shop", {"icons.ts": drawn_icons(), "basket.py": part_of_a_shop(1)})
    with prepared(tmp_path, repo) as job:
        found = job.parts[0].corpus.report
    assert found["documents"] == 1 and found["skipped"]["no line worth learning"] == 1


def test_a_shared_adapter_of_repositories_without_source_is_too_little_code(tmp_path: Path) -> None:
    sources = [make_repo(tmp_path / name, {"NOTICE": "ours\n"}) for name in ("a", "b")]
    with pytest.raises(TooLittleCode, match="team: none of its repositories"), prepared(tmp_path, *sources):
        pass


def test_what_repositories_have_copied_from_one_another_is_trained_on_once(tmp_path: Path) -> None:
    basket = "def total(items):\n    return sum(item.price for item in items)\n" * 5
    shop = make_repo(tmp_path / "shop", {"basket.py": basket, "shop.py": "SHOP = open_shop(1)\n"})
    web = make_repo(tmp_path / "web", {"from_shop.py": basket, "web.py": "WEB = open_web(2)\n"})
    with prepared(tmp_path, shop, web) as job:
        found = {part.name: [d.path for d in part.corpus.documents] for part in job.parts}
        assert sorted(len(paths) for paths in found.values()) == [1, 2]
        assert {"shop.py", "web.py"} < {path for paths in found.values() for path in paths}


def test_snippets_found_by_vectors_make_another_adapter(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "shop", {"basket.py": part_of_a_shop(1)})
    fingerprints = set()
    for embedder in ("none", "builtin"):
        with prepared(tmp_path, repo, embedder=embedder) as job:
            fingerprints.add(job.fingerprint)
    assert len(fingerprints) == 2


def test_only_where_people_hear_the_repository_an_adapter_is_judged_with_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "shop", {"basket.py": part_of_a_shop(1)})
    with prepared(tmp_path, repo, mixing=False) as job:
        assert job.parts[0].corpus.lookup is None
    with prepared(tmp_path, repo) as job:
        lookup = job.parts[0].corpus.lookup
        assert lookup is not None
        ids = job.tokenizer.encode("    invoice_1_3 = charge_card(basket_1")
        assert lookup(place_in("other.py"))(ids)[1] and lookup(place_in("basket.py"))(ids)[1] == {}


def place_in(path: str) -> EvalTask:
    return EvalTask(path=path, language="python", commit="c", prefix="", middle="x", suffix="", seen=False)


def part_of_a_shop(n: int) -> str:
    return "".join(
        f"def order_{n}_{i}(basket_{n}, customer_{i}):\n"
        f"    invoice_{n}_{i} = charge_card(basket_{n}.total, customer_{i}.card)\n"
        f"    return invoice_{n}_{i}\n\n\n"
        for i in range(30)
    )


def test_what_may_not_be_learned_is_in_no_prompt_of_training_and_served_all_the_same(tmp_path: Path) -> None:
    """Snippets of it stood in most examples. They have no loss, and gradients depended on them."""
    pay = "def pay_{0}(basket_{0}):\n    return FORGOTTEN(basket_{0}.total, invoice_{0}_3)\n\n\n"
    theirs = (
        "class Refund{0}:\n    def of(self, basket_{0}):\n        self.COPYLEFT += [basket_{0}, invoice_{0}_7]\n\n\n"
    )
    files = {f"shop/part{n}.py": part_of_a_shop(n) for n in range(14)}
    files |= {f"pay/pay{n}.py": pay.format(n) for n in range(14)}
    files |= {f"theirs/refund{n}.py": "# GNU General Public License\n" + theirs.format(n) for n in range(14)}
    repo = make_repo(tmp_path / "shop", files)
    forgotten.add(DataDir(tmp_path / "data"), Forgotten(path="pay/**"))
    query = SearchQuery(prefix="    return basket_3 + [invoice", suffix="]\n", path="shop/part3.py", language="python")
    with prepared(tmp_path, repo) as job:
        served = "".join(snippet.text for snippet in job.parts[0].corpus.retrieve(query))
        stream, _ = examples_of(job, recipe_of(job, is_gpu=False), job.mix)
        prompts = "".join(job.tokenizer.decode(example.ids) for example in stream.batch(0, 40))
    assert "charge_card" in prompts
    for name in ("FORGOTTEN", "COPYLEFT"):
        assert name in served and name not in prompts


def test_what_stood_in_prompts_is_forgotten_like_what_was_learned(tmp_path: Path) -> None:
    """A near copy isn't learned, and snippets of it stood in prompts all the same: `homespun forget` passed over the
    adapter when it was asked for that file alone."""
    files = {f"shop/part{n}.py": part_of_a_shop(n) for n in range(3)}
    files |= {"pay/copied.py": part_of_a_shop(1) + "PAID = 1\n", "ours/gpl.py": "# GNU General Public License\nx = 1\n"}
    repo = make_repo(tmp_path / "shop", files)
    with prepared(tmp_path, repo) as job:
        documents = {d.path for d in job.parts[0].corpus.documents}
        asked = {t.path for t in job.parts[0].corpus.tasks}
        seen = {s.path for s in _seen(job, None) or []}
    twins = {"shop/part1.py", "pay/copied.py"}
    assert len(twins & documents) == 1 and asked and seen == documents | twins | asked
    with prepared(tmp_path, repo, retrieval=False) as job:
        assert {s.path for s in _seen(job, None) or []} == documents | twins | asked


def test_too_few_completions_to_tune_by_are_said_and_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop").mkdir()
    words = ["train", str(make_repository(tmp_path / "shop")), "--preferences", "--data-dir", str(tmp_path / "data")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "0 completions that were taken and 0 that were dismissed" in said and "keep_completions" in said
    assert main([*words, "--on-top-of", "v1"]) == 0, "that is about ordinary training"
    assert "are too few to tune by" in capsys.readouterr().out


def test_what_everybodys_adapter_stands_on_is_no_reason_to_refuse_somebodys_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands on what everybody has, so a setting for all repositories ended each of its trainings."""
    (tmp_path / "shop").mkdir()
    shop, data, config = make_repository(tmp_path / "shop"), tmp_path / "data", tmp_path / "homespun.toml"
    config.write_text('on_top_of = "@org"\n')
    authors = (people.author_hash(DataDir(data))("a@example.com"),)
    personal.want(DataDir(data), Wish(user="u1", name="ada", authors=authors, since=1.0))
    assert main(["train", str(shop), "--for", "ada", "--config", str(config), "--data-dir", str(data)]) == 0
    assert "too little to train on" in capsys.readouterr().out


@pytest.mark.parametrize(("flag", "said"), [("--for", "'': wants no adapter"), ("--commit", "has no commit ''")])
def test_an_empty_word_is_no_word_left_out(
    flag: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of `--for "$NOBODY"`, which is empty, everybody's adapter was trained."""
    (tmp_path / "shop").mkdir()
    source = make_repository(tmp_path / "shop")
    assert main(["train", str(source), flag, "", "--data-dir", str(tmp_path / "data")]) == 1
    assert said in capsys.readouterr().err


def test_a_directory_that_is_no_repository_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path), "--data-dir", str(tmp_path / "data")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_every_training_setting_is_a_flag() -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    args = parser.parse_args(["repo", "--train-minutes", "2", "--lora-rank", "4", "--max-file-kb", "9"])
    others = ("repository", "commit", "config", "lease", "owner", "preferences")
    settings = load_settings({k: v for k, v in vars(args).items() if k not in others}, {}).settings
    assert (settings.train_minutes, settings.lora_rank, settings.max_file_kb) == (2.0, 4, 9)


def test_an_adapter_that_is_there_already_is_named() -> None:
    said = cli.summary(Outcome(version="v1", path=Path("v1"), is_new=False, report={"promote": True}))
    assert "nothing has changed" in said and "v1" in said and "report:" not in said


def test_dictated_tokens_get_the_probabilities_of_an_ordinary_score() -> None:
    files = resolve_base_model("builtin", "auto")
    tokenizer = load_tokenizer(files)
    prompt, written = tokenizer.encode("def total(items):\n    return "), tokenizer.encode("sum(items) # Σ\n")
    with judging.opened_engine(files, Settings()) as engine:
        found = engine.score([*prompt, *written], len(prompt), None)
        assert found == pytest.approx(engine._engine.score([*prompt, *written], len(prompt), None), abs=1e-4)


def test_what_has_a_voice_scores_as_it_writes() -> None:
    """With the file of the place, up to what its prompt leaves to be spelled, and without its path in the index."""
    files, left_out = resolve_base_model("builtin", "auto"), list[str]()
    tokenizer = load_tokenizer(files)

    def lookup(place: EvalTask) -> Lookup:
        left_out.append(place.path)
        return lambda ids: (0, {})

    line = "    frobnicated = frobnicate(quuxes)\n"
    task = EvalTask(
        path="a.py",
        language="python",
        commit="c",
        prefix=f"def first(quuxes):\n{line}\n\ndef second(quuxes):\n    fro",
        middle="bnicated = frobnicate(quuxes)",
        suffix="\n",
        seen=False,
    )
    prompt = Prompt(ids=tuple(tokenizer.encode(task.prefix.removesuffix(" fro"))), snippets=(), opening=" fro")
    with judging.opened_engine(files, Settings()) as engine:
        generate, score = engine.mixing(lookup, frozenset())(task, prompt.opening)
        made = generate(prompt, 8, frozenset(), None)
        assert tokenizer.decode(made.ids).startswith(" frobnicated = ") and set(left_out) == {"a.py"}
        free = Prompt(ids=tuple(tokenizer.encode(task.prefix)), snippets=())
        generate, score = engine.mixing(lookup, frozenset())(task, "")
        written = generate(free, 8, frozenset(), None).ids
        told = engine._engine.generate(
            EngineRequest(
                ids=free.ids,
                max_new_tokens=8,
                mix=mixer(Around.cursor(tokenizer, task.prefix, "\n", ""), None, np.array([], dtype=np.int64)),
            )
        )
        assert [token.id for token in told.tokens] == written
        found = score([*free.ids, *written], len(free.ids), None)
        assert found == pytest.approx([token.logprob for token in told.tokens], abs=1e-4)
        assert sum(found) > sum(engine.score([*free.ids, *written], len(free.ids), None))
