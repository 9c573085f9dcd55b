"""What values become, in fields of objects."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.charts import CHART, EXAMPLES, one, pods, rendered, settings
from tests.deploy.test_helm import CLUSTER, JOBS, MODES, SINGLE

ROWS: list[dict[str, Any]] = yaml.safe_load("""
# of: the kind, and the name without the release's; at: a path, from the object or from the pods that it makes
- mode: single
  set: server.gpu=2
  of: StatefulSet
  at: pod.containers.0.resources.limits
  is: {nvidia.com/gpu: 2, memory: 8Gi}
- {mode: single, set: server.runtimeClassName=nvidia, of: StatefulSet, at: pod.runtimeClassName, is: nvidia}
- {mode: single, set: server.priorityClassName=high, of: StatefulSet, at: pod.priorityClassName, is: high}
- {mode: single, set: server.nodeSelector.gpu=l40s, of: StatefulSet, at: pod.nodeSelector, is: {gpu: l40s}}
- {mode: single, set: "server.tolerations[0].key=a", of: StatefulSet, at: pod.tolerations, is: [{key: a}]}
- mode: cluster
  set: vllm.gpu=2
  of: StatefulSet-vllm
  at: pod.containers.0.resources.limits
  is: {nvidia.com/gpu: 2, memory: 32Gi}
- mode: cluster
  set: vllm.gpu=1
  of: StatefulSet-vllm
  at: pod.tolerations
  is: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
- {mode: cluster, set: vllm.runtimeClassName=nvidia, of: StatefulSet-vllm, at: pod.runtimeClassName, is: nvidia}
- mode: cluster
  set: trainer.gpu=1
  of: CronJob-trainer
  at: pod.containers.0.resources.limits
  is: {nvidia.com/gpu: 1, memory: 12Gi}
- {mode: cluster, set: trainer.runtimeClassName=nvidia, of: CronJob-trainer, at: pod.runtimeClassName, is: nvidia}
- {mode: cluster, set: "trainer.tolerations[0].key=a", of: CronJob-trainer, at: pod.tolerations, is: [{key: a}]}
- {mode: cluster, set: "worker.tolerations[0].key=a", of: Deployment-worker, at: pod.tolerations, is: [{key: a}]}
- {mode: cluster, set: "gateway.tolerations[0].key=a", of: Deployment-gateway, at: pod.tolerations, is: [{key: a}]}
- mode: single
  set: ingress.enabled=true,ingress.className=nginx,ingress.host=h.example.com,ingress.tlsSecret=tls
  of: Ingress
  at: spec
  is:
    ingressClassName: nginx
    tls: [{hosts: [h.example.com], secretName: tls}]
    rules:
      - host: h.example.com
        http:
          paths: [{path: /, pathType: Prefix, backend: {service: {name: demo-homespun, port: {name: http}}}}]
- {mode: single, set: "ingress.enabled=true,ingress.annotations.a=b", of: Ingress, at: metadata.annotations, is: {a: b}}
- mode: cluster
  set: httpRoute.enabled=true,httpRoute.parentRefs[0].name=internal,httpRoute.hostnames[0]=h.example.com,service.port=81
  of: HTTPRoute
  at: spec
  is:
    parentRefs: [{name: internal}]
    hostnames: [h.example.com]
    rules: [{backendRefs: [{name: demo-homespun, port: 81}]}]
- mode: cluster
  set: monitoring.serviceMonitor=true,monitoring.tokenSecret=auditor
  of: ServiceMonitor
  at: spec.endpoints.0.authorization
  is: {credentials: {name: auditor, key: api-token}}
- mode: single
  set: monitoring.dashboard=true
  of: ConfigMap-dashboard
  at: metadata.labels.grafana_dashboard
  is: "1"
- mode: cluster
  set: gateway.autoscaling.minReplicas=3,gateway.autoscaling.maxReplicas=9,gateway.autoscaling.targetCPU=60
  of: HorizontalPodAutoscaler-gateway
  at: spec
  is:
    scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: demo-homespun-gateway}
    minReplicas: 3
    maxReplicas: 9
    metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}]
- mode: cluster
  set: gateway.autoscaling.enabled=false,gateway.replicas=4
  of: Deployment-gateway
  at: spec.replicas
  is: 4
- {mode: cluster, set: gateway.replicas=2, of: PodDisruptionBudget-gateway, at: spec.maxUnavailable, is: 1}
- mode: cluster
  set: vllm.keda.enabled=true,vllm.keda.prometheus=http://p:9090
  of: ScaledObject-vllm
  at: spec.triggers
  is:
    - type: prometheus
      metadata:
        serverAddress: http://p:9090
        query: sum(vllm:num_requests_waiting{namespace="code", pod=~"demo-homespun-vllm-.*"})
        threshold: "4"
- mode: cluster
  set: vllm.hpa.enabled=true,vllm.hpa.metric=waiting
  of: HorizontalPodAutoscaler-vllm
  at: spec.metrics
  is: [{type: Pods, pods: {metric: {name: waiting}, target: {type: AverageValue, averageValue: "4"}}}]
""")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['of']} {row['at']}")
def test_a_value_becomes_the_field_that_it_is_for(row: dict[str, Any]) -> None:
    kind, _, part = row["of"].partition("-")
    words = {"single": SINGLE, "cluster": CLUSTER}[row["mode"]]
    made = one(kind, f"demo-homespun-{part}".rstrip("-"), *words, "--set", row["set"])
    assert _at(made, row["at"]) == row["is"]


def _at(made: dict[str, Any], path: str) -> Any:
    """What stands at a path, which begins with `pod` for the spec of the pods that the object makes."""
    where, _, rest = path.partition(".")
    found = pods((made,))[0] if where == "pod" else made[where]
    for key in rest.split(".") if rest else ():
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def test_budgets_and_monitors_select_pods_and_services_that_exist() -> None:
    watched = "monitoring.serviceMonitor=true,vllm.replicas=2,networkPolicy.scrapeFrom[0].podSelector.matchLabels.a=b"
    objects = rendered(*CLUSTER, "--set", watched)
    running = [o for o in objects if o["kind"] in ("Deployment", "StatefulSet")]
    templates = [o["spec"]["template"]["metadata"]["labels"] for o in running]
    services = [o["metadata"]["labels"] for o in objects if o["kind"] == "Service"]
    ports = {port["name"] for o in objects if o["kind"] == "Service" for port in o["spec"]["ports"]}
    for kind, there in (("PodDisruptionBudget", templates), ("ServiceMonitor", services)):
        selectors = [o["spec"]["selector"]["matchLabels"] for o in objects if o["kind"] == kind]
        assert len(selectors) == 2
        assert all(sum(wanted.items() <= labels.items() for labels in there) == 1 for wanted in selectors)
    assert {e["port"] for o in objects if o["kind"] == "ServiceMonitor" for e in o["spec"]["endpoints"]} <= ports


def test_rules_and_dashboard_are_those_of_the_repository() -> None:
    words = (*SINGLE, "--set", "monitoring.rules=true,monitoring.dashboard=true")
    observability = CHART.parents[1] / "observability"
    rules = yaml.safe_load((observability / "alerts.yaml").read_text())
    assert one("PrometheusRule", "demo-homespun", *words)["spec"] == rules
    (dashboard,) = one("ConfigMap", "demo-homespun-dashboard", *words)["data"].values()
    assert json.loads(dashboard) == json.loads((observability / "dashboard.json").read_text())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_server_behind_a_proxy_knows_its_address_and_believes_the_proxy_alone(example: Path) -> None:
    words = ("--values", str(example))
    hosts = [o["spec"]["rules"][0]["host"] for o in rendered(*words) if o["kind"] == "Ingress"]
    hosts += [host for o in rendered(*words) if o["kind"] == "HTTPRoute" for host in o["spec"]["hostnames"]]
    assert hosts or example.stem in ("laptop-cluster", "openshift-airgap")
    for host in hosts:
        assert settings(*words)["public_url"] == f"https://{host}"
        (rule,) = one("NetworkPolicy", "demo-homespun", *words)["spec"]["ingress"]
        assert {} not in [peer.get("namespaceSelector") for peer in rule["from"]]
    for pod in pods(rendered(*words)) if hosts else ():
        for container in pod["containers"]:
            if container["name"] in ("homespun", "gateway"):
                (trusted,) = [e["value"] for e in container["env"] if e["name"] == "FORWARDED_ALLOW_IPS"]
                assert ip_network(trusted).prefixlen


@MODES
def test_every_pod_pulls_with_the_secrets_that_are_named(words: tuple[str, ...]) -> None:
    objects = rendered(*words, "--set", "global.imagePullSecrets[0]=registry")
    assert all(pod["imagePullSecrets"] == [{"name": "registry"}] for pod in pods(objects))


@MODES
def test_authorities_git_tokens_and_environment_reach_every_container_of_homespun(words: tuple[str, ...]) -> None:
    given = "customCA=company,gitCredentials=tokens,extraEnv[0].name=A,extraEnv[0].value=b"
    found = set()
    for pod in pods(rendered(*words, "--set", given)):
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            env = {each["name"]: each.get("value") for each in container.get("env", ())}
            if "HOMESPUN_DATA_DIR" not in env:
                continue
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert env["SSL_CERT_FILE"] == env["GIT_SSL_CAINFO"] == f"{mounts['ca']}/ca.crt"
            assert volumes["ca"]["configMap"] == {"name": "company"}
            if container["name"] == "dispatcher":  # reads no repository
                continue
            assert mounts["git"] == "/etc/homespun/git" and volumes["git"]["secret"]["secretName"] == "tokens"
            assert env["A"] == "b"
            found.add(container["name"])
    cluster = {"migrate", "gateway", "worker", "trainer"}
    assert found == {SINGLE: {"homespun"}, CLUSTER: cluster, JOBS: cluster | {"index", "retrain"}}[words]


def test_more_objects_are_rendered_as_templates(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    more = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}
    values.write_text(yaml.safe_dump({"extraObjects": [more]}))
    assert one("ConfigMap", "demo-more", *SINGLE, "--values", str(values))["apiVersion"] == "v1"
