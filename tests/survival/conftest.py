"""One cluster with our resources in it, and operators that tests may do anything to."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from bounceback.controller.resources import let_go as let_object_go
from bounceback.engine.model import PodInfo
from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.client import APPLY_PATCH
from bounceback.kube.resources import CHECKS, EXPERIMENTS
from dev.state import Cluster
from tests.conftest import ROOT, run_dev
from tests.survival.operators import OperatorProcess, ports
from tests.survival.runs import let_go, open_shop
from tests.survival.together import playing

DEFINITIONS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)
NAME = os.environ.get("BOUNCEBACK_SURVIVAL_CLUSTER", "survival")


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[str]:
    """A cluster for these tests alone: no other operator is there, and its kubelet may be stopped."""
    was_up = Cluster(NAME).record() is not None  # a developer's: it stays
    path = run_dev("dev", "up", "--name", NAME)
    run_dev("dev", "load-image", "--name", NAME, run_dev("dev.image", "build"))
    yield path
    if not was_up:
        run_dev("dev", "down", "--name", NAME)


@pytest.fixture
def cluster(kubeconfig: str) -> Cluster:
    return Cluster(NAME)


@pytest.fixture
async def resources(kube: Kube) -> None:
    """The CRDs of this tree are in force."""
    await apply_definitions(kube)


async def apply_definitions(kube: Kube) -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        body = yaml.safe_load(path.read_text())
        await kube.patch(DEFINITIONS, None, body["metadata"]["name"], body, content_type=APPLY_PATCH, force=True)
    async with asyncio.timeout(30):
        for resource in (EXPERIMENTS, CHECKS):
            while not await _is_served(kube, resource):
                await asyncio.sleep(0.1)


async def remove_definitions(kube: Kube) -> None:
    """With all that is of them; what operators that tests killed hold is let go."""
    for left in (await kube.list(EXPERIMENTS))[0]:
        await let_object_go(kube, left)
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        name = yaml.safe_load(path.read_text())["metadata"]["name"]
        await kube.delete(DEFINITIONS, None, name)
        end = time.monotonic() + 60
        while await _is_defined(kube, name):
            assert time.monotonic() < end, f"{name} is still there, and so is {await _held(kube)}"
            await asyncio.sleep(0.1)


async def _held(kube: Kube) -> list[str]:
    """The experiments that somebody must let go before their definition can go."""
    metadata = [each["metadata"] for each in (await kube.list(EXPERIMENTS))[0]]
    return [f"{each['namespace']}/{each['name']} {each.get('finalizers')}" for each in metadata]


async def _is_defined(kube: Kube, name: str) -> bool:
    try:
        await kube.get(DEFINITIONS, None, name)
    except KubeError as error:
        if error.gone:
            return False
        raise
    return True


async def _is_served(kube: Kube, resource: Resource) -> bool:
    try:
        await kube.list(resource, "default")
    except KubeError as error:
        if error.unserved:
            return False
        raise
    return True


@pytest.fixture
async def make_operator(
    kube: Kube, cluster: Cluster, home: str, namespace: str, resources: None, tmp_path: Path
) -> AsyncIterator[Callable[..., OperatorProcess]]:
    """Replicas of one operator, each a process; neither they nor what they hold outlives its test."""
    made: list[OperatorProcess] = []

    def make(name: str = "", more: Mapping[str, str] | None = None) -> OperatorProcess:
        log = tmp_path / f"operator-{len(made) + 1}.log"
        made.append(OperatorProcess(cluster, home, name or f"replica-{len(made) + 1}", next(ports), log, more))
        return made[-1]

    yield make
    for operator in made:
        operator.kill()
    await let_go(kube, home, namespace)


@pytest.fixture
def operator(make_operator: Callable[[], OperatorProcess]) -> OperatorProcess:
    """One that runs."""
    process = make_operator()
    process.start()
    return process


@pytest.fixture
async def shop(kube: Kube, namespace: str, resources: None) -> tuple[list[PodInfo], PodInfo]:
    return await open_shop(kube, namespace)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plays(
    request: pytest.FixtureRequest, kubeconfig: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, asyncio.Task[None]]]:
    """What becomes of the module's tests that are played together."""
    async with Kube.connected(kubeconfig) as kube:
        await apply_definitions(kube)
        async with playing(request, kube, kubeconfig, tmp_path_factory) as tasks:
            yield tasks
