"""Whatever happens to the targets or is asked for in the middle of a run: it ends, truly, and nothing is stuck."""

from __future__ import annotations

import asyncio

import pytest

from bounceback.controller.freeze import FREEZE
from bounceback.engine.model import PodInfo
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS, CONFIG_MAPS, EXPERIMENTS, NAMESPACES, PODS
from bounceback.types.outcome import Phase
from dev.state import Cluster
from tests.survival.operators import OperatorProcess
from tests.survival.runs import (
    agents_of,
    finished,
    make_check,
    make_experiment,
    network_state,
    partition,
    reached,
    until,
)
from tests.survival.together import together
from tests.workload import CALL, SERVE, pod, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

Shop = tuple[list[PodInfo], PodInfo]


@together
async def test_a_fault_that_hits_nothing_never_passes(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    nobody = {"name": "cut", "target": "callers", "durationSeconds": 2}
    nobody["networkPartition"] = {"peers": [{"cidr": "192.0.2.0/24"}]}
    await make_experiment(kube, namespace, "idle", nobody)
    status = await finished(kube, namespace, "idle")
    assert (status["verdict"], status["axes"]["injection"]) == ("Inconclusive", "Unproven"), status
    assert status["findings"][0]["reason"] == "FaultHitNothing"


@together
async def test_by_node_pod_it_is_the_same(
    kube: Kube, cluster: Cluster, home: str, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    callers, server = shop
    before = network_state(callers)
    await make_experiment(kube, namespace, "beside", partition(server, seconds=3, vehicle="NodePod"))
    status = await finished(kube, namespace, "beside")
    assert (status["verdict"], status["axes"]["cleanup"]) == ("Passed", "Clean"), status
    assert len({injection["agent"] for injection in status["injections"]}) == 1, "one pod serves all targets of a node"
    assert network_state(callers) == before
    assert not await agents_of(kube, namespace, "caller-1")
    async with asyncio.timeout(60):
        while (await kube.list(PODS, home, labels="bounceback.dev/role=agent"))[0]:
            await asyncio.sleep(0.2)


@together
async def test_where_pod_security_refuses_the_sidecar_auto_takes_a_node_pod(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    _, server = shop
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await kube.patch(NAMESPACES, None, namespace, labels)
    await make_experiment(kube, namespace, "strict", partition(server, seconds=2))
    status = await finished(kube, namespace, "strict")
    assert status["verdict"] == "Passed", status
    assert {(i["vehicle"], "Pod Security" in i["vehicleReason"]) for i in status["injections"]} == {("NodePod", True)}


@together
async def test_a_target_that_is_deleted_ends_its_injection(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    _, server = shop
    await make_experiment(kube, namespace, "bereft", partition(server, seconds=10), proof={"durationPercent": 10})
    await until(kube, namespace, "bereft", reached(Phase.ACTIVE))
    await kube.delete(PODS, namespace, "caller-1", grace=0)
    status = await finished(kube, namespace, "bereft")
    by_pod = {injection["pod"]: injection for injection in status["injections"]}
    assert by_pod["caller-1"]["state"] == "Cleared"
    assert by_pod["caller-1"]["reason"] in ("TargetGone", "Terminated"), "the pod's end is the agent's"
    assert status["axes"]["cleanup"] == "Clean"
    assert by_pod["caller-2"]["reason"] == "Duration"


@together
async def test_a_namespace_that_is_deleted_in_mid_fault_goes(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    _, server = shop
    await make_experiment(kube, namespace, "doomed", partition(server, seconds=60))
    await until(kube, namespace, "doomed", reached(Phase.ACTIVE))
    await kube.delete(NAMESPACES, None, namespace)
    async with asyncio.timeout(90):
        while await _exists(kube, namespace):
            await asyncio.sleep(0.5)


@pytest.mark.parametrize("how", ["cancel", "freeze", "delete"])
@together
async def test_a_run_that_is_ended_is_cleared_at_once(
    kube: Kube, cluster: Cluster, home: str, namespace: str, shop: Shop, operator: OperatorProcess, how: str
) -> None:
    callers, server = shop
    before = network_state(callers)
    await make_experiment(kube, namespace, "ended", partition(server, seconds=300))
    await until(kube, namespace, "ended", reached(Phase.ACTIVE))
    if how == "cancel":
        await kube.patch(EXPERIMENTS, namespace, "ended", {"spec": {"cancel": True}})
    elif how == "freeze":
        await kube.create(CONFIG_MAPS, home, {"metadata": {"name": FREEZE}, "data": {"reason": "incident 7"}})
    else:
        await kube.delete(EXPERIMENTS, namespace, "ended")
        async with asyncio.timeout(60):
            while await _exists(kube, namespace, "ended"):
                await asyncio.sleep(0.2)
        assert network_state(callers) == before
        return
    status = await finished(kube, namespace, "ended", 60)
    assert status["verdict"] == "Aborted", status
    assert status["axes"]["cleanup"] == "Clean"
    assert {injection["reason"] for injection in status["injections"]} == {"Stopped"}
    assert network_state(callers) == before
    if how == "freeze":
        assert "incident 7" in status["message"]
        await make_experiment(kube, namespace, "next", partition(server))
        assert (await finished(kube, namespace, "next", 60))["ending"]["reason"] == "Frozen"


@together
async def test_two_experiments_never_hold_the_same_pod(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    _, server = shop
    await make_experiment(kube, namespace, "holder", partition(server, seconds=15))
    await until(kube, namespace, "holder", reached(Phase.ACTIVE))
    await make_experiment(kube, namespace, "rival", partition(server, seconds=2))
    rival = await finished(kube, namespace, "rival")
    assert (rival["verdict"], rival["ending"]["reason"]) == ("Aborted", "TargetBusy")
    assert not rival.get("injections")
    assert (await finished(kube, namespace, "holder"))["verdict"] == "Passed"


@together
async def test_a_copy_restored_from_a_backup_does_not_run(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    callers, server = shop
    await make_experiment(kube, namespace, "once", partition(server, seconds=2))
    await finished(kube, namespace, "once")
    body = await kube.get(EXPERIMENTS, namespace, "once")
    kept = {"name": "restored", "annotations": body["metadata"]["annotations"]}
    await kube.create(EXPERIMENTS, namespace, {**body, "metadata": kept, "status": {}})
    status = await finished(kube, namespace, "restored")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "CopyOfStarted")
    assert len(await agents_of(kube, namespace, callers[0].name)) == 1


@together
async def test_pods_are_deleted_again_and_again(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    template = pod("crew", "python3", "-c", "import time; time.sleep(3600)", labels={"role": "crew"})
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "crew"},
        "spec": {
            "replicas": 6,  # enough that each round finds one that runs
            "selector": {"matchLabels": {"role": "crew"}},
            "template": {"metadata": {"labels": {"role": "crew"}}, "spec": template["spec"]},
        },
    }
    from bounceback.kube import Resource

    await kube.create(Resource("apps/v1", "deployments"), namespace, deployment)
    async with asyncio.timeout(60):
        while len([p for p in (await kube.list(PODS, namespace, labels="role=crew"))[0] if _ready(p)]) < 6:
            await asyncio.sleep(0.2)
    fault = {
        "name": "kill",
        "target": "crew",
        "durationSeconds": 17,
        "podDelete": {"gracePeriodSeconds": 0, "everySeconds": 6},
    }
    selector = {"selector": {"matchLabels": {"role": "crew"}}, "mode": "One"}
    await make_experiment(kube, namespace, "again", fault, targets=[{"name": "crew", "pods": selector}])
    status = await finished(kube, namespace, "again")
    assert (status["verdict"], status["axes"]["injection"]) == ("Passed", "Proven"), status
    assert status["injectionCounts"]["total"] == 3, "at 0, 6 and 12 seconds"
    assert status["injectionCounts"]["hits"] == 3


@together
async def test_what_was_broken_all_along_is_not_steady(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    callers, server = shop
    await make_check(kube, namespace, "192.0.2.1", "unreachable")
    await make_experiment(
        kube,
        namespace,
        "ill",
        partition(server),
        checks=[{"name": "unreachable"}],
        steadyState={"holdSeconds": 1, "timeoutSeconds": 4},
    )
    status = await finished(kube, namespace, "ill")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "NotSteady")
    assert "unreachable/server" in status["message"]
    assert not await agents_of(kube, namespace, callers[0].name)


@together
async def test_the_verdict_shows_in_the_check(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    _, server = shop
    await make_experiment(kube, namespace, "shown", partition(server, seconds=2))
    await finished(kube, namespace, "shown")
    async with asyncio.timeout(60):
        while not (check := await kube.get(CHECKS, namespace, "reachable")).get("status", {}).get("results"):
            await asyncio.sleep(0.1)
    assert [(r["experiment"], r["verdict"]) for r in check["status"]["results"]] == [("shown", "Passed")]
    ready = next(c for c in check["status"]["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "True"


@together
async def test_a_changed_endpoint_is_followed(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    """The peer is named by label: a pod that comes up later is cut off as well."""
    fault = {"name": "cut", "target": "callers", "durationSeconds": 60}
    fault["networkPartition"] = {"peers": [{"pods": {"selector": {"matchLabels": {"kind": "peer"}}}}]}
    (first,) = await running(kube, namespace, [pod("peer-1", "python3", "-c", SERVE, labels={"kind": "peer"})])
    await make_experiment(kube, namespace, "followed", fault, proof={"targetsPercent": 50})
    await until(kube, namespace, "followed", reached(Phase.ACTIVE))
    (second,) = await running(kube, namespace, [pod("peer-2", "python3", "-c", SERVE, labels={"kind": "peer"})])
    await running(kube, namespace, [pod("late", "python3", "-c", CALL, second.ips[0])])
    assert first.ips != second.ips
    code = f"import socket; socket.create_connection(('{second.ips[0]}', 8080), 1)"
    async with asyncio.timeout(40):
        while (await kube.exec(namespace, "caller-1", "main", ["python3", "-c", code]))[0] == 0:
            await asyncio.sleep(0.2)


def _ready(body: Json) -> bool:
    conditions = body.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def _exists(kube: Kube, namespace: str, experiment: str | None = None) -> bool:
    try:
        if experiment is None:
            await kube.get(NAMESPACES, None, namespace)
        else:
            await kube.get(EXPERIMENTS, namespace, experiment)
    except KubeError as error:
        if error.gone:
            return False
        raise
    return True
