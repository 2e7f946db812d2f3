"""What cannot be done is said before anything is touched: the field, the reason and the way out, and exit code 2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS, NAMESPACES
from tests.conftest import make_namespace
from tests.survival.operators import OperatorProcess
from tests.survival.runs import agents_of, make_check, partition, run
from tests.survival.together import together

pytestmark = pytest.mark.asyncio(loop_scope="module")

Shop = tuple[list[PodInfo], PodInfo]

SOON = {"steadyState": {"holdSeconds": 1, "timeoutSeconds": 4}}


def other(role: str) -> Json:
    return {"targets": [{"name": "callers", "pods": {"selector": {"matchLabels": {"role": role}}}}]}


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        (other("nobody"), 2, ["spec.targets[0].pods.selector", "role=nobody", "matches 0 pods"]),
        ({"serviceAccountName": "stranger"}, 2, ["spec.serviceAccountName", "stranger", "bounceback access"]),
        ({"checks": [{"name": "missing"}]}, 2, ["spec.checks[0].name", "missing"]),
        ({"checks": [{"name": "unreachable"}], **SOON}, 4, ["unreachable/server", "not steady"]),
    ],
    ids=["no targets", "no rights", "no check", "an unreachable probe"],
)
@together
async def test_a_run_that_cannot_begin_says_why(
    kube: Kube,
    kubeconfig: str,
    namespace: str,
    shop: Shop,
    operator: OperatorProcess,
    tmp_path: Path,
    changes: Json,
    code: int,
    told: list[str],
) -> None:
    callers, server = shop
    await make_check(kube, namespace, "192.0.2.1", "unreachable")
    exit_code, said = await run(kubeconfig, namespace, tmp_path, faults=[partition(server)], **changes)
    assert exit_code == code, said
    for part in told:
        assert part in said
    for caller in callers:
        assert not await agents_of(kube, namespace, caller.name)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"processSignal": {"signal": "KILL", "process": "nobody"}}, ["].processSignal: caller-", "process nobody"]),
        ({"ioError": {"path": "/nowhere", "error": "EPERM"}}, ["].ioError.path: caller-", "has /nowhere"]),
        ({"fileFault": {"path": "/etc", "damage": "Remove"}}, ["].fileFault.path: caller-", "/etc"]),
        ({"socketPressure": {"connections": {"port": 9, "count": 1}}}, ["].socketPressure: caller-", "port 9"]),
        ({"ioDelay": {"path": "/a/../proc/1", "delayMilliseconds": 1}}, ["].ioDelay.path: pod caller-", "/proc/1 is"]),
    ],
    ids=["no process", "no path", "no file", "no listener", "the kernel's own"],
)
@together
async def test_what_only_the_node_can_tell_is_refused_as_well(
    kubeconfig: str, namespace: str, shop: Shop, operator: OperatorProcess, tmp_path: Path, fault: Json, told: list[str]
) -> None:
    entry = {"name": "wrong", "target": "callers", "durationSeconds": 2, **fault}
    code, said = await run(kubeconfig, namespace, tmp_path, faults=[entry])
    assert code == 2, said
    for part in ("Aborted", *told):
        assert part in said, said


@together
async def test_a_delay_where_the_kernel_has_no_netem_names_the_node_and_what_it_lacks(
    kube: Kube, kubeconfig: str, namespace: str, shop: Shop, operator: OperatorProcess, tmp_path: Path
) -> None:
    delay = {"name": "slow", "target": "callers", "durationSeconds": 2, "networkDelay": {"delayMilliseconds": 50}}
    delay["mechanism"] = "Netem"
    code, said = await run(kubeconfig, namespace, tmp_path, faults=[delay])
    if code == 0:
        pytest.skip("this machine's kernel has netem")
    assert code == 2, said
    for part in ("spec.faults[0].networkDelay", "node-1", "sch_netem"):
        assert part in said


@together
async def test_an_image_that_cannot_be_pulled_is_told_before_anything_is_touched(
    kube: Kube,
    kubeconfig: str,
    namespace: str,
    shop: Shop,
    make_operator: Callable[..., OperatorProcess],
    tmp_path: Path,
) -> None:
    callers, server = shop
    operator = make_operator(more={"BOUNCEBACK_IMAGE": "bounceback:never-built"})
    operator.start()
    code, said = await run(kubeconfig, namespace, tmp_path, faults=[partition(server)])
    assert code == 2, said
    assert "bounceback:never-built" in said
    for caller in callers:
        assert not await agents_of(kube, namespace, caller.name)


@together
async def test_a_namespace_that_was_not_opened_names_the_command_that_opens_it(
    kube: Kube,
    kubeconfig: str,
    namespace: str,
    shop: Shop,
    make_operator: Callable[..., OperatorProcess],
    tmp_path: Path,
) -> None:
    _, server = shop
    closed = f"{namespace}-closed"
    make_operator(more={"BOUNCEBACK_WATCH_NAMESPACES": closed}).start()
    await make_namespace(kube, closed)
    try:
        await make_check(kube, closed, server.ips[0])
        code, said = await run(kubeconfig, closed, tmp_path, faults=[partition(server)])
        assert code == 2, said
        assert f"bounceback access {closed}" in said
    finally:
        await kube.delete(NAMESPACES, None, closed)


@together
async def test_a_check_with_a_wrong_expression_says_so_at_once(
    kube: Kube, namespace: str, operator: OperatorProcess
) -> None:
    look = {"apiVersion": "v1", "kind": "Pod", "name": "server", "expression": "objet.status.phase == 'Running'"}
    await make_check(kube, namespace, "192.0.2.1", "misspelt", probes=[{"name": "runs", "kubernetes": look}])
    async with asyncio.timeout(60):
        while not (body := await kube.get(CHECKS, namespace, "misspelt")).get("status"):
            await asyncio.sleep(0.1)
    stalled = next(c for c in body["status"]["conditions"] if c["type"] == "Stalled")
    assert stalled["status"] == "True"
    assert "spec.probes[0].kubernetes.expression" in stalled["message"]
    assert "objet" in stalled["message"]


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        (
            [
                {"name": "one", "target": "callers", "networkBandwidth": {"kilobitsPerSecond": 100}},
                {"name": "two", "target": "callers", "networkBandwidth": {"kilobitsPerSecond": 200}},
            ],
            ["spec.faults[1]", "one", "same packets", "startAfterSeconds"],
        ),
        (
            [
                {
                    "name": "far",
                    "target": "callers",
                    "networkDelay": {"delayMilliseconds": 9, "peers": [{"host": "nobody.invalid"}]},
                }
            ],
            ["spec.faults[0].networkDelay.peers[0].host", "nobody.invalid"],
        ),
        (
            [
                {
                    "name": "far",
                    "target": "callers",
                    "networkDelay": {
                        "delayMilliseconds": 9,
                        "peers": [{"pods": {"selector": {"matchLabels": {"role": "nobody"}}}}],
                    },
                }
            ],
            ["spec.faults[0].networkDelay.peers[0].pods", "role=nobody"],
        ),
        (
            [
                {
                    "name": "far",
                    "target": "callers",
                    "mechanism": "Relay",
                    "networkDelay": {
                        "delayMilliseconds": 9,
                        "peers": [{"cidr": "192.0.2.0/24", "ports": [{"port": 53, "protocol": "UDP"}]}],
                    },
                }
            ],
            ["spec.faults[0].networkDelay", "node-1", "Relay carries UDP to single addresses"],
        ),
        (
            [{"name": "names", "target": "callers", "dnsFault": {"answer": "NxDomain", "names": ["no name"]}}],
            ["spec.faults[0].dnsFault.names[0]", "no name"],
        ),
        (
            [{"name": "cut", "target": "callers", "networkPartition": {}, "probability": 101}],
            ["spec.faults[0].probability", "100"],
        ),
    ],
    ids=[
        "overlap",
        "a host that is nobody's",
        "peers that match nothing",
        "UDP by relay, to a network",
        "no DNS name",
        "101 percent",
    ],
)
@together
async def test_a_network_fault_that_cannot_be_says_why(
    kube: Kube,
    kubeconfig: str,
    namespace: str,
    shop: Shop,
    operator: OperatorProcess,
    tmp_path: Path,
    faults: list[Json],
    told: list[str],
) -> None:
    callers, _ = shop
    code, said = await run(kubeconfig, namespace, tmp_path, faults=faults)
    assert code == 2, said
    for part in told:
        assert part in said
    for caller in callers:
        assert not await agents_of(kube, namespace, caller.name)
