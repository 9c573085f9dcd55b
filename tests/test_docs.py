"""What the documentation says exists, exists: commands, flags, settings, files, make targets."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from homespun_core import repositories
from homespun_core.cli import VERBS
from homespun_core.config import SETTINGS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "deploy/README.md",
    "deploy/bundle/README.md",
    "deploy/helm/homespun/README.md",
    "core/SETTINGS.md",
    "indexer/README.md",
    "trainer/README.md",
    "server/README.md",
    "lsp/editors/README.md",
    "lsp/editors/emacs/README.md",
    "lsp/editors/neovim/README.md",
    "lsp/editors/vscode/README.md",
    "tests/faults/README.md",
    "SECURITY.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
KNOWN = {*SETTINGS, *repositories.KEYS}
MAKEFILE = (ROOT / "Makefile").read_text()
_BEFORE = re.compile(
    r"(?:[\d*]+(?: [\d*]+){4} |sudo (?:-u \w+ )?|[A-Z_]+=\S* |kubectl exec \S+ -- "
    r"|docker compose (?:-f \S+ )?exec \S+ )*"
    r"(?:\S+/bin/)?(?=(?:homespun|make) )"
)
"""What may stand before a command of ours: when, as whom, with what, where."""


def command_lines(document: str) -> Iterator[str]:
    """Commands in code blocks: fenced or indented lines, and the ExecStart of the unit."""
    text = (ROOT / document).read_text()
    fenced = re.findall(r"```(?:sh|bash|console|crontab)?\n(.*?)```", text, re.DOTALL)
    indented = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    for block in fenced + indented:
        for line in block.splitlines():
            yield from commands_of(line.strip().removeprefix("$ ").split("   #")[0])


def commands_of(line: str) -> Iterator[str]:
    """Each by itself, without what stands before it and where its output goes; what a shell puts in is one word."""
    for part in re.split(r" (?:&&|\|) ", re.sub(r"\$\([^)]*\)", "X", line)):
        command = re.sub(r" >\S+$", "", part.strip())
        before = _BEFORE.match(command)
        yield command[before.end() :] if before else command


def documented(tool: str) -> list[str]:
    lines = [line for document in DOCUMENTS for line in command_lines(document) if line.startswith(tool + " ")]
    if tool == "homespun":
        unit = (ROOT / "deploy/systemd/homespun.service").read_text()
        lines += re.findall(r"ExecStart=\S+/(homespun .*)", unit)
    return sorted(set(lines))


def test_commands_are_found_behind_what_stands_before_them() -> None:
    lines = {
        "sudo -u homespun homespun user list": ["homespun user list"],
        "0 3 * * * homespun backup a-$(date +\\%u).gz && homespun status": [
            "homespun backup a-X.gz",
            "homespun status",
        ],
        "kubectl exec statefulset/homespun -- homespun backup a.gz >b": ["homespun backup a.gz"],
        "docker compose -f c.yaml exec homespun homespun doctor": ["homespun doctor"],
        "sudo git clone a b && sudo make -C /opt/homespun setup": ["sudo git clone a b", "make -C /opt/homespun setup"],
        "homespun/bin/homespun up a": ["homespun up a"],
        "helm install homespun a.tgz": ["helm install homespun a.tgz"],
    }
    assert {line: list(commands_of(line)) for line in lines} == lines


@pytest.mark.parametrize("line", documented("homespun"))
def test_documented_commands_parse(line: str) -> None:
    verb, *words = shlex.split(line, comments=True)[1:]
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(VERBS[verb].module).add_arguments(parser)
    parser.parse_args(words)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_verbs_and_flags_in_running_text_exist(document: str) -> None:
    """What stands between backticks may leave arguments out; so only these can be checked."""
    between = re.findall(r"(?<!`)`([^`]+)`(?!`)", (ROOT / document).read_text())
    commands = [command for text in between for command in commands_of(" ".join(text.split()))]
    for line in (command for command in commands if re.match("homespun [a-z]", command)):
        verb, *words = line.split()[1:]
        parser = argparse.ArgumentParser()
        importlib.import_module(VERBS[verb].module).add_arguments(parser)
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert flags <= all_flags(parser), line


def all_flags(parser: argparse.ArgumentParser) -> set[str]:
    below = [action.choices.values() for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return set(parser._option_string_actions).union(*(all_flags(sub) for subs in below for sub in subs))


@pytest.mark.parametrize("line", documented("make"))
def test_documented_make_targets_exist(line: str) -> None:
    words = shlex.split(re.sub(r" -C \S+", "", line), comments=True)[1:]
    targets = [w for w in words if "=" not in w and not w.startswith("-")]
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in targets)


def test_each_night_all_is_run_that_make_test_leaves_out() -> None:
    nightly = (ROOT / ".ci/nightly").read_text()
    assert set(re.findall(r"^(test-\w+):", MAKEFILE, re.MULTILINE)) == set(re.findall(r"\btest-\w+", nightly))


def test_the_table_of_settings_lists_every_one_with_its_default() -> None:
    table = (ROOT / "core" / "SETTINGS.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE))
    assert list(rows) == list(SETTINGS)
    for name, item in SETTINGS.items():
        shown = str(item.default).lower() if isinstance(item.default, bool) else str(item.default)
        assert rows[name].strip("`") == shown, name


@pytest.mark.parametrize("document", [*DOCUMENTS, "ARCHITECTURE.md", "CHANGELOG.md"])
def test_settings_that_are_named_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    assigned = set(re.findall(r"`([a-z]+(?:_[a-z]+)*) = ", text))
    environment = {name.lower() for name in re.findall(r"\bHOMESPUN_([A-Z_]+)\b", text)}
    tables = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    in_files = {key for table in tables for key, value in table.items() if not isinstance(value, list | dict)}
    of_a_page = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text)) if document.startswith("docs/") else set[str]()
    assert (assigned | environment | in_files | of_a_page) - KNOWN == set()


@pytest.mark.parametrize("document", [*DOCUMENTS, "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_between_documents_lead_somewhere(document: str) -> None:
    base = (ROOT / document).parent
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (ROOT / document).read_text())
    made = {"openapi.json"}  # with the site
    assert [link for link in links if link not in made and not (base / link).exists()] == []


@pytest.mark.parametrize("document", [*DOCUMENTS, "ARCHITECTURE.md", "CHANGELOG.md", "benchmarks/LOG.md"])
def test_code_blocks_are_closed_and_tables_have_heads(document: str) -> None:
    """A merge once took lines that two branches had alike for one."""
    text = (ROOT / document).read_text()
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"(?:\A|\n)(?!\|)[^\n]*\n(\|[^\n]*)\n([^\n]*)", prose)
    assert [head for head, below in heads if not re.fullmatch(r"(\|:?-+:?)+\|", below.replace(" ", ""))] == []
