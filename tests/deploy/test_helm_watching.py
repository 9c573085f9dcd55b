"""Prometheus finds what the chart starts, is let in, and calls it what the alerts ask for."""

from __future__ import annotations

import json
import re

import pytest

from tests.deploy.charts import EXAMPLES, one, rendered
from tests.deploy.test_helm import CLUSTER

WATCHED = (
    *(
        "--set",
        "monitoring.serviceMonitor=true,monitoring.rules=true,nameOverride=other,fullnameOverride=demo-homespun",
    ),
    *("--set", "networkPolicy.scrapeFrom[0].namespaceSelector.matchLabels.team=monitoring"),
)


def test_targets_have_the_job_names_that_alerts_ask_for_whatever_the_release_is_called() -> None:
    jobs = {
        o["metadata"]["name"]: o["spec"]["endpoints"][0]["relabelings"]
        for o in rendered(*CLUSTER, *WATCHED)
        if o["kind"] == "ServiceMonitor"
    }
    assert jobs == {
        "demo-homespun": [{"targetLabel": "job", "replacement": "homespun"}],
        "demo-homespun-vllm": [{"targetLabel": "job", "replacement": "homespun-vllm"}],
    }
    rules = json.dumps(one("PrometheusRule", "demo-homespun", *CLUSTER, *WATCHED)["spec"])
    assert set(re.findall(r'job=\\"(.+?)\\"', rules)) == {"homespun"}


def test_vllm_is_not_watched_where_nobody_may_read_its_metrics() -> None:
    words = (*CLUSTER, "--set", "monitoring.serviceMonitor=true")
    assert [o["metadata"]["name"] for o in rendered(*words) if o["kind"] == "ServiceMonitor"] == ["demo-homespun"]


@pytest.mark.parametrize("words", [(*CLUSTER, *WATCHED), *(("--values", str(e)) for e in EXAMPLES)])
def test_prometheus_is_let_in_to_what_it_is_told_to_watch(words: tuple[str, ...]) -> None:
    objects = rendered(*words, "--set", "networkPolicy.from[0].podSelector.matchLabels.app=ingress")
    policies = {json.dumps(o["spec"]["podSelector"]): o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}
    for monitor in (o["spec"] for o in objects if o["kind"] == "ServiceMonitor"):
        (rule,) = policies[json.dumps(monitor["selector"])]["ingress"]
        namespaces = [peer["namespaceSelector"]["matchLabels"] for peer in rule["from"] if "namespaceSelector" in peer]
        assert "monitoring" in str(namespaces)
