"""Jobs of the Kubernetes cluster that this pod runs in: those of one template, listed and made, and nothing else."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from homespun_core.errors import ConfigError, ServiceError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S = 15.0
_OVER = ("Complete", "Failed")
_NAMED = 57
"""Characters of a Job's name that stand in those of its pods, whose own are 63 with what tells them apart."""
_SELECTING = ("app.kubernetes.io/instance", "app.kubernetes.io/component")


def unfinished(jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names. Also of those that Kueue holds back, since they will run."""
    return [str(job["metadata"]["name"]) for job in jobs if not _is_over(job)]


def _is_over(job: Mapping[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(each["type"] in _OVER and each["status"] == "True" for each in conditions)


def num_busy(jobs: Sequence[str], workers: Sequence[str]) -> int:
    """How many of these Jobs have their work already, and take no more: a worker's name begins with its pod's, and that
    with its Job's."""
    return sum(any(worker.startswith(f"{job[:_NAMED]}-") for worker in workers) for job in jobs)


def missing(due: int, unfinished: int, busy: int, most: int) -> int:
    """How many Jobs to make: one for each job that is due, of which those that are there and idle will take theirs."""
    return max(0, min(due - (unfinished - busy), most - unfinished))


def read_template(path: Path) -> dict[str, Any]:
    """A Job with `generateName` and the labels by which its like are found again. Raises ConfigError."""
    try:
        template: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        named = template["metadata"]["generateName"] and all(template["metadata"]["labels"][key] for key in _SELECTING)
        if template["kind"] != "Job" or not named:
            raise ValueError
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"--template {path}: not a Kubernetes Job in JSON with generateName and the labels"
            f" {' and '.join(_SELECTING)} ({type(error).__name__})"
        ) from None
    return template


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How a pod reaches its cluster."""

    url: str
    namespace: str
    token: str
    ca_file: Path | None

    @classmethod
    def of_this_pod(cls, environ: Mapping[str, str]) -> Address:
        """Raises ConfigError outside of a cluster."""
        account = ACCOUNT
        try:
            host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
            token = (account / "token").read_text(encoding="ascii").strip()
            namespace = (account / "namespace").read_text(encoding="ascii").strip()
        except (KeyError, OSError, ValueError):
            raise ConfigError(
                f"{account}: this is no pod with a service account; homespun dispatch runs in Kubernetes only"
                " (in the Helm chart: trainer.mode=jobs)"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        return cls(url=f"https://{shown}:{port}", namespace=namespace, token=token, ca_file=account / "ca.crt")


class Jobs:
    """The Jobs of a template."""

    def __init__(self, address: Address, template: Mapping[str, Any]) -> None:
        self._template = template
        self._http = httpx.Client(
            base_url=f"{address.url}/apis/batch/v1/namespaces/{address.namespace}",
            headers={"Authorization": f"Bearer {address.token}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
            verify=ssl.create_default_context(cafile=str(address.ca_file)) if address.ca_file else True,
        )

    def unfinished(self) -> list[str]:
        """Names. Raises ServiceError."""
        labels = self._template["metadata"]["labels"]
        found = self._called("GET", params={"labelSelector": ",".join(f"{key}={labels[key]}" for key in _SELECTING)})
        return unfinished(found["items"])

    def make(self) -> str:
        """Its name. Raises ServiceError."""
        return str(self._called("POST", json=self._template)["metadata"]["name"])

    def close(self) -> None:
        self._http.close()

    def _called(self, method: str, **words: Any) -> Any:
        with _explained():
            answer = self._http.request(method, "/jobs", **words)
            if answer.is_success:
                return answer.json()
        raise ServiceError(f"Kubernetes: {method} jobs: {_reason(answer)}{_remedy(answer.status_code)}")


@contextmanager
def _explained() -> Any:
    try:
        yield
    except (httpx.HTTPError, ValueError) as error:
        raise ServiceError(
            f"Kubernetes: its API can't be reached ({type(error).__name__}); is it in networkPolicy.kubernetes?"
        ) from None


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])[:300]
    except (ValueError, LookupError, TypeError):
        return f"status {answer.status_code}"


def _remedy(status: int) -> str:
    return "; the service account needs the role of the chart" if status in (401, 403) else ""
