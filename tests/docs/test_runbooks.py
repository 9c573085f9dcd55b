"""Whoever is woken by an alert finds a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from docs import alerts, markdown
from homespun_server.metrics import Metrics
from tests.deploy.test_observability import promtool as promtool

ROOT = Path(__file__).parents[2]
RULES_FILE = "deploy/observability/alerts.yaml"
RULES = alerts.rules(ROOT / RULES_FILE)
RUNBOOKS = ROOT / "docs/runbooks"
SECTIONS = ["meaning", "impact", "check", "remedy"]


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_names_its_runbook(alert: str) -> None:
    assert RULES[alert]["annotations"]["runbook"] == f"docs/runbooks/{alert}.md"
    assert f"[{alert}]({alert}.md) | {RULES[alert]['labels']['severity']} |" in (RUNBOOKS / "index.md").read_text()


@pytest.mark.parametrize("alert", RULES)
def test_a_runbook_says_what_it_means_whom_it_hurts_what_to_look_at_and_what_to_do(alert: str) -> None:
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert [heading.slug for heading in markdown.headings(text) if heading.level == 2] == SECTIONS
    assert text.splitlines()[2] == f"→ made of [{RULES_FILE}](../../{RULES_FILE}): alert/{alert}"
    check = markdown.section(text, "check")
    assert "```sh" in check and "```promql" in check
    assert len(markdown.section(text, "remedy").split()) > 30


def test_there_is_no_runbook_for_an_alert_that_is_gone() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"} == set(RULES)


def queries_of(alert: str) -> list[str]:
    blocks = re.findall(r"```promql\n(.*?)```", (RUNBOOKS / f"{alert}.md").read_text(), re.DOTALL)
    return "".join(blocks).splitlines()


@pytest.mark.parametrize("alert", RULES)
def test_queries_ask_for_metrics_that_exist(alert: str) -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)", Metrics().exposition().decode(), re.MULTILINE))
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bhomespun_\w+", " ".join(queries_of(alert)))}
    assert named <= exposed


def test_prometheus_takes_the_queries(promtool: Path, tmp_path: Path) -> None:
    queries = [query for alert in RULES for query in queries_of(alert)]
    rules = [{"record": f"query{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(queries)} rules" in done.stdout, done.stdout + done.stderr
