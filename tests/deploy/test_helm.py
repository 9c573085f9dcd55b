"""The chart, rendered by Helm itself: valid for three Kubernetes versions, closed, and what it starts exists."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from homespun_core.cli import VERBS
from homespun_core.loading import load_settings
from homespun_server.kubernetes.cluster import read_template
from tests.deploy.charts import CHART, EXAMPLES, VERSIONS, one, pods, rendered, run, settings, settings_file, template

SINGLE = ("--set", "existingSecret=secret")
_SHARED = "mode=cluster,persistence.accessMode=ReadWriteMany,settings.base_model=/data/models/base"
CLUSTER = (*SINGLE, "--set", _SHARED)
JOBS = (
    *CLUSTER,
    *("--set", "trainer.mode=jobs,repositories[0].source=https://git.example.com/a.git"),
    *("--set", "networkPolicy.kubernetes[0].cidr=10.0.0.1/32,networkPolicy.kubernetes[0].ports[0]=6443"),
)
MODES = pytest.mark.parametrize("words", [SINGLE, CLUSTER, JOBS], ids=["single", "cluster", "jobs"])
CUSTOM_KINDS = ("HTTPRoute", "PrometheusRule", "ScaledObject", "ServiceMonitor")
"""Defined by others; Kubernetes has no schema for them."""
BAD = [
    (["mode=clutser"], "mode"),
    (["settings.prot=8080"], "prot"),
    (["settings.max_queue=many"], "max_queue"),
    (["settings.max_queue=-1"], "max_queue"),
    (["settings.dtype=int4"], "dtype"),
    (["settings.api_token=secret"], "api_token"),
    (["settings.port=9000"], "port"),
    (["repositories[0].name=shop"], "source"),
    (["repositories[0].source=x,repositories[0].brnach=main"], "brnach"),
    (["adapters[0].name=team"], "repositories"),
    (["forges[0].kind=svn,forges[0].url=x"], "kind"),
    (["notify[0].url=https://x,notify[0].secret=hidden,notify[0].secret_env=N"], "secret"),
    (["image.pullPolicy=Sometimes"], "pullPolicy"),
    (["image.digest=sha256:abc"], "digest"),
    (["service.type=Node"], "service.type"),
    (["service.port=0"], "service.port"),
    (["persistence.size=big"], "persistence.size"),
    (["persistence.accessMode=Shared"], "accessMode"),
    (["networkPolicy.git[0].cidr=git.example.com,networkPolicy.git[0].ports[0]=443"], "cidr"),
    (["networkPolicy.git[0].cidr=10.0.0.0/8"], "ports"),
    (["networkPolicy.dns.to=null"], "networkPolicy.dns"),
    (["networkPolicy.dns.ports[0]=domain"], "dns.ports"),
    (["vllm.maxLoraRank=20"], "maxLoraRank"),
    (["gateway.replicas=two"], "replicas"),
    (["podSecurity.runAsUser=0"], "runAsUser"),
    (["unknown=1"], "unknown"),
    (["global.imageRegistri=x"], "imageRegistri"),
    (["server.resources.limit.memory=4Gi"], "limit"),
    (["server.resources.limits.memroy=4Gi"], "memroy"),
    (["server.resources.limits.memory=4GB"], "memory"),
    (["networkPolicy.from[0].podSelectr=x"], "podSelectr"),
    (["networkPolicy.from[0].podSelector.app=x"], "podSelector"),
    (["networkPolicy.scrapeFrom[0].ipBlock.cidr=prometheus"], "ipBlock.cidr"),
    (["server.tolerations[0].efect=NoSchedule"], "efect"),
    (["server.nodeSelector.gpu=true"], "nodeSelector"),
    (["extraEnv[0].nmae=A"], "nmae"),
    (["gateway.autoscaling.minReplicas=9"], "gateway.autoscaling.minReplicas"),
    (["gateway.autoscaling.minReplicas=0"], "gateway.autoscaling.minReplicas"),
    (["vllm.keda.enabled=true,vllm.keda.minReplicas=5"], "vllm.keda.minReplicas"),
    (["vllm.hpa.enabled=true,vllm.hpa.minReplicas=5"], "vllm.hpa.minReplicas"),
    (["existingSecret="], "existingSecret"),
    (["trainer.mode=kueue"], "trainer.mode"),
    (["trainer.dispatcher.most=0"], "most"),
    ([f"{_SHARED},trainer.mode=jobs"], "networkPolicy.kubernetes"),
    ([f"{_SHARED},vllm.keda.enabled=true,vllm.hpa.enabled=true"], "vllm.hpa.enabled"),
    ([f"{_SHARED},vllm.model=/data/models/other"], "vllm.model"),
    (["mode=cluster,persistence.accessMode=ReadWriteMany"], "settings.base_model"),
    ([f"{_SHARED},settings.base_model=Qwen/Qwen2.5-Coder-7B"], "settings.base_model"),
    (["mode=cluster"], "ReadWriteMany"),
    (["mode=cluster,persistence.enabled=false"], "persistence.enabled"),
]


@MODES
def test_helm_finds_nothing_to_complain_about(words: tuple[str, ...]) -> None:
    done = run("lint", str(CHART), "--strict", *words)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid_in_three_versions_of_kubernetes(example: Path, version: str, tmp_path: Path) -> None:
    done = template("--values", str(example), version=version)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "rendered.yaml"
    file.write_text(done.stdout)
    _check_schema(file, version)


def _check_schema(file: Path, version: str) -> None:
    words = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(file)]
    checked = subprocess.run(words, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    unknown = [line for line in (checked.stdout + checked.stderr).splitlines() if "Couldn't find schema" in line]
    assert [line for line in unknown if not any(f"kind {kind} " in line for kind in CUSTOM_KINDS)] == []


@pytest.mark.parametrize(("values", "named"), BAD, ids=lambda value: str(value)[:60])
def test_a_bad_value_is_refused_by_name(values: list[str], named: str) -> None:
    done = template(*SINGLE, "--set", values[0])
    assert done.returncode != 0 and named in done.stderr


def test_settings_reach_homespun_with_their_types(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    given: dict[str, Any] = {
        "settings": {"max_repo_mb": 2_000_000, "train_minutes": 7.5, "retrieval": False, "log_format": "json"},
        "repositories": [
            {"source": "https://example.com/a.git", "name": "a", "groups": ["web", "shop"], "timeout_s": 60},
            {"source": "https://example.com/b.git"},
        ],
        "adapters": [{"name": "team", "repositories": "all"}],
        "forges": [{"kind": "gitlab", "url": "https://git.example.com", "token_env": "FORGE_TOKEN"}],
        "notify": [{"url": "https://chat.example.com/x", "events": ["job.failed"], "secret_env": "NOTIFY_SECRET"}],
        "prompts": [{"name": "bare", "percent": 12.5, "retrieval": False, "max_prompt_tokens": 1_600}],
    }
    values.write_text(yaml.safe_dump(given))
    words = (*SINGLE, "--values", str(values))
    read = settings(*words)
    tables = {"repository": "repositories", "adapter": "adapters", "forge": "forges", "notify": "notify"}
    tables["prompt"] = "prompts"
    assert read == given["settings"] | {table: given[name] for table, name in tables.items()}
    file = tmp_path / "homespun.toml"
    file.write_text(settings_file(*words))
    loaded = load_settings({}, {"NOTIFY_SECRET": "a secret of the test"}, file)
    assert loaded.settings.max_repo_mb == 2_000_000 and loaded.repositories[0].groups == ("web", "shop")
    assert [scope.name for scope in loaded.scopes] == ["team"]
    assert [forge.host for forge in loaded.forges] == ["git.example.com"]
    assert [notify.events for notify in loaded.notify] == [("job.failed",)]
    assert [(version.name, version.percent) for version in loaded.prompts] == [("bare", 12.5)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_what_pods_run_are_commands_that_exist(example: Path) -> None:
    found = pods(rendered("--values", str(example)))
    ran = [container for pod in found for container in [*pod.get("initContainers", []), *pod["containers"]]]
    commands = [c["args"] for c in ran if "/homespun/" in c["image"] and "command" not in c]
    for verb, *words in commands:
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(VERBS[verb].module).add_arguments(parser)
        parser.parse_args(words)
    assert commands


def test_a_server_without_a_repository_serves_and_with_one_indexes_and_trains_too() -> None:
    def verb(*words: str) -> str:
        (pod,) = pods((one("StatefulSet", "demo-homespun", *words),))
        return str(pod["containers"][0]["args"][0])

    assert verb(*SINGLE) == verb("--values", str(CHART / "examples" / "laptop-cluster.yaml")) == "serve"
    assert verb("--values", str(CHART / "examples" / "team-20-cpu.yaml")) == "up"


def test_the_laptop_builds_the_image_that_its_pod_runs() -> None:
    file = CHART / "examples" / "laptop-cluster.yaml"
    built = re.findall(r"(?:-t|docker-image) (\S+)", file.read_text())
    assert set(built) == _images(rendered("--values", str(file))) and len(built) == 2


@MODES
def test_no_pod_may_more_than_the_restricted_standard_allows(words: tuple[str, ...]) -> None:
    for pod in pods(rendered(*words)):
        _check_rights(pod)


def _check_rights(pod: dict[str, Any]) -> None:
    may_call = pod["containers"][0]["name"] == "dispatcher"
    assert pod["automountServiceAccountToken"] is may_call and pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True and rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]


@MODES
def test_every_pod_has_a_policy_and_no_policy_opens_the_world(words: tuple[str, ...]) -> None:
    objects = rendered(*words)
    policies = [o["spec"] for o in objects if o["kind"] == "NetworkPolicy"]
    named = {p["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for p in policies}
    made = {o["metadata"]["labels"].get("app.kubernetes.io/component") for o in objects if pods((o,))}
    assert made <= named
    for policy in policies:
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert all(rule.get("to") and rule.get("ports") for rule in policy["egress"])
        assert "0.0.0.0/0" not in json.dumps(policy)


def test_egress_goes_where_the_values_say_and_nowhere_else() -> None:
    git = ("--set", "networkPolicy.git[0].cidr=10.1.0.0/16,networkPolicy.git[0].ports[0]=22")
    policy = one("NetworkPolicy", "demo-homespun", *SINGLE, *git)["spec"]
    outside = [(rule["ports"], to) for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert outside == [([{"port": 22}], {"ipBlock": {"cidr": "10.1.0.0/16"}})]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_pod_that_asks_for_names_may_ask_where_its_platform_answers(example: Path) -> None:
    platform = {"openshift-airgap": ("dns.operator.openshift.io/daemonset-dns", 5353)}
    label, port = platform.get(example.stem, ("k8s-app", 53))
    policies = [o["spec"] for o in rendered("--values", str(example)) if o["kind"] == "NetworkPolicy"]
    rules = [policy["egress"][0] for policy in policies if policy["egress"]]
    assert rules and all(label in rule["to"][0]["podSelector"]["matchLabels"] for rule in rules)
    wanted = [{"port": port, "protocol": "UDP"}, {"port": port, "protocol": "TCP"}]
    assert all(rule["ports"] == wanted for rule in rules)


def test_secrets_are_referred_to_and_never_written_down() -> None:
    text = json.dumps(rendered(*CLUSTER))
    assert '"kind": "Secret"' not in text
    (container,) = one("Deployment", "demo-homespun-gateway", *CLUSTER)["spec"]["template"]["spec"]["containers"]
    by_name = {each["name"]: each for each in container["env"]}
    token = by_name["HOMESPUN_API_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert token == {"name": "secret", "key": "api-token", "optional": False}


def test_a_registry_of_ones_own_takes_the_place_of_every_other() -> None:
    objects = rendered(*CLUSTER, "--set", "global.imageRegistry=registry.internal:5000")
    images = _images(objects)
    assert images and all(image.startswith("registry.internal:5000/") for image in images), images
    assert "registry.internal:5000/vllm/vllm-openai:v0.32.0" in images


def _images(objects: tuple[dict[str, Any], ...]) -> set[str]:
    return {c["image"] for pod in pods(objects) for c in [*pod.get("initContainers", []), *pod["containers"]]}


def test_nothing_but_homespun_and_vllm_runs_and_a_digest_wins_over_the_tag() -> None:
    ours, gateways = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    digests = ("--set", f"image.digest={ours},image.gatewayDigest={gateways},vllm.image=vllm@{ours}")
    registry = "registry.example.com/homespun"
    wanted = {f"{registry}/homespun@{ours}", f"{registry}/gateway@{gateways}", f"vllm@{ours}"}
    assert _images(rendered(*JOBS, *digests)) == wanted


def test_each_role_has_the_secrets_that_it_needs_and_no_other() -> None:
    def secrets(kind: str, name: str, part: str = "containers") -> dict[str, bool]:
        (pod,) = pods((one(kind, f"demo-homespun-{name}", *JOBS),))
        return {
            e["valueFrom"]["secretKeyRef"]["key"]: e["valueFrom"]["secretKeyRef"].get("optional", False)
            for container in pod[part]
            for e in container["env"]
            if "valueFrom" in e
        }

    assert secrets("Deployment", "worker") == secrets("Deployment", "watcher") == {"worker-token": True}
    assert secrets("ConfigMap", "trainer") == {"worker-token": True}
    assert secrets("CronJob", "dispatcher") == {"worker-token": False}
    assert secrets("StatefulSet", "vllm") == {"vllm-token": False}
    assert secrets("Deployment", "gateway", "initContainers") == {"database-url": False}
    needed = {key for key, is_optional in secrets("Deployment", "gateway").items() if not is_optional}
    assert needed == {"api-token", "database-url"}


def test_the_dispatcher_reads_its_template_and_may_list_and_make_jobs_and_nothing_else(tmp_path: Path) -> None:
    file, queue = tmp_path / "job.json", ("--set", "trainer.queueName=gpus")
    file.write_text(one("ConfigMap", "demo-homespun-trainer", *JOBS, *queue)["data"]["job.json"])
    template = read_template(file)
    assert template["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    rules = one("Role", "demo-homespun-dispatcher", *JOBS)["rules"]
    assert rules == [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "create"]}]
    (pod,) = pods((one("CronJob", "demo-homespun-dispatcher", *JOBS),))
    assert {volume["name"] for volume in pod["volumes"]} == {"job", "tmp"}  # none with code
    roles = [o["kind"] for o in rendered(*CLUSTER) if o["kind"] in ("Role", "RoleBinding", "ClusterRole")]
    assert roles == []


def test_a_job_of_the_template_is_valid(tmp_path: Path) -> None:
    job = json.loads(one("ConfigMap", "demo-homespun-trainer", *JOBS)["data"]["job.json"])
    job["metadata"]["name"] = job["metadata"].pop("generateName") + "1"  # as the API server does
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    for version in VERSIONS:
        _check_schema(file, version)


def test_vllm_sees_model_and_adapters_and_no_code() -> None:
    def mounted(*words: str) -> set[tuple[str, str, str | None]]:
        (pod,) = pods((one("StatefulSet", "demo-homespun-vllm", *CLUSTER, *words),))
        (container,) = pod["containers"]
        found = [m for m in container["volumeMounts"] if m["mountPath"].startswith("/data")]
        assert all(m["readOnly"] for m in found)
        return {(m["name"], m["mountPath"], m.get("subPath")) for m in found}

    own = {("data", "/data/adapters", "adapters"), ("data", "/data/models", "models")}
    assert mounted() == own
    shared = mounted("--set", "persistence.adaptersClaim=objects")
    assert shared == {("adapters", "/data/adapters", None), ("data", "/data/models", "models")}


def test_a_pod_copies_a_model_to_where_the_examples_look_for_it() -> None:
    file = CHART.parent / "copy-model.yaml"
    for version in VERSIONS:
        _check_schema(file, version)
    (pod,) = pods((yaml.safe_load(file.read_text()),))
    _check_rights(pod)
    (mount,), (volume,) = pod["containers"][0]["volumeMounts"], pod["volumes"]
    assert mount["mountPath"] == "/data" and volume["persistentVolumeClaim"] == {"claimName": "homespun"}
    (target,) = re.findall(r"kubectl cp \S+ copy-model:(\S+)", (CHART.parents[1] / "README.md").read_text())
    models = {settings("--values", str(example)).get("base_model", target) for example in EXAMPLES}
    assert models == {target}


def test_vllm_serves_the_model_whose_token_ids_it_is_sent() -> None:
    (pod,) = pods((one("StatefulSet", "demo-homespun-vllm", *CLUSTER, "--set", "settings.base_model=/data/models/b"),))
    (container,) = pod["containers"]
    assert container["command"] == ["vllm", "serve"] and container["args"][0] == "/data/models/b"


@pytest.mark.parametrize("by", ["keda", "hpa"])
def test_gateways_know_every_vllm_server_that_an_autoscaler_may_start(by: str) -> None:
    words = (*CLUSTER, "--set", f"vllm.{by}.enabled=true,vllm.{by}.minReplicas=2,vllm.{by}.maxReplicas=3")
    (pod,) = pods((one("Deployment", "demo-homespun-gateway", *words),))
    (urls,) = [e["value"] for e in pod["containers"][0]["env"] if e["name"] == "HOMESPUN_VLLM_URLS"]
    assert urls.split(",") == [f"http://demo-homespun-vllm-{n}.demo-homespun-vllm:8000" for n in range(3)]
    assert "replicas" not in one("StatefulSet", "demo-homespun-vllm", *words)["spec"]
    kind = {"keda": "ScaledObject", "hpa": "HorizontalPodAutoscaler"}[by]
    assert one(kind, "demo-homespun-vllm", *words)["spec"]["scaleTargetRef"]["name"] == "demo-homespun-vllm"
    assert one("PodDisruptionBudget", "demo-homespun-vllm", *words)["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("component", ["gateway", "worker", "vllm"])
def test_several_pods_of_a_kind_are_spread_over_machines_and_zones(component: str) -> None:
    kind = "StatefulSet" if component == "vllm" else "Deployment"
    (pod,) = pods((one(kind, f"demo-homespun-{component}", *CLUSTER),))
    keys = {each["topologyKey"] for each in pod["topologySpreadConstraints"]}
    assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


@MODES
def test_what_listens_is_probed_and_finishes_what_it_answers_before_it_ends(words: tuple[str, ...]) -> None:
    listening = [(p, c) for p in pods(rendered(*words)) for c in p["containers"] if "ports" in c]
    assert listening
    for pod, container in listening:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
        pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert pod["terminationGracePeriodSeconds"] >= pause + 45


def test_what_is_made_from_values_is_up_to_date() -> None:
    made = runpy.run_path(str(CHART.parent / "generate.py"))
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    assert json.loads((CHART / "values.schema.json").read_text()) == made["schema"](values)
    assert (CHART / "README.md").read_text() == made["readme"](text, values)
    for name in ("alerts.yaml", "dashboard.json"):
        assert (CHART / "files" / name).read_text() == (made["OBSERVABILITY"] / name).read_text()


def test_every_value_is_explained() -> None:
    made = runpy.run_path(str(CHART.parent / "generate.py"))
    text = (CHART / "values.yaml").read_text()
    explained = {name for kind, name, _ in made["_documented"](text) if kind == "param"}

    def leaves(values: object, path: str) -> set[str]:
        if path in explained or not isinstance(values, dict):
            return {path}
        return {leaf for name, value in values.items() for leaf in leaves(value, f"{path}.{name}".lstrip("."))}

    assert leaves(yaml.safe_load(text), "") == explained
