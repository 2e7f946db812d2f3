"""What takes a node with another kernel: netem, with its guard, and a clock that is not ours.

Skipped where no such node can be had.
"""

from __future__ import annotations

from contextlib import aclosing

import pytest

from bounceback.engine.model import AgentEnd, AgentFate
from bounceback.kube import Kube
from bounceback.kube.resources import NODES
from bounceback.types.instants import boot_id
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Direction, Feature, Netem
from bounceback.types.told import Line, Told
from bounceback.vehicles.agents import Agents
from bounceback.vehicles.capabilities import Nodes
from tests.conftest import IMAGE
from tests.workload import CALL, SERVE, kinds, plan_for, pod, running, to, until

NEEDED = {Feature.NETEM, Feature.PRIO, Feature.U32}


@pytest.fixture
async def node(kube: Kube, home: str) -> str:
    """A node with netem that was not booted with this machine."""
    found, _ = await kube.list(NODES)
    foreign = [each["metadata"]["name"] for each in found if each["status"]["nodeInfo"]["bootID"].strip() != boot_id()]
    able = await Nodes(kube, home, IMAGE, "IfNotPresent").capabilities(foreign) if foreign else {}
    fitting = [name for name, capability in able.items() if capability.features >= NEEDED]
    if not fitting:
        pytest.skip("no node has netem and a kernel of its own: python -m dev up --nodes 2")
    return fitting[0]


@pytest.mark.parametrize("vehicle", [VehicleKind.SIDECAR, VehicleKind.NODE_POD])
async def test_a_guarded_delay_is_proven_timed_and_cleared(
    kube: Kube, acting: Kube, namespace: str, home: str, node: str, vehicle: VehicleKind
) -> None:
    agents = Agents(kube, home, IMAGE, "IfNotPresent")
    (server,) = await running(kube, namespace, [pod("server", "python3", "-c", SERVE)])
    calling = pod("caller", "python3", "-c", CALL, server.ips[0], nodeName=node)
    (caller,) = await running(kube, namespace, [calling])
    on_node = vehicle is VehicleKind.NODE_POD
    plan = plan_for(
        [caller],
        on_node=on_node,
        act=Netem(delay_us=50_000),
        direction=Direction.EGRESS,
        flows=to(server),
        duration=60,
        guarded=True,
    )
    ref = agents.ref(plan, vehicle, caller)
    await agents.start(acting, ref, plan)
    lines: list[Line | AgentEnd] = []
    async with aclosing(agents.evidence(acting, ref)) as told:
        await until(told, Told.HITS, lines)
        first = await agents.ping(acting, ref)
        second = await agents.ping(acting, ref)
        assert first.least <= first.most and first.most - first.least < 20
        assert max(first.least, second.least) <= min(first.most, second.most), "both bounds hold of one clock"
        await agents.stop(acting, ref)
        lines += [each async for each in told]
    assert kinds(lines) == ["started", "inForce", "cleared", "verified", "finished"]
    assert lines[-1] == AgentEnd(AgentFate.FINISHED)
    guard = [each async for each in agents.evidence(acting, ref, guard=True)]
    assert kinds(guard) == ["started", "finished"], "it had nothing to undo"
    found = await agents.verify(plan, node, {})
    assert [each.detail["leftovers"] for each in found if each.told is Told.VERIFIED] == [[]]
    await agents.remove(ref)
