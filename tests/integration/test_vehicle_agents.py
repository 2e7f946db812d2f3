"""Agents on a real cluster: begun, heard, asked and ended through the Kubernetes API alone."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from bounceback.engine.model import AgentEnd, AgentFate
from bounceback.kube import Kube
from bounceback.kube.resources import PODS, SERVICE_ACCOUNTS
from bounceback.types.instants import Span
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Drop, Flow
from bounceback.types.told import Line, Told
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.agents import Agents
from bounceback.vehicles.choice import choose_vehicle
from bounceback.vehicles.containers import AGENT_ACCOUNT
from bounceback.vehicles.errors import Refused
from dev.layout import PAUSE_IMAGE
from tests.conftest import ACCOUNT, IMAGE, apply, drop_namespace, make_namespace
from tests.line import through_relay
from tests.workload import caller_and_server, kinds, plan_for, pod, running, to, until

FOREVER = ("python3", "-c", "import time; time.sleep(3600)")
WHOLE_STORY = ["started", "inForce", "cleared", "verified", "finished"]


@pytest.fixture
def agents(kube: Kube, home: str) -> Agents:
    return Agents(kube, home, IMAGE, "IfNotPresent")


@pytest.mark.parametrize("vehicle", [VehicleKind.SIDECAR, VehicleKind.NODE_POD])
async def test_an_agent_tells_its_whole_story(
    agents: Agents, kube: Kube, acting: Kube, namespace: str, vehicle: VehicleKind
) -> None:
    caller, server = await caller_and_server(kube, namespace)
    plan = plan_for([caller], on_node=vehicle is VehicleKind.NODE_POD, flows=to(server))
    ref = agents.ref(plan, vehicle, caller)
    await agents.start(acting, ref, plan)
    lines = [each async for each in agents.evidence(acting, ref)]
    assert kinds(lines) == WHOLE_STORY
    assert max(each.hits for each in lines if isinstance(each, Line)) > 0
    assert [each.detail for each in lines if isinstance(each, Line) and each.told is Told.VERIFIED] == [
        {"leftovers": []}
    ]
    assert lines[-1] == AgentEnd(AgentFate.FINISHED)
    again = [each async for each in agents.evidence(acting, ref)]
    assert again == lines, "whoever reads the log again reads the same"
    await agents.remove(ref)


async def test_starting_twice_is_starting_once(agents: Agents, kube: Kube, acting: Kube, namespace: str) -> None:
    (target,) = await running(kube, namespace, [pod("target", *FOREVER)])
    plan = plan_for([target], duration=1)
    later = plan_for([target], duration=60)
    for vehicle in (VehicleKind.SIDECAR, VehicleKind.NODE_POD):
        ref = agents.ref(plan, vehicle, target)
        await agents.start(acting, ref, plan)
        await agents.start(acting, ref, plan)
        other_times = type(plan)(plan.run, plan.agent, plan.on_node, later.orders)
        await agents.start(acting, ref, other_times)
    there = await kube.get(PODS, namespace, "target")
    assert [each["name"] for each in there["spec"]["ephemeralContainers"]] == [plan.agent]


@pytest.mark.parametrize("vehicle", [VehicleKind.SIDECAR, VehicleKind.NODE_POD])
async def test_an_agent_stops_when_it_is_told_to(
    agents: Agents, kube: Kube, acting: Kube, namespace: str, vehicle: VehicleKind
) -> None:
    caller, server = await caller_and_server(kube, namespace)
    plan = plan_for([caller], on_node=vehicle is VehicleKind.NODE_POD, flows=to(server), duration=120)
    ref = agents.ref(plan, vehicle, caller)
    await agents.start(acting, ref, plan)
    lines: list[Line | AgentEnd] = []
    async with aclosing(agents.evidence(acting, ref)) as told:
        await until(told, Told.IN_FORCE, lines)
        await agents.stop(acting, ref)
        lines += [each async for each in told]
    assert kinds(lines) == WHOLE_STORY
    assert [each.detail["why"] for each in lines if isinstance(each, Line) and each.told is Told.CLEARED] == ["Stopped"]
    await agents.stop(acting, ref)  # it is over: nothing more to stop
    await agents.remove(ref)
    await agents.remove(ref)


async def test_new_peers_are_put_in_force(agents: Agents, kube: Kube, acting: Kube, namespace: str) -> None:
    caller, server = await caller_and_server(kube, namespace)
    plan = plan_for([caller], flows=(Flow("203.0.113.1/32"),), duration=60)
    (order,) = plan.orders
    ref = agents.ref(plan, VehicleKind.SIDECAR, caller)
    await agents.start(acting, ref, plan)
    lines: list[Line | AgentEnd] = []
    async with aclosing(agents.evidence(acting, ref)) as told:
        await until(told, Told.IN_FORCE, lines)
        await asyncio.sleep(1)
        assert not [each for each in lines if isinstance(each, Line) and each.hits]
        await agents.amend(acting, ref, {order.injection: to(server)})
        await until(told, Told.AMENDED, lines)
        await until(told, Told.HITS, lines)
        with pytest.raises(Refused, match="no order nobody"):
            await agents.amend(acting, ref, {"nobody": to(server)})
        with pytest.raises(ValueError, match="every peer"):
            await agents.amend(acting, ref, {order.injection: ()})
        assert await agents.ping(acting, ref) == Span(0.0, 0.0)
        await agents.stop(acting, ref)


async def test_a_node_pod_serves_all_targets_of_its_node(
    agents: Agents, kube: Kube, acting: Kube, namespace: str
) -> None:
    *callers, server = await caller_and_server(kube, namespace, ("one", "two", "three"))
    plan = plan_for(callers, on_node=True, flows=to(server))
    ref = agents.ref(plan, VehicleKind.NODE_POD, callers[0].node)
    await agents.start(acting, ref, plan)
    lines = [each async for each in agents.evidence(acting, ref)]
    hit = {each.injection for each in lines if isinstance(each, Line) and each.hits}
    assert hit == {order.injection for order in plan.orders}
    verified = [each for each in lines if isinstance(each, Line) and each.told is Told.VERIFIED]
    assert len(verified) == 3 and not any(each.detail["leftovers"] for each in verified)
    assert {line.told for line in await agents.verify(plan, callers[0].node, {})} >= {Told.VERIFIED, Told.FINISHED}
    await agents.remove(ref)


async def test_a_guard_tells_its_own_story(agents: Agents, kube: Kube, acting: Kube, namespace: str) -> None:
    (target,) = await running(kube, namespace, [pod("target", *FOREVER)])
    plan = plan_for([target], duration=1, guarded=True)
    ref = agents.ref(plan, VehicleKind.SIDECAR, target)
    await agents.start(acting, ref, plan)
    lines = [each async for each in agents.evidence(acting, ref)]
    assert kinds(lines) == WHOLE_STORY
    guard = [each async for each in agents.evidence(acting, ref, guard=True)]
    assert kinds(guard) == ["started", "finished"]
    assert guard[-1] == AgentEnd(AgentFate.FINISHED)


async def test_evidence_survives_cut_connections(
    agents: Agents, kubeconfig: str, kube: Kube, namespace: str, tmp_path: Path
) -> None:
    caller, server = await caller_and_server(kube, namespace)
    plan = plan_for([caller], flows=to(server), duration=6)
    ref = agents.ref(plan, VehicleKind.SIDECAR, caller)
    async with through_relay(kubeconfig, tmp_path) as (relay, relayed):
        acting = relayed.acting_as(namespace, ACCOUNT)
        await agents.start(acting, ref, plan)
        lines: list[Line | AgentEnd] = []
        async with aclosing(agents.evidence(acting, ref)) as told:
            for wanted in (Told.STARTED, Told.IN_FORCE, Told.HEARTBEAT):
                await until(told, wanted, lines)
                relay.cut()
            lines += [each async for each in told]
    whole = [each async for each in agents.evidence(kube.acting_as(namespace, ACCOUNT), ref)]
    assert lines == whole, "nothing is missing and nothing is told twice"
    assert lines[-1] == AgentEnd(AgentFate.FINISHED)


async def test_a_deleted_target_is_gone(agents: Agents, kube: Kube, acting: Kube, namespace: str) -> None:
    (target,) = await running(kube, namespace, [pod("target", *FOREVER)])
    plan = plan_for([target], duration=120)
    ref = agents.ref(plan, VehicleKind.SIDECAR, target)
    await agents.start(acting, ref, plan)
    lines: list[Line | AgentEnd] = []
    async with aclosing(agents.evidence(acting, ref)) as told:
        await until(told, Told.IN_FORCE, lines)
        await kube.delete(PODS, namespace, "target", grace=0)
        lines += [each async for each in told]
    end = lines[-1]
    assert isinstance(end, AgentEnd)
    assert end.fate in (AgentFate.GONE, AgentFate.FINISHED)  # it may have had the time to tell its end
    await agents.stop(acting, ref)
    (namesake,) = await running(kube, namespace, [pod("target", *FOREVER)])
    assert [each async for each in agents.evidence(acting, ref)][-1] == AgentEnd(
        AgentFate.GONE, "pod target is not there any more"
    )
    with pytest.raises(Refused) as refused:
        await agents.start(acting, ref, plan)
    assert refused.value.reason == "TargetGone"
    there = await kube.get(PODS, namespace, namesake.name)
    assert "ephemeralContainers" not in there["spec"], "a namesake is somebody else"


async def test_a_deleted_node_pod_is_not_its_targets_end(
    agents: Agents, kube: Kube, acting: Kube, namespace: str, home: str
) -> None:
    (target,) = await running(kube, namespace, [pod("target", *FOREVER)])
    plan = plan_for([target], on_node=True, duration=120)
    ref = agents.ref(plan, VehicleKind.NODE_POD, target.node)
    await agents.start(acting, ref, plan)
    lines: list[Line | AgentEnd] = []
    async with aclosing(agents.evidence(acting, ref)) as told:
        await until(told, Told.IN_FORCE, lines)
        await kube.delete(PODS, home, ref.pod, grace=0)
        lines += [each async for each in told]
    end = lines[-1]
    assert isinstance(end, AgentEnd)
    assert end.fate in (AgentFate.KILLED, AgentFate.FINISHED)
    found = await agents.verify(plan, target.node, {})
    assert [each.detail["leftovers"] for each in found if each.told is Told.VERIFIED] == [[]]


async def test_where_pod_security_refuses_the_sidecar_a_node_pod_goes(kube: Kube, agents: Agents, home: str) -> None:
    name = f"bb-restricted-{home[-8:]}"
    await make_namespace(kube, name, {"pod-security.kubernetes.io/enforce": "restricted"})
    try:
        await apply(kube, access_manifest(name, ACCOUNT, home, "operator"))
        acting = kube.acting_as(name, ACCOUNT)
        caller, server = await caller_and_server(kube, name)
        refused = await agents.sidecar_refused(acting, caller, True)
        assert refused is not None and refused.reason == "PodSecurity" and "restricted" in refused.message
        assert choose_vehicle(VehicleKind.AUTO, caller, refused) == (
            VehicleKind.NODE_POD,
            "Pod Security refuses a sidecar in pod caller",
        )
        with pytest.raises(Refused, match="NodePod or Auto would do"):
            choose_vehicle(VehicleKind.SIDECAR, caller, refused)
        plan = plan_for([caller], on_node=True, flows=to(server), duration=2)
        ref = agents.ref(plan, VehicleKind.NODE_POD, caller.node)
        await agents.start(acting, ref, plan)
        lines = [each async for each in agents.evidence(acting, ref)]
        assert kinds(lines) == WHOLE_STORY
        await agents.remove(ref)
    finally:
        await drop_namespace(kube, name)


async def test_a_dry_run_leaves_nothing(agents: Agents, kube: Kube, acting: Kube, namespace: str) -> None:
    (target,) = await running(kube, namespace, [pod("target", *FOREVER)])
    assert await agents.sidecar_refused(acting, target, True) is None
    assert "ephemeralContainers" not in (await kube.get(PODS, namespace, "target"))["spec"]


async def test_the_operators_namespace_must_take_privileged_pods(kube: Kube, acting: Kube, namespace: str) -> None:
    home = f"{namespace}-strict"
    await make_namespace(kube, home, {"pod-security.kubernetes.io/enforce": "baseline"})
    await kube.create(SERVICE_ACCOUNTS, home, {"metadata": {"name": AGENT_ACCOUNT}})
    try:
        (target,) = await running(kube, namespace, [pod("target", *FOREVER)])
        agents = Agents(kube, home, IMAGE, "IfNotPresent")
        plan = plan_for([target], on_node=True)
        ref = agents.ref(plan, VehicleKind.NODE_POD, target.node)
        with pytest.raises(Refused) as refused:
            await agents.start(acting, ref, plan)
        assert refused.value.reason == "PodSecurity" and home in refused.value.message
        assert await agents.verify(plan, target.node, {}) == [], "nobody could look"
    finally:
        await drop_namespace(kube, home)


@pytest.mark.parametrize("vehicle", [VehicleKind.SIDECAR, VehicleKind.NODE_POD])
async def test_an_image_that_cannot_be_pulled_is_told_once_nothing_can_come_of_it(
    kube: Kube, acting: Kube, namespace: str, home: str, vehicle: VehicleKind
) -> None:
    (target,) = await running(kube, namespace, [pod("target", *FOREVER)])
    agents = Agents(kube, home, "127.0.0.1:1/nothing:1", "IfNotPresent")
    plan = plan_for([target], on_node=vehicle is VehicleKind.NODE_POD, start_before=15)
    ref = agents.ref(plan, vehicle, target)
    await agents.start(acting, ref, plan)
    lines = [each async for each in agents.evidence(acting, ref)]
    (end,) = lines
    assert isinstance(end, AgentEnd)
    assert end.fate is AgentFate.NEVER_STARTED
    assert "ErrImagePull" in end.message or "ImagePullBackOff" in end.message
    assert time.time() > plan.orders[0].start_before, "until then the kubelet could still have started it"
    with pytest.raises(Refused, match="has not started"):
        await agents.stop(acting, ref)
    await agents.remove(ref)


async def test_fifty_targets_of_one_node_cost_few_requests(kubeconfig: str, namespace: str, home: str) -> None:
    requests: list[str] = []
    async with Kube.connected(kubeconfig, lambda verb, path, _: requests.append(f"{verb} {path}")) as kube:
        pods = await running(kube, namespace, [pod(f"t{n}", image=PAUSE_IMAGE) for n in range(50)], seconds=240)
        agents, acting = Agents(kube, home, IMAGE, "IfNotPresent"), kube.acting_as(namespace, ACCOUNT)
        requests.clear()
        for each in pods:
            assert await agents.sidecar_refused(acting, each, False) is None
        peers = tuple(Flow(f"10.1.{n}.0/24", "TCP", (80, 443)) for n in range(200))
        plan = plan_for(pods, on_node=True, flows=peers, duration=5, act=Drop())
        assert len(plan.to_json()) > 128 * 1024, "the plan would not fit as it is"
        ref = agents.ref(plan, VehicleKind.NODE_POD, pods[0].node)
        began = time.monotonic()
        await agents.start(acting, ref, plan)
        lines: list[Line | AgentEnd] = []
        async with aclosing(agents.evidence(acting, ref)) as told:
            await until(told, Told.IN_FORCE, lines, count=50)
            in_force = time.monotonic() - began
            lines += [each async for each in told]
        await agents.remove(ref)
        assert len([each for each in lines if isinstance(each, Line) and each.told is Told.VERIFIED]) == 50
        print(f"50 targets: {in_force:.2f} s to in force, {len(requests)} requests")
        assert len(requests) <= 3 * 50
        assert len(requests) - 50 <= 8, requests[50:]
