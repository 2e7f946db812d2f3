"""What tests share that need our resources at an API server, and no operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from bounceback.cli import kubeconfig as kubeconfigs
from bounceback.cli.cluster import Cluster
from bounceback.controller.admitted import Admitted
from bounceback.controller.events import Recorder
from bounceback.controller.freeze import Freeze
from bounceback.controller.leader import Leadership
from bounceback.controller.office import Office
from bounceback.controller.results import Results
from bounceback.controller.settings import Settings
from bounceback.kube import Kube
from bounceback.recovery.means import Means
from bounceback.vehicles.admission import Webhooks
from bounceback.vehicles.agents import Agents
from bounceback.vehicles.capabilities import Nodes
from bounceback.vehicles.journal import Journal
from tests.commands import PROJECT, Commands
from tests.conftest import OPERATOR
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
async def office(kube: Kube, home: str) -> AsyncIterator[Office]:
    """Of an operator that leads."""
    settings = Settings.from_environment({"BOUNCEBACK_NAMESPACE": home, "BOUNCEBACK_SERVICE_ACCOUNT": OPERATOR})
    leadership = Leadership(kube, home, "test", lambda: None)
    await leadership.acquire()
    keeping = asyncio.create_task(leadership.keep())
    yield Office(
        settings=settings,
        kube=kube,
        leadership=leadership,
        freeze=Freeze(kube, home, lambda: None),
        recorder=Recorder(kube, "test"),
        agents=Agents(kube, home, settings.image, settings.pull_policy),
        nodes=Nodes(kube, home, settings.image, settings.pull_policy),
        journal=Journal(kube, home),
        results=Results(kube),
        admitted=Admitted(),
        webhooks=Webhooks(kube, ""),
    )
    keeping.cancel()


@pytest.fixture
async def means() -> AsyncIterator[Means]:
    """For looks at servers that are no cluster's."""
    async with means_of_no_cluster() as entered:
        yield entered
