"""What concerns the whole cluster, by an operator that watches all of it; nothing else goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.resources import EXPERIMENTS, SECRETS
from bounceback.types.outcome import Phase
from dev.state import Cluster
from tests.conftest import run_dev
from tests.survival.conftest import apply_definitions, remove_definitions
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, make_experiment, network_state, partition, reached, run, until

Shop = tuple[list[PodInfo], PodInfo]


async def test_a_run_passes_and_leaves_nothing(
    kube: Kube, cluster: Cluster, home: str, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    callers, server = shop
    before = network_state(callers)
    await make_experiment(kube, namespace, "plain", partition(server))
    status = await finished(kube, namespace, "plain")
    assert (status["verdict"], status["axes"]["cleanup"]) == ("Passed", "Clean"), status
    assert all(i["hits"] > 0 for i in status["injections"])
    assert network_state(callers) == before
    body = await kube.get(EXPERIMENTS, namespace, "plain")
    await until(kube, namespace, "plain", lambda _: True)
    async with asyncio.timeout(60):
        while body["metadata"].get("finalizers"):
            await asyncio.sleep(0.1)
            body = await kube.get(EXPERIMENTS, namespace, "plain")
    secrets, _ = await kube.list(SECRETS, home, labels="bounceback.dev/experiment-uid")
    assert not secrets


async def test_a_kubelet_that_is_gone_makes_the_cleanup_unverified(
    kube: Kube, cluster: Cluster, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    callers, server = shop
    before = network_state(callers)
    await make_experiment(kube, namespace, "cut-off", partition(server, seconds=20), recoveryTimeoutSeconds=20)
    await until(kube, namespace, "cut-off", reached(Phase.ACTIVE))
    async with _stopped_kubelet(cluster):
        status = await finished(kube, namespace, "cut-off", 180)
        assert status["verdict"] == "Inconclusive", status
        assert status["axes"]["cleanup"] == "Unverified"
        assert network_state(callers) == before, "the agents' own deadlines held"


@pytest.mark.parametrize("where", ["kube-system", "home"])
async def test_protected_namespaces_are_refused(
    kube: Kube, home: str, shop: Shop, operator: OperatorProcess, where: str
) -> None:
    place = home if where == "home" else where
    _, server = shop
    await make_experiment(kube, place, "bold", partition(server))
    try:
        status = await finished(kube, place, "bold")
        assert status["ending"]["reason"] == "ProtectedNamespace"
        assert "metadata.namespace" in status["message"]
    finally:
        await kube.delete(EXPERIMENTS, place, "bold")


async def test_definitions_that_are_not_installed_are_named(
    kube: Kube, kubeconfig: str, namespace: str, shop: Shop, tmp_path: Path
) -> None:
    _, server = shop
    await remove_definitions(kube)
    try:
        code, said = await run(kubeconfig, namespace, tmp_path, faults=[partition(server)])
    finally:
        await apply_definitions(kube)
    assert code == 2, said
    assert "not installed" in said
    assert "helm" in said


@asynccontextmanager
async def _stopped_kubelet(cluster: Cluster) -> AsyncIterator[None]:
    run_dev("dev", "stop-kubelet", "--name", cluster.name)
    try:
        yield
    finally:
        run_dev("dev", "start-kubelet", "--name", cluster.name)
