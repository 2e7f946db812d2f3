"""Disk pressure in a container: filled to its level, given back when its holder dies, and never beyond its bounds."""

from __future__ import annotations

import os
import signal

import pytest

from bounceback.types.plan import Order
from bounceback.types.scarce import Fill
from bounceback.types.told import Told
from tests.kernel.lab import Agent, Lab, plan
from tests.kernel.pods import Inside, container, on, until
from tests.kernel.test_node_pod import node

__all__ = ["node"]
MIB = 1 << 20


def filling(where: Inside, **fields: object) -> Order:
    return on(where, Fill(path="/data", **fields))  # type: ignore[arg-type]


def free(where: Inside) -> int:
    return int(where.say("(lambda s: s.f_bavail * s.f_frsize)(os.statvfs('/data'))"))


def begun(node: Lab, *orders: Order) -> Agent:
    agent = node.start(plan(*orders, on_node=True), where=node.one)
    agent.until(Told.IN_FORCE, seconds=60)
    return agent


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_a_volume_is_filled_to_its_level_and_given_back(node: Lab, kind: str) -> None:
    with container(node, node.target, kind=kind, size="256m", user=1234) as app:
        before = free(app)
        size = int(app.say("(lambda s: s.f_blocks * s.f_frsize)(os.statvfs('/data'))"))
        agent = begun(node, filling(app, free_bytes=10 * MIB))
        hits = agent.until(Told.HITS).hits
        until(lambda: abs(free(app) - 10 * MIB) <= size / 100)
        assert abs(hits - (before - 10 * MIB) / MIB) <= size / MIB / 100
        assert app.say("[n for n in os.listdir('/data') if n != 'lost+found']") == "[]"
        assert app.say("open('/data/more', 'wb').write(bytes(20 << 20))") == "No space left on device"
        code, answer = agent.control({"stop": True})
        assert code == 0, answer
        told = next(line for line in agent.end() if line.told is Told.CLEARED)
        assert "held on /data" in told.detail["seen"][0]
        until(lambda: free(app) > before - 21 * MIB)


def test_a_killed_agents_space_is_free_again(node: Lab) -> None:
    with container(node, node.target, kind="ext4") as app:
        before = free(app)
        agent = begun(node, filling(app, free_percent=20))
        agent.signal(signal.SIGKILL)
        until(lambda: free(app) == before)


def test_a_symbolic_link_leads_nowhere_outside_of_the_container(node: Lab) -> None:
    with container(node, node.target, kind="ext4") as app:
        outside = node.folder / "outside"
        outside.mkdir()
        app.say(f"os.symlink('{outside}', '/data/out')")
        app.say("os.symlink('/../../../../../../../../tmp', '/data/up')")
        for name in ("out", "up"):
            asked = on(app, Fill(path=f"/data/{name}", amount_bytes=MIB))
            agent = node.start(plan(asked, on_node=True), where=node.one)
            assert agent.until(Told.REFUSED, seconds=60).detail["reason"] == "NoPath"
            agent.end()


def test_the_nodes_own_file_system_is_filled_within_its_bounds_only(node: Lab) -> None:
    with container(node, node.target, own=True) as app:
        told = os.statvfs(app.volume)
        most = told.f_bavail * told.f_frsize - round(told.f_blocks * told.f_frsize * 0.15)
        agent = node.start(plan(filling(app, free_percent=5), on_node=True), where=node.one)
        assert agent.until(Told.REFUSED, seconds=60).detail["reason"] == "NodeFileSystem"
        agent.end()
        if most > 100 * MIB:
            agent = begun(node, filling(app, amount_bytes=50 * MIB))
            assert agent.until(Told.HITS).hits == 50


@pytest.mark.parametrize(
    ("path", "reason"), [("/nowhere", "NoPath"), ("/proc", "NotAVolume"), ("/data/file", "NoPath")], ids=str
)
def test_a_path_that_is_no_folder_of_the_target_is_refused(node: Lab, path: str, reason: str) -> None:
    with container(node, node.target, kind="ext4") as app:
        app.say("open('/data/file', 'w').close()")
        asked = on(app, Fill(path=path, amount_bytes=MIB))
        agent = node.start(plan(asked, on_node=True), where=node.one)
        assert agent.until(Told.REFUSED, seconds=60).detail["reason"] == reason
        agent.end()
