"""The sample system `guarded`: a clerk that places orders, and an admission webhook that must let them pass."""

from pathlib import Path
from typing import Any, Final

from examples.systems.render_kept import RBAC, binding, deployment, mounted, restricted, role, rule, service

HERE: Final = Path(__file__).resolve().parent
VARIANTS: Final = {
    "guarded": ("", "It keeps its promises."),
    "guarded-trusting": ("trusting", "What is stored has passed the webhook, it believes."),
    "guarded-fragile": ("fragile", "The first write about which the webhook could not be asked is its last."),
}
ABOUT: Final = "orders, and an admission webhook in their way; for the namespace shop, whose name is in it"
NAMESPACE: Final = "shop"
GUARD: Final = "shop-guard"
"""The webhook configuration and what belongs to it, of the whole cluster."""
LIMIT: Final = "100"
GROUP: Final = "admissionregistration.k8s.io"
CODE: Final = ("app/answers.py", "app/certificates.py", "guard/clerk.py", "guard/cluster.py", "guard/guard.py")
Object = dict[str, Any]


def system(flaw: str, image: str) -> list[Object]:
    code = {path.rpartition("/")[2]: (HERE / path).read_text() for path in CODE}
    shown = rule(GROUP, ["validatingwebhookconfigurations"], ["get", "patch"], names=[GUARD])
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "guarded-code"}, "data": code},
        configuration(),
        {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": GUARD}, "rules": [shown]},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": GUARD},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": GUARD},
            "subjects": [{"kind": "ServiceAccount", "name": "guard", "namespace": NAMESPACE}],
        },
        account("guard"),
        deployment("guard", 1, pod("guard", image, {"CONFIGURATION": GUARD})),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "guard"},
            "spec": {"selector": {"app": "guard"}, "ports": [{"name": "https", "port": 443, "targetPort": 8443}]},
        },
        account("clerk"),
        role("clerk", rule("", ["configmaps"], ["create", "list", "delete"])),
        binding("clerk", "clerk"),
        deployment("clerk", 1, pod("clerk", image, {"FLAW": flaw} if flaw else {})),
        service("clerk", 8080),
    ]


def configuration() -> Object:
    """Asked about orders of its namespace and nothing else; who it is to be believed as, the guard writes there."""
    webhook = {
        "name": "orders.guard.example.com",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "guard", "namespace": NAMESPACE, "path": "/orders"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "objectSelector": {"matchLabels": {"kind": "order"}},
        "failurePolicy": "Fail",
        "timeoutSeconds": 1,
        "sideEffects": "None",
    }
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": GUARD},
        "webhooks": [webhook],
    }


def account(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def pod(app: str, image: str, settings: dict[str, str]) -> Object:
    environment = [{"name": name, "value": value} for name, value in {"LIMIT": LIMIT, **settings}.items()]
    command = ["python3", f"/app/{app}.py"]
    made = restricted(image, app, command, "/", env=environment, volumeMounts=[mounted("code", "/app")])
    # A connection is all that is looked for: a guard that stands still stays where it is asked.
    made["containers"][0]["readinessProbe"] = {
        "tcpSocket": {"port": 8443 if app == "guard" else 8080},
        "periodSeconds": 1,
        "timeoutSeconds": 2,
    }
    volumes = [{"name": "code", "configMap": {"name": "guarded-code"}}]
    return {"serviceAccountName": app, **made, "volumes": volumes}
