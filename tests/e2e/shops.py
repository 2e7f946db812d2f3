"""The sample systems and the examples, as tests set them up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from tests.commands import PROJECT, Commands, Json

ROLLOUT_SECONDS = 120


@contextmanager
def shop(commands: Commands, system: str, replicas: int = 4, node: str = "") -> Iterator[str]:
    """A namespace that is open to experiments, with that system serving in it; its web on `node` where one is named."""
    with commands.namespace("shop") as namespace:
        access = commands.bounceback("access", namespace)
        assert access.code == 0, access.err
        commands.kubectl("apply", "-f", "-", stdin=access.out)
        objects = list(yaml.safe_load_all((PROJECT / "examples" / "systems" / system / "system.yaml").read_text()))
        web = next(o for o in objects if o["kind"] == "Deployment" and o["metadata"]["name"] == "web")
        web["spec"]["replicas"] = replicas
        if node:
            web["spec"]["template"]["spec"]["nodeName"] = node
        commands.apply(namespace, *objects)
        for app in ("store", "web", "shopper"):
            timeout = f"--timeout={ROLLOUT_SECONDS}s"
            commands.kubectl("rollout", "status", "-n", namespace, f"deployment/{app}", timeout)
        yield namespace


def example(name: str) -> list[Json]:
    """Its check and its experiment."""
    return [yaml.safe_load(path.read_text()) for path in sorted((PROJECT / "examples" / name).glob("*.yaml"))]
