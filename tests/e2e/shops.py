"""The sample systems and the examples, as tests set them up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from cryptography.hazmat.primitives import serialization

from bounceback.proxy.certificates import Authority
from tests.commands import PROJECT, Commands, Json
from tests.e2e.beyond import beyond, cleared, placed

ROLLOUT_SECONDS = 120
AUTHORITY = "shop-ca"
OBJECTS = (
    "configmaps,secrets,services,resourcequotas,deployments.apps,jobs.batch,poddisruptionbudgets.policy,"
    "rolebindings.rbac.authorization.k8s.io,leases.coordination.k8s.io,pods"
)
"""What an objectFault of some example changes, and the repair or the workload of another makes."""


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
        outside = beyond(system, namespace)
        grant(commands, namespace, *more)
        commands.apply(namespace, authority())
        text = (PROJECT / "examples" / "systems" / system / "system.yaml").read_text()
        objects = [placed(each, namespace) if outside else each for each in yaml.safe_load_all(text)]
        deployments = {o["metadata"]["name"]: o for o in objects if o["kind"] == "Deployment"}
        if web := deployments.get("web"):
            web["spec"]["replicas"] = replicas
            if node:
                web["spec"]["template"]["spec"]["nodeName"] = node
        try:
            commands.apply(namespace, *objects)
            named = [f"deployment/{app}" for app in deployments]
            if named:
                commands.kubectl("rollout", "status", "-n", namespace, *named, f"--timeout={ROLLOUT_SECONDS}s")
            if outside:  # which is there now, and some rights are in there
                grant(commands, namespace, *more, "--cluster-objects", outside)
            yield namespace
        finally:
            if outside:
                cleared(commands, outside, namespace)
            if nodes_too:
                commands.kubectl("delete", "clusterrolebinding", f"bounceback-nodes-{namespace}-bounceback")


def grant(commands: Commands, namespace: str, *more: str) -> None:
    """All of its access, as one applies it: a second time adds to it."""
    access = commands.bounceback("access", namespace, "--secret", AUTHORITY, *more)
    assert access.code == 0, access.err
    commands.kubectl("apply", "-f", "-", stdin=access.out)


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
