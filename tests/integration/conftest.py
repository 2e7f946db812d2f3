"""What tests share that need our resources at an API server, and no operator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bounceback.cli import kubeconfig as kubeconfigs
from bounceback.cli.cluster import Cluster
from tests.commands import PROJECT, Commands


@pytest.fixture(scope="module")
def api(commands: Commands) -> Cluster:
    """An API server that knows our resources, as they stand in this tree."""
    commands.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(PROJECT / "crds"))
    commands.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
    return Cluster(kubeconfigs.client(kubeconfigs.load(commands.kubeconfig, None)))


@pytest.fixture(scope="module")
def place(commands: Commands) -> Iterator[str]:
    """A namespace of its own, without an operator that would watch it."""
    with commands.namespace("bb-place") as name:
        yield name
