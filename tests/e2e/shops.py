"""The sample systems and the examples, as tests set them up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization

from bounceback.proxy.certificates import Authority
from tests.commands import PROJECT, Commands, Json

ROLLOUT_SECONDS = 120
AUTHORITY = "shop-ca"
OBJECTS = (
    "configmaps,secrets,services,resourcequotas,deployments.apps,jobs.batch,poddisruptionbudgets.policy,"
    "rolebindings.rbac.authorization.k8s.io,leases.coordination.k8s.io,pods"
)
"""What an objectFault of some example changes, and the repair or the workload of another makes."""
GUARD = "shop-guard"
"""A sample system's objects without a namespace, which is what its policy is about: here each namespace has its own."""
WEBHOOKS = "validatingwebhookconfigurations.admissionregistration.k8s.io"
OF_CLUSTER = "validatingwebhookconfigurations,clusterroles,clusterrolebindings,faultpolicies"


@contextmanager
def shop(
    commands: Commands,
    system: str,
    replicas: int = 2,
    node: str = "",
    objects_too: bool = False,
    nodes_too: bool = False,
) -> Iterator[str]:
    """A namespace that is open to experiments, with that system serving in it; its web on `node` where one is named.

    `objects_too`: experiments may change its objects as well; `nodes_too`: and nodes, where a policy lets them.
    """
    with commands.namespace("shop") as namespace:
        more = ("--objects", OBJECTS) if objects_too else ()
        more = (*more, "--nodes") if nodes_too else more
        if guarded := system.startswith("guarded"):
            more = (*more, "--cluster-objects", f"{WEBHOOKS}/{guard_of(namespace)}")
        access = commands.bounceback("access", namespace, "--secret", AUTHORITY, *more)
        assert access.code == 0, access.err
        commands.kubectl("apply", "-f", "-", stdin=access.out)
        commands.apply(namespace, authority())
        text = (PROJECT / "examples" / "systems" / system / "system.yaml").read_text()
        objects = [placed(each, namespace) if guarded else each for each in yaml.safe_load_all(text)]
        deployments = {o["metadata"]["name"]: o for o in objects if o["kind"] == "Deployment"}
        if web := deployments.get("web"):
            web["spec"]["replicas"] = replicas
            if node:
                web["spec"]["template"]["spec"]["nodeName"] = node
        try:
            commands.apply(namespace, *objects)
            for app in deployments:
                timeout = f"--timeout={ROLLOUT_SECONDS}s"
                commands.kubectl("rollout", "status", "-n", namespace, f"deployment/{app}", timeout)
            yield namespace
        finally:
            if guarded:
                role = f"bounceback-objects:{namespace}:bounceback"
                commands.kubectl("delete", "--ignore-not-found", OF_CLUSTER, guard_of(namespace), role)
            if nodes_too:
                commands.kubectl("delete", "clusterrolebinding", f"bounceback-nodes-{namespace}-bounceback")


def guard_of(namespace: str) -> str:
    return f"{namespace}-guard"


def placed(value: Any, namespace: str) -> Any:
    """What is written for the namespace shop, for this one, wherever it is named as a whole."""
    if isinstance(value, dict):
        return {key: placed(each, namespace) for key, each in value.items()}
    if isinstance(value, list):
        return [placed(each, namespace) for each in value]
    return {"shop": namespace, GUARD: guard_of(namespace)}.get(value, value) if isinstance(value, str) else value


def authority() -> Json:
    """As the example's README has it made: systems that speak TLS trust it."""
    made = Authority.made("shop")
    encoding = serialization.Encoding.PEM
    key = made.key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair = {"tls.crt": made.certificate.public_bytes(encoding).decode(), "tls.key": key.decode()}
    metadata = {"name": AUTHORITY}
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": pair}


def example(name: str) -> list[Json]:
    """Its check and its experiment."""
    return [yaml.safe_load(path.read_text()) for path in sorted((PROJECT / "examples" / name).glob("*.yaml"))]
