"""The sample system `kept`: a small web site, and a keeper that puts back what others change of it."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
VARIANTS: Final = {
    "kept": ("", "It keeps its promises."),
    "kept-once": ("once", "It makes what it keeps when it starts, and never looks again."),
    "kept-fragile": ("fragile", "Its first error is its last."),
    "kept-stubborn": ("no-lease", "It works on though another holds its lease."),
    "kept-resigned": ("resigned", "It gives up a write that did not last."),
    "kept-shrill": ("shrill", "For most repairs it calls somebody twice."),
    "kept-untidy": ("untidy", "Each repair leaves a copy of the settings behind."),
    "kept-forceful": ("forceful", "It takes away finalizers that are not its own."),
}
ABOUT: Final = "a web site, and a keeper that puts back what others change of it"
RBAC: Final = "rbac.authorization.k8s.io"
PASSWORD: Final = b64encode(b"correct horse").decode()
Object = dict[str, Any]


def system(flaw: str, image: str) -> list[Object]:
    return keeper(
        flaw,
        image,
        wanted(image),
        role("keeper", *KEEPING),
        binding("keeper", "keeper"),
        # Who takes rights away for an experiment must be allowed to give them back.
        role("keeper-binder", rule(RBAC, ["roles"], ["bind"], names=["keeper"])),
        binding("keeper-binder", "bounceback"),
    )


def keeper(flaw: str, image: str, wanted: list[Object], *rights: Object) -> list[Object]:
    """The keeper of what is wanted, and what it may do."""
    code = {
        "answers.py": (HERE / "app" / "answers.py").read_text(),
        "keeper.py": (HERE / "keeper" / "keeper.py").read_text(),
        "wanted.json": json.dumps(wanted, indent=2) + "\n",
    }
    environment = [{"name": "FLAW", "value": flaw}] if flaw else []
    command = ["python3", "/app/keeper.py"]
    volumes = [{"name": "code", "configMap": {"name": "keeper-code"}}]
    pod = {
        "serviceAccountName": "keeper",
        **restricted(image, "keeper", command, "/ready", env=environment, volumeMounts=[mounted("code", "/app")]),
        "volumes": volumes,
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keeper-code"}, "data": code},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "keeper"}},
        *rights,
        deployment("keeper", 1, pod),
        service("keeper", 8080),
    ]


def rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> Object:
    named = {"resourceNames": names} if names else {}
    return {"apiGroups": [group], "resources": resources, **named, "verbs": verbs}


VERBS: Final = ["get", "create", "patch"]
KEEPING: Final = (
    rule("", ["configmaps", "secrets", "services", "resourcequotas"], VERBS),
    rule("apps", ["deployments"], VERBS),
    rule("policy", ["poddisruptionbudgets"], VERBS),
    rule("coordination.k8s.io", ["leases"], VERBS),
)


def wanted(image: str) -> list[Object]:
    """What the keeper keeps."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    labels = {"app": "web", "team": "shop"}
    settings = {"colour": "green", "limit": "10"}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "labels": labels}, "data": settings},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "data": {"password": PASSWORD}},
        deployment("web", 2, page(image)),
        service("web", 80),
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": spec},
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "shop"}, "spec": {"hard": {"pods": "20"}}},
    ]


def page(image: str) -> Object:
    command = ["python3", "-m", "http.server", "8080", "--directory", "/usr"]
    environment = [{"name": "GREETING", "value": "hello"}]
    return {**restricted(image, "web", command, "/", env=environment), "automountServiceAccountToken": False}


def deployment(app: str, replicas: int, pod: Object) -> Object:
    labels = {"app": app}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app, "labels": labels}, "spec": spec}


def service(app: str, port: int) -> Object:
    spec = {"selector": {"app": app}, "ports": [{"name": "http", "port": port, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app}, "spec": spec}


def role(name: str, *rules: Object) -> Object:
    return {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": name}, "rules": list(rules)}


def binding(name: str, account: str) -> Object:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account}],
    }


def mounted(name: str, path: str) -> Object:
    return {"name": name, "mountPath": path, "readOnly": True}


def restricted(image: str, name: str, command: list[str], ready: str, **more: Any) -> Object:
    """As the Pod Security level `restricted` wants it."""
    look = {"httpGet": {"path": ready, "port": 8080}}
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        **more,
        "readinessProbe": {**look, "periodSeconds": 1, "timeoutSeconds": 2},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
