"""Faults inside a pod with no more rights than their NodePod has: those that every one has, and those of the act."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from bounceback.types.access import Access
from bounceback.types.clock import Skew
from bounceback.types.files import Spoil
from bounceback.types.inside import InsideAct
from bounceback.types.scarce import Backlog, Crowd, Descriptors, Fill
from bounceback.types.told import Told
from bounceback.vehicles.node_pod import agent_pod
from tests.kernel.lab import Lab, plan
from tests.kernel.pods import container, on
from tests.kernel.test_crowd import LISTENS, PORT
from tests.kernel.test_node_pod import node

__all__ = ["node"]
ACTS = [
    Fill(path="/data", amount_bytes=1 << 20),
    Descriptors(leave=0),
    Crowd(port=PORT, connections=3, per_second=10),
    Crowd(leave_ports=28_000),
    Backlog(port=PORT),
    Skew(offset_milliseconds=1000),
    Access(path="/data/file", delay_us=1000),
    *(Spoil(path="/data/file", damage=damage, percent=50.0) for damage in ("Corrupt", "Truncate", "Stale", "Remove")),
]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: f"{act.driver}-{getattr(act, 'damage', '')}")
def test_an_act_needs_no_right_that_its_pod_has_not_got(
    node: Lab, act: InsideAct, request: pytest.FixtureRequest
) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv of util-linux")
    clock = request.getfixturevalue("library") if isinstance(act, Skew) else None
    with container(node, node.target, kind="ext4", user=1234, program=LISTENS, clock=clock) as app:
        app.say("open('/data/file', 'w').write('text' * 100) and os.chmod('/data/file', 0o600)")
        app.say("os.chmod('/data', 0o700)")
        made = plan(on(app, act), on_node=True, guarded=act.outlives)
        asked = agent_pod(made, "node", "ns", "image", "Never", 0.0)["spec"]["containers"][0]["securityContext"]
        rights = ",".join(f"+{each.lower()}" for each in asked["capabilities"]["add"])
        limited = replace(node, among=(*node.among, "setpriv", f"--bounding-set=-all,{rights}"))
        agent = limited.start(made, where=node.one)
        if act.outlives:
            limited.start(made, "guard", where=node.one)
        agent.until(Told.IN_FORCE, seconds=60)
        code, answer = agent.control({"stop": True})
        assert (code, answer["leftovers"]) == (0, {made.orders[0].injection: []})
        agent.end(60)
