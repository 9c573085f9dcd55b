"""The whole way, as a person goes it: repositories in, a model that transformers and our engine load out."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from homespun_core.cli import main
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.engine.torch_engine import TorchEngine
from homespun_trainer.pretrain import text
from homespun_trainer.pretrain.allowlist import parse
from tests.repos import commit, git, make_repo

MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\n"
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"
TOKEN = "ghp_" + "a1B2c3D4e5" * 4


def module(number: int) -> str:
    rng = random.Random(number)
    nouns = rng.sample(["order", "basket", "yarn", "price", "shelf", "parcel", "invoice", "country", "customer"], 4)
    return "".join(
        f'def load_{noun}_{number}(session, {noun}_id):\n    """Find one {noun}."""\n'
        f"    row = session.fetch_one({noun.upper()}, {noun}_id)\n    if row is None:\n"
        f"        raise LookupError({noun}_id)\n"
        f"    return {noun.title()}(row.{rng.choice(nouns)}, {rng.randrange(99)})\n\n\n"
        for noun in nouns
    )


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mirrors")
    files = {f"shop/part{i}.py": module(i) for i in range(24)}
    secret = {"shop/hook.py": f"{module(50)}\nGITHUB = '{TOKEN}'\n"}
    make_repo(root / "acme+shop", {"LICENSE": MIT, **files, **secret})
    commit(root / "acme+shop", {"shop/later.py": module(60)}, day=1)
    make_repo(root / "acme" / "tool", {"COPYING": GPL, "tool.py": module(70)})
    make_repo(root / "other+thing", {"LICENSE": MIT, "thing.py": module(80)})
    return root


@pytest.fixture(scope="module")
def made(mirrors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every step once; returns the folder."""
    root = tmp_path_factory.mktemp("pretrain")
    first = git(mirrors / "acme+shop", "rev-parse", "HEAD~1")
    (root / "list").write_text(f"acme/shop MIT python {first[:12]}\nacme/tool MIT python -\nacme/gone MIT python -\n")
    data = ["--dir", str(root / "made"), "--mirrors", str(mirrors), "--repositories", str(root / "list")]
    assert main(["pretrain", "extract", *data]) == 0
    assert main(["pretrain", "prepare", *data, "--passes", "3", "--held-out", "0.15", "--workers", "1"]) == 0
    train = ["--size", "tiny", "--tokens", "12000", "--batch-tokens", "2048", "--warm-up", "2", "--dtype", "float32"]
    assert main(["pretrain", "train", "--dir", str(root / "made"), *train]) == 0
    assert main(["pretrain", "export", "--dir", str(root / "made"), "--name", "A tiny one"]) == 0
    row = {"task_id": "Single/HumanEval/0/L0", "prompt": "def f():\n", "canonical_solution": "    return 1"}
    row["suffix"] = "\n"
    (root / "infill.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    places = ["--lines", "12", "--infilling", str(root / "infill.jsonl.gz"), "--dtype", "float32"]
    assert main(["pretrain", "evaluate", *data, *places]) == 0
    return root


def test_only_listed_permissive_repositories_go_in_and_without_secrets(made: Path) -> None:
    allowed = parse((made / "list").read_text(), "list")
    (taken,) = text.read(allowed, made / "made" / "text")
    assert taken.allowed.name == "acme/shop"
    paths = {document.path for document in taken.documents}
    assert "shop/part3.py" in paths and "shop/later.py" not in paths
    assert not any(TOKEN in document.text for document in taken.documents)
    assert [p.name for p in (made / "made" / "text").iterdir() if p.is_dir()] == ["acme+shop"]


def test_the_card_says_what_the_model_is(made: Path, mirrors: Path) -> None:
    card = (made / "made" / "model" / "MODEL_CARD.md").read_text()
    facts = json.loads((made / "made" / "model" / "pretraining.json").read_text())
    first = git(mirrors / "acme+shop", "rev-parse", "HEAD~1")
    assert card.startswith("# A tiny one\n")
    for told in (
        f"| acme/shop | {first} | MIT |",
        "acme/tool: has a licence file that isn't permissive (COPYING: gpl-3.0)",
        "not at hand: 1 repositories",
        f"{facts['training']['tokens']:,} in {facts['training']['steps']:,} steps",
        facts["weights_sha256"],
        "random weights, size tiny",
        "| seed | 0 (training), 0 (data) |",
        "- `muon_rate`: 0.02",
        "| tokens | seconds | loss per token |",
        "| python | ",
        "bits per byte (first 3,500 characters",
        "files that no sample was made of",
        "- made with `passes`: 3.0, `snippets`: 3, `held_out_share`: 0.15, `tokenizer`: builtin",
        "- on cpu float32; ",
        "tied embeddings |",
        "| without snippets, all | ",
        "| with snippets, python | ",
        "| gain from snippets | ",
        "infill.jsonl.gz, compared with the text",
        "In float32,",
        "On rows of held-out files, second phase",
    ):
        assert told in card, told
    assert "| unfinished |" not in card
    assert facts["training"]["tokens"] >= 12_000
    assert facts["training"]["loss"][-1][2] < facts["training"]["loss"][0][2]


def test_transformers_and_our_engine_load_it_with_the_same_logits(made: Path) -> None:
    files = resolve_base_model(str(made / "made" / "model"), "auto")
    ids = load_tokenizer(files).encode("def load_order(session, order_id):\n    return session.fetch_one(ORDER)\n")
    assert AutoTokenizer.from_pretrained(files.path)("def load", add_special_tokens=False)["input_ids"] == ids[:2]
    theirs = AutoModelForCausalLM.from_pretrained(files.path, dtype=torch.float32).eval()
    with torch.inference_mode():
        logprobs = theirs(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    engine = TorchEngine(Path(files.path), dtype="float32", device="cpu", num_threads=1)
    try:
        ours = engine.score(ids, 1, None)
    finally:
        engine.close()
    assert ours == pytest.approx([float(logprobs[i - 1, ids[i]]) for i in range(1, len(ids))], abs=1e-3)


def test_steps_that_are_done_are_not_done_again(made: Path, mirrors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list((made / "made" / "rows").iterdir())
    weights = (made / "made" / "model" / "model.safetensors").read_bytes()
    data = ["--dir", str(made / "made"), "--mirrors", str(mirrors), "--repositories", str(made / "list")]
    assert main(["pretrain", "prepare", *data, "--passes", "3", "--held-out", "0.15", "--workers", "1"]) == 0
    assert sorted((made / "made" / "rows").iterdir()) == sorted(rows)
    assert main(["pretrain", "export", "--dir", str(made / "made"), "--name", "A tiny one"]) == 0
    assert (made / "made" / "model" / "model.safetensors").read_bytes() == weights
    assert "| with snippets, all |" in (made / "made" / "model" / "MODEL_CARD.md").read_text()


def test_a_run_is_not_exported_with_the_card_of_other_data(
    made: Path, mirrors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made / "made", copy)
    data = ["--dir", str(copy), "--mirrors", str(mirrors), "--repositories", str(made / "list"), "--workers", "1"]
    assert main(["pretrain", "prepare", *data, "--passes", "0.5", "--held-out", "0.15"]) == 0
    assert main(["pretrain", "export", "--dir", str(copy)]) == 1
    assert "was trained on other rows" in capsys.readouterr().err


def test_a_model_goes_on_from_an_exported_one(made: Path) -> None:
    place = ["--dir", str(made / "made"), "--run", "more"]
    begin = ["--from", str(made / "made" / "model"), "--tokens", "2000", "--batch-tokens", "1024", "--dtype", "float32"]
    assert main(["pretrain", "train", *place, *begin]) == 0
    assert main(["pretrain", "export", *place, "--to", str(made / "more")]) == 0
    card = (made / "more" / "MODEL_CARD.md").read_text()
    assert f"| began from | {made / 'made' / 'model'}" in card and "None yet:" in card and "| unfinished |" not in card
    own, before = card.split("\n## What it began from\n")
    assert "\n### A tiny one\n" in before and "\n#### Data\n" in before, "what those weights saw is in these, too"
    assert "random weights, size tiny" in before and "random weights" not in own


def test_figures_of_files_that_it_may_have_seen_are_no_figures_of_the_card(
    made: Path, mirrors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made / "made", copy)
    card = (copy / "model" / "MODEL_CARD.md").read_text()
    data = ["--dir", str(copy), "--mirrors", str(mirrors), "--repositories", str(made / "list")]
    assert main(["pretrain", "prepare", *data, "--passes", "1", "--held-out", "0.4", "--workers", "1"]) == 0
    assert main(["pretrain", "evaluate", *data, "--lines", "4", "--dtype", "float32"]) == 0
    assert "held out by another preparation than this model's" in capsys.readouterr().out
    assert (copy / "model" / "MODEL_CARD.md").read_text() == card


def test_weights_without_a_card_are_said_to_be_unknown(made: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(made / "made" / "model", bare, ignore=shutil.ignore_patterns("*.md", "pretraining.json"))
    place = ["--dir", str(made / "made"), "--run", "bare"]
    begin = ["--from", str(bare), "--tokens", "9000", "--batch-tokens", "1024", "--dtype", "float32"]
    assert main(["pretrain", "train", *place, *begin]) == 0
    assert main(["pretrain", "export", *place, "--to", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert f"{bare}" in card and "came without a card: what those weights have seen isn't known" in card


def test_another_repository_around_a_mirror_is_not_taken_for_it(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Git looks in the folders around one that is none of its own: code of anybody's would have gone in."""
    make_repo(tmp_path / "private", {"LICENSE": MIT, "secret.py": module(90)})
    mirror = tmp_path / "private" / "mirrors" / "acme+shop"
    mirror.mkdir(parents=True)
    (mirror / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "list").write_text("acme/shop MIT python -\n")
    words = ["--dir", str(tmp_path / "new"), "--mirrors", str(mirror.parent), "--repositories", str(tmp_path / "list")]
    assert main(["pretrain", "extract", *words]) == 1
    assert "holds none of the 1 on the list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--tokens", "-1"], "is not a whole number above 0"),
        (["train", "--minutes", "-3"], "is not a number above 0"),
        (["train", "--decay", "7"], "is not a number from 0 to 1"),
        (["prepare", "--held-out", "nan"], "is not a number from 0 to 1"),
        (["evaluate", "--lines", "0"], "is not a whole number above 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["pretrain", *words])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["extract", "--only", "other/thing"], "other/thing is not on the allow-list"),
        (["train", "--run", "../elsewhere"], "no name of a folder"),
        (["train", "--size", "19m"], "another --run"),
        (["export", "--run", "none"], "no run is there"),
        (["export", "--to", "."], "is no export of ours"),
        (["evaluate", "--infilling", "nowhere.jsonl"], "nowhere.jsonl can't be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    made: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step, *flags = words
    assert main(["pretrain", step, "--dir", str(made / "made"), *flags]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("homespun: ") and said in last


def test_several_processes_make_the_samples_of_one(mirrors: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("acme/shop MIT python -\nother/thing MIT python -\n")
    rows = []
    for workers in ("1", "2"):
        data = ["--dir", str(tmp_path / workers), "--mirrors", str(mirrors), "--repositories", str(tmp_path / "list")]
        assert main(["pretrain", "extract", *data]) == 0
        assert main(["pretrain", "prepare", *data, "--workers", workers, "--passes", "0.2"]) == 0
        (part,) = (tmp_path / workers / "rows").glob("*/first-0000.bin")
        rows.append(part.read_bytes())
    assert rows[0] == rows[1]


def test_an_empty_folder_says_which_step_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "train", "--dir", str(tmp_path)]) == 1
    assert "homespun pretrain prepare" in capsys.readouterr().err
    assert main(["pretrain", "prepare", "--dir", str(tmp_path)]) == 1
    assert "homespun pretrain extract" in capsys.readouterr().err
    assert main(["pretrain", "extract", "--dir", str(tmp_path), "--mirrors", str(tmp_path)]) == 1
    assert "holds none of the" in capsys.readouterr().err
