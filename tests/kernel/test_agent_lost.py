"""What a guard undoes when its agent dies: at once, and with nothing but what it had from the start."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from bounceback.drivers.processes import chosen, of_pod
from bounceback.types.inside import Who
from bounceback.types.signals import Freeze
from bounceback.types.told import Told
from tests.kernel import lab
from tests.kernel.lab import GONE_SECONDS, Lab, plan
from tests.kernel.pods import container, on, until
from tests.kernel.test_both_gone import FAULTS, FILE, Fault
from tests.kernel.test_crowd import LISTENS
from tests.kernel.test_guard import duplicate, guard_socket
from tests.kernel.test_node_pod import node

__all__ = ["node"]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_with_what_it_had_from_the_start(
    node: Lab, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a node that has no processor or disk to spare nothing can be imported in time: here there is nothing to."""
    ours = tmp_path / "operator"
    shutil.copytree(lab.OPERATOR, ours, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(lab, "OPERATOR", ours)
    with container(node, node.target, program=LISTENS) as app:
        app.say(f"open({FILE!r}, 'w').close()")
        whole = plan(on(app, fault.act), on_node=True, guarded=True)
        agent, guard = node.start(whole, where=node.one), node.start(whole, "guard", where=node.one)
        agent.until(Told.IN_FORCE, seconds=60)
        until(lambda: fault.is_felt(app))
        shutil.rmtree(ours)
        agent.signal(signal.SIGKILL)
        until(lambda: not fault.is_felt(app), GONE_SECONDS)
        assert guard.until(Told.CLEARED).detail == {"why": "AgentLost"}
        assert guard.until(Told.VERIFIED).detail == {"leftovers": []}
        guard.end()


def test_before_all_that_the_agent_started_is_gone(node: Lab) -> None:
    """Its children may have much to give back, and no processor for it. What they did last is undone, too."""
    with container(node, node.target) as app:
        whole = plan(on(app, Freeze()), on_node=True, guarded=True)
        agent, guard = node.start(whole, where=node.one), node.start(whole, "guard", where=node.one)
        agent.until(Told.IN_FORCE, seconds=60)
        (frozen,) = chosen(of_pod(app.uid), Who())
        until(frozen.stands)
        held = os.pidfd_open(agent.number)
        child = duplicate(held, guard_socket(agent.number))
        agent.signal(signal.SIGKILL)
        until(lambda: not frozen.stands(), GONE_SECONDS)
        with pytest.raises(AssertionError, match="no cleared"):
            guard.until(Told.CLEARED, seconds=0.5)
        frozen.send(signal.SIGSTOP)
        os.close(child)
        os.close(held)
        assert guard.until(Told.CLEARED, seconds=GONE_SECONDS).detail == {"why": "AgentLost"}
        assert not frozen.stands()
        guard.end()
