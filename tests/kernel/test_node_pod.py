"""An agent on a node, beside its targets: found by their cgroups, in network namespaces that are not the agent's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bounceback.drivers.leftovers import left
from bounceback.drivers.netns import Netns
from bounceback.types.plan import Drop, Feature, Netem, Order
from bounceback.types.told import Told
from tests.kernel.lab import ONE, TWO, Lab, connect, echo, order, peer, plan, reach, round_trip
from tests.kernel.pods import with_processes

# The hierarchies of version 1 that every kernel has, and version 2's own.
GROUPS = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]


@pytest.fixture
def owned_tables(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER)


@pytest.fixture
def node(lab: Lab) -> Iterator[Lab]:
    with with_processes(lab):
        yield lab


@contextlib.contextmanager
def pod(node: Lab, netns: Netns) -> Iterator[tuple[str, Callable[[], None]]]:
    """A process in that network, in a cgroup that is named as the kubelet names a pod's: its UID, and what ends it."""
    uid = str(uuid.uuid4())
    hierarchy = next((each for each in GROUPS if (each / "cgroup.procs").exists()), Path("/sys/fs/cgroup"))
    folders = [hierarchy / f"bbt-pod{uid}", hierarchy / f"bbt-pod{uid}" / f"pod{uid}"]
    try:
        for folder in folders:
            folder.mkdir()
    except OSError as error:
        pytest.skip(f"makes cgroups, which it may not here: {error}")
    join = f"echo $$ > {folders[-1]}/cgroup.procs; echo in; exec sleep 1000"
    with netns.entered():
        process = subprocess.Popen([*node.among, "sh", "-c", join], stdout=subprocess.PIPE)

    def end() -> None:
        for number in (folders[-1] / "cgroup.procs").read_text().split():
            os.kill(int(number), signal.SIGKILL)
        process.wait()

    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"in\n"
            yield uid, end
        finally:
            end()
            for folder in reversed(folders):
                folder.rmdir()


def on(uid: str, made: Order) -> Order:
    return replace(made, pod_uid=uid)


def test_one_agent_serves_several_pods_and_leaves_its_own_network_alone(node: Lab, owned_tables: None) -> None:
    with pod(node, node.target) as (target, _), pod(node, node.two) as (other, _), echo(node.one, ONE):
        first, second = on(target, order(Drop(), peer(ONE))), on(other, order(Drop(), peer(ONE)))
        absent = on(str(uuid.uuid4()), order(Drop(), peer(ONE)))
        agent = node.start(plan(first, second, absent, on_node=True), where=node.one)
        agent.until(Told.IN_FORCE, second.injection)
        assert reach(node.target, ONE) == reach(node.two, ONE) == "silence"
        assert reach(node.node, ONE) == "ok"
        code, answer = agent.control({"stop": True})
        assert (code, answer["leftovers"]) == (0, {first.injection: [], second.injection: []})
        agent.end()
        assert reach(node.target, ONE) == reach(node.two, ONE) == "ok"
        assert agent.of(absent.injection) == [Told.REFUSED]
        assert agent.hits(first.injection) > 0
        assert agent.hits(second.injection) > 0


def test_a_killed_agents_faults_end_in_all_pods(node: Lab, owned_tables: None) -> None:
    with pod(node, node.target) as (target, _), pod(node, node.two) as (other, _), echo(node.one, ONE):
        second = on(other, order(Drop(), peer(ONE)))
        agent = node.start(plan(on(target, order(Drop(), peer(ONE))), second, on_node=True), where=node.one)
        agent.until(Told.IN_FORCE, second.injection)
        killed = agent.signal(signal.SIGKILL)
        while node.left():
            assert time.monotonic() - killed < 2
            time.sleep(0.005)
        assert reach(node.target, ONE) == reach(node.two, ONE) == "ok"


def test_a_killed_agents_delays_end_in_all_pods_by_its_guard(node: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.NETEM, Feature.PRIO, Feature.U32, Feature.INGRESS, Feature.MIRRED, Feature.IFB)
    with pod(node, node.target) as (target, _), pod(node, node.two) as (other, _), echo(node.one, ONE):
        slow = Netem(delay_us=200_000)
        second = on(other, order(slow, peer(ONE)))
        agent = node.start(plan(on(target, order(slow, peer(ONE))), second, on_node=True, guarded=True), where=node.one)
        guard = node.start(agent.plan, "guard", where=node.one)
        agent.until(Told.IN_FORCE, second.injection)
        with connect(node.target, ONE, seconds=3) as one, connect(node.two, ONE, seconds=3) as two:
            assert min(round_trip(one), round_trip(two)) > 0.38
            killed = agent.signal(signal.SIGKILL)
            while node.left() or left(node.two):
                assert time.monotonic() - killed < 2
                time.sleep(0.005)
            for each in (one, two):
                assert min(round_trip(each) for _ in range(5)) < 0.05
        guard.end()


def test_a_pod_that_ends_ends_its_fault(node: Lab, owned_tables: None) -> None:
    with pod(node, node.target) as (target, end):
        cut = on(target, order(Drop(), peer(ONE)))
        agent = node.start(plan(cut, on_node=True), where=node.one)
        agent.until(Told.IN_FORCE)
        end()
        told = agent.end()
        assert next(line for line in told if line.told is Told.CLEARED).detail == {"why": "TargetGone"}


def test_a_pod_on_the_nodes_own_network_is_refused(node: Lab) -> None:
    with pod(node, node.node) as (target, _):
        agent = node.start(plan(on(target, order(Drop(), peer(ONE))), on_node=True), where=node.one)
        assert agent.until(Told.REFUSED).detail["reason"] == "HostNetwork"
        agent.end()


def test_a_pod_on_the_nodes_own_network_is_hit_where_that_is_allowed(node: Lab, owned_tables: None) -> None:
    with pod(node, node.node) as (target, _), echo(node.one, ONE), echo(node.two, TWO):
        cut = replace(on(target, order(Drop(reject=True), peer(ONE))), host_network=True)
        agent = node.start(plan(cut, on_node=True), where=node.one)
        agent.until(Told.IN_FORCE)
        assert (reach(node.node, ONE), reach(node.node, TWO)) == ("refused", "ok")
        assert reach(node.target, ONE) == "ok", "a pod whose packets pass through the node is none of it"
        agent.signal(signal.SIGTERM)
        agent.end()
        assert reach(node.node, ONE) == "ok"


def test_verification_of_a_pod_that_is_gone_says_so(node: Lab) -> None:
    cut = on(str(uuid.uuid4()), order(Drop(), peer(ONE)))
    verifier = node.start(plan(cut, on_node=True), "verify", where=node.one)
    assert verifier.until(Told.VERIFIED).detail == {"leftovers": [], "target": "gone"}
    verifier.end()


def _has_proc(process: str) -> bool:
    """Whether /proc of its own namespaces is mounted."""
    return Path("/proc", process, "root", "proc", "1", "status").exists()
