"""What tests share that need our resources at an API server, and no operator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from bounceback.cli import kubeconfig as kubeconfigs
from bounceback.cli.cluster import Cluster
from bounceback.recovery.means import Means
from tests.commands import PROJECT, Commands
from tests.integration.looking import means_of_no_cluster


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


@pytest.fixture
async def means() -> AsyncIterator[Means]:
    """For looks at servers that are no cluster's."""
    async with means_of_no_cluster() as entered:
        yield entered
