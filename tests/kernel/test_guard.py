"""The guard undoes what no process's end undoes: shown with what this kernel has, owned tables and unowned ones."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bounceback.agent.evidence import boottime
from bounceback.agent.link import address
from bounceback.types.instants import Instant
from bounceback.types.plan import Drop, Feature
from bounceback.types.told import Told
from tests.kernel.lab import GONE_SECONDS, ONE, POD_UID, Lab, order, peer, plan


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER)


def test_an_agent_waits_for_its_guard(lab: Lab) -> None:
    cut = order(Drop(), peer(ONE), duration=0.5)
    agent = lab.start(plan(cut, guarded=True))
    agent.until(Told.STARTED)
    time.sleep(0.7)  # nothing must happen in this time
    assert lab.left() == []
    guard = lab.start(agent.plan, "guard")
    agent.until(Told.IN_FORCE)
    agent.end()
    assert [line.told for line in guard.end()] == [Told.STARTED, Told.FINISHED]
    assert agent.of(cut.injection) == [Told.IN_FORCE, Told.CLEARED, Told.VERIFIED]


def test_without_its_guard_an_agent_touches_nothing(lab: Lab) -> None:
    cut = order(Drop(), peer(ONE), start_before=4.0)
    agent = lab.start(plan(cut, guarded=True))
    agent.end()
    assert [(line.told, line.detail["reason"]) for line in agent.told if line.injection] == [(Told.REFUSED, "NoGuard")]


def test_a_guard_without_an_agent_ends_by_itself(lab: Lab) -> None:
    guard = lab.start(plan(order(Drop(), peer(ONE), start_before=0.2), guarded=True), "guard")
    assert [line.told for line in guard.end()] == [Told.STARTED, Told.FINISHED]


def test_a_guard_tells_that_its_agent_was_killed(lab: Lab) -> None:
    cut = order(Drop(), peer(ONE))
    agent = lab.start(plan(cut, guarded=True))
    guard = lab.start(agent.plan, "guard")
    agent.until(Told.IN_FORCE)
    killed = Instant.now()
    agent.signal(signal.SIGKILL)
    lines = guard.end()
    assert next(line for line in lines if line.told is Told.CLEARED).at.since(killed) < GONE_SECONDS
    told = {line.told: line.detail for line in guard.told if line.injection == cut.injection}
    assert told == {Told.CLEARED: {"why": "AgentLost"}, Told.VERIFIED: {"leftovers": []}}
    assert lab.left() == []


def test_a_command_that_outlives_its_agent_is_waited_for(lab: Lab) -> None:
    """The guard must not undo before the last child of the agent can change anything."""
    cut = order(Drop(), peer(ONE))
    agent = lab.start(plan(cut, guarded=True))
    guard = lab.start(agent.plan, "guard")
    agent.until(Told.IN_FORCE)
    held = os.pidfd_open(agent.number)
    connection = duplicate(held, guard_socket(agent.number))
    agent.signal(signal.SIGKILL)
    with pytest.raises(AssertionError, match="no cleared"):
        guard.until(Told.CLEARED, seconds=0.5)
    os.close(connection)
    os.close(held)
    guard.until(Told.CLEARED, seconds=GONE_SECONDS)
    guard.end()


def test_a_killed_guard_ends_what_it_guarded(lab: Lab) -> None:
    cut = order(Drop(), peer(ONE))
    agent = lab.start(plan(cut, guarded=True))
    guard = lab.start(agent.plan, "guard")
    agent.until(Told.IN_FORCE)
    killed = Instant.now()
    guard.signal(signal.SIGKILL)
    cleared = next(line for line in agent.end() if line.told is Told.CLEARED)
    assert cleared.detail == {"why": "GuardLost"}
    assert cleared.at.since(killed) < GONE_SECONDS
    assert lab.left() == []


@pytest.mark.parametrize(("planned", "own"), [(10.0, None), (60.0, 3.0)], ids=["as planned", "an order that waited"])
def test_a_guard_undoes_in_time_what_has_no_owner(lab: Lab, planned: float, own: float | None) -> None:
    """An agent that began and then hangs, on a kernel without owned tables: its part is played by this test."""
    guard = lab.start(plan(order(Drop(), injection="stuck", not_after=planned)), "guard")
    guard.until(Told.STARTED)
    with lab.target.entered(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        hook = "{ type filter hook output priority 0; policy drop; }"
        subprocess.run(["nft", f"add table ip bb-stuck; add chain ip bb-stuck out {hook}"], check=True)
        agent.connect(address(guard.plan.agent))
        said = {} if own is None else {"notAfter": boottime() + own}
        agent.sendall(json.dumps({"begin": "stuck", **said}).encode() + b"\n")
        assert lab.left() == ["nft table ip bb-stuck"]
        assert guard.until(Told.CLEARED).detail == {"why": "NotAfter"}
        assert guard.until(Told.VERIFIED).detail == {"leftovers": []}
    assert lab.left() == []


def test_a_terminated_guard_undoes_what_is_begun(lab: Lab) -> None:
    guard = lab.start(plan(order(Drop(), injection="begun")), "guard")
    guard.until(Told.STARTED)
    with lab.target.entered(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        subprocess.run(["nft", "add table ip bb-begun"], check=True)
        agent.connect(address(guard.plan.agent))
        agent.sendall(json.dumps({"begin": "begun"}).encode() + b"\n")
        assert json.loads(agent.recv(1000))["ready"] == [POD_UID]
        guard.signal(signal.SIGTERM)
        assert guard.until(Told.CLEARED).detail == {"why": "Terminated"}
        guard.end()
    assert lab.left() == []


def guard_socket(process: int) -> int:
    """The descriptor that the agent keeps inheritable: that of its connection to the guard."""
    for name in Path(f"/proc/{process}/fdinfo").iterdir():
        flags = next(int(line.split()[1], 8) for line in name.read_text().splitlines() if line.startswith("flags"))
        link = Path(f"/proc/{process}/fd/{name.name}").readlink()
        if link.name.startswith("socket:") and not flags & os.O_CLOEXEC:
            return int(name.name)
    raise AssertionError("the agent keeps no inheritable socket")


def duplicate(process: int, number: int) -> int:
    """pidfd_getfd(2)"""
    found = ctypes.CDLL(None, use_errno=True).syscall(438, process, number, 0)
    assert found >= 0, os.strerror(ctypes.get_errno())
    return int(found)
