"""Clients of the Kubernetes API in armed pods, and the namespace that they live in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from bounceback.vehicles.containers import NO_RIGHTS
from tests.commands import Commands, Json
from tests.conftest import IMAGE

ARM: Final = "bounceback.dev/arm"
WELL: Final = ["python3", "-S", "-c", "open('/tmp/well')"]  # the image has no shell
SCRIPT: Final = '''
"""Counts in a ConfigMap, twice a second, with its account's token. When it is refused: patient waits as it is told to,
hasty does not, frail ends."""
import json, os, pathlib, ssl, time, urllib.error, urllib.request

PLACE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOST, PORT = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
URL = f"https://{HOST}:{PORT}/api/v1/namespaces/{(PLACE / 'namespace').read_text()}/configmaps/{os.environ['NAME']}"
NAME = os.environ["NAME"]

def call(method, body=None):
    request = urllib.request.Request(URL, method=method, data=body and json.dumps(body).encode())
    request.add_header("Authorization", "Bearer " + (PLACE / "token").read_text())
    request.add_header("Content-Type", "application/json")
    trust = ssl.create_default_context(cafile=PLACE / "ca.crt")
    return json.load(urllib.request.urlopen(request, context=trust, timeout=5))

while True:
    pause = 0.5
    try:
        found = call("GET")
        found["data"] = {"count": str(int((found.get("data") or {}).get("count", 0)) + 1)}
        call("PUT", found)
        pathlib.Path("/tmp/well").touch()
    except urllib.error.HTTPError as error:
        pathlib.Path("/tmp/well").unlink(missing_ok=True)
        print(error.code, error.read().decode(), flush=True)
        pause = float(error.headers.get("Retry-After", 0.5)) if NAME == "patient" else 0.1
        if NAME == "frail":
            raise
    except OSError as error:
        print(repr(error), flush=True)
    time.sleep(pause)
'''


@contextmanager
def clients(commands: Commands, label: str = "enabled", names: Sequence[str] = ("patient", "hasty")) -> Iterator[str]:
    """A namespace that is open to experiments, and armed or not, with a patient and a hasty client."""
    with commands.namespace("armed") as namespace:
        restricted = "pod-security.kubernetes.io/enforce=restricted"
        commands.kubectl("label", "namespace", namespace, f"{ARM}={label}", restricted)
        access = commands.bounceback("access", namespace)
        assert access.code == 0, access.err
        commands.kubectl("apply", "-f", "-", stdin=access.out)
        commands.apply(namespace, *_rights())
        for name in names:
            commands.apply(namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
            commands.apply(namespace, _deployment(name))
        for name in names:
            commands.kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", "--timeout=120s")
        yield namespace


WAITS: Final = {"honorsRetryAfter": True, "maxRequestsPerSecond": 50}


def check(name: str, *, behavior: Mapping[str, object] | None = WAITS) -> Json:
    """Well while it is ready; and what is asked of it, where somebody sees that."""
    ready = "has(object.status.readyReplicas) && object.status.readyReplicas == 1"
    probe = {"kubernetes": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "expression": ready}}
    spec = {
        "probes": [{"name": "ready", **probe}],
        "recovered": {"stableSeconds": 2},
        **({"clientBehavior": behavior} if behavior else {}),
    }
    return {"apiVersion": "bounceback.dev/v1alpha1", "kind": "RecoveryCheck", "metadata": {"name": name}, "spec": spec}


def experiment(name: str, **fault: object) -> Json:
    spec = {
        "targets": [{"name": "client", "pods": {"selector": {"matchLabels": {"app": name}}}}],
        "faults": [{"name": "fault", "target": "client", "durationSeconds": 8, **fault}],
        "checks": [{"name": name}],
        "steadyState": {"holdSeconds": 2},
        "recoveryTimeoutSeconds": 60,
    }
    metadata = {"name": name}
    return {"apiVersion": "bounceback.dev/v1alpha1", "kind": "FaultExperiment", "metadata": metadata, "spec": spec}


def _rights() -> tuple[Json, ...]:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "update"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "client"}}
    subject = {"kind": "ServiceAccount", "name": "default"}
    return (
        {**role, "rules": rules},
        {
            **role,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "client"},
            "subjects": [subject],
        },
    )


def _deployment(name: str) -> Json:
    container = {
        "name": "client",
        "image": IMAGE,
        "command": ["python3", "-c", SCRIPT],
        "env": [{"name": "NAME", "value": name}],
        "readinessProbe": {"exec": {"command": WELL}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": NO_RIGHTS | {"allowPrivilegeEscalation": False},
    }
    pod = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 1,
        },
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
