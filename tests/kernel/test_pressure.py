"""Pressure on a container's processors, memory and pids: as much as was asked for, inside its own limits, and gone with
the agent or with the container."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from bounceback.drivers.cgroups import counter
from bounceback.types.inside import InsideAct
from bounceback.types.pattern import Ramp
from bounceback.types.plan import Order
from bounceback.types.pressure import Cpu, Memory, Pids, Victim
from bounceback.types.told import Line, Told
from tests.kernel.lab import Agent, Lab, order, plan
from tests.kernel.pods import Inside, container, until
from tests.kernel.test_node_pod import node

__all__ = ["node"]
MIB: Final = 1 << 20
CONTROLLERS: Final = ("cpu", "memory", "pids")


@contextmanager
def limited(node: Lab, *, processors: float = 0.0, memory: int = 0, pids: int = 0) -> Iterator[Inside]:
    """A container with such limits; 0: none."""
    with container(node, node.target, controllers=CONTROLLERS) as app:
        cpu, mem, tasks = map(app.group, CONTROLLERS)
        unified = (cpu / "cgroup.controllers").exists()
        if not (tasks / "pids.max").exists() or not any((cpu / name).exists() for name in ("cpu.max", "cpu.shares")):
            pytest.skip("this machine's cgroups have not got these controllers")
        if processors and unified:
            (cpu / "cpu.max").write_text(f"{int(processors * 100_000)} 100000")
        elif processors:
            (cpu / "cpu.cfs_quota_us").write_text(str(int(processors * 100_000)))
        if memory:
            (mem / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(memory))
        if pids:
            (tasks / "pids.max").write_text(str(pids))
        yield app


def asked(app: Inside, act: InsideAct, **times: Any) -> Order:
    return replace(order(act, **times), pod_uid=app.uid)


def begun(node: Lab, app: Inside, act: InsideAct, **times: Any) -> Agent:
    agent = node.start(plan(asked(app, act, **times), on_node=True), where=node.one)
    agent.until(Told.IN_FORCE)
    return agent


def stopped(agent: Agent) -> Line:
    """What it told when it was cleared; nothing was left."""
    code, answer = agent.control({"stop": True})
    assert code == 0, answer
    return next(line for line in agent.end() if line.told is Told.CLEARED)


def inside(app: Inside, controller: str) -> list[int]:
    """Processes in its cgroup."""
    return [int(number) for number in (app.group(controller) / "cgroup.procs").read_text().split()]


def used(app: Inside) -> int:
    """Bytes of memory that are billed to it."""
    group = app.group("memory")
    name = "memory.current" if (group / "memory.current").exists() else "memory.usage_in_bytes"
    return int((group / name).read_text())


def most_used(app: Inside) -> int:
    """Bytes of memory that were ever billed to it."""
    group = app.group("memory")
    name = "memory.peak" if (group / "memory.peak").exists() else "memory.max_usage_in_bytes"
    return int((group / name).read_text())


def kills(app: Inside) -> int:
    group = app.group("memory")
    return counter(f"{group}/memory.events", "oom_kill") or counter(f"{group}/memory.oom_control", "oom_kill")


def processor_seconds(number: int) -> float:
    """That it has had."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_share_of_the_processor_limit_is_burned_and_no_more(node: Lab) -> None:
    with limited(node, processors=0.5) as app:
        (target,) = inside(app, "cpu")
        began = time.monotonic()
        agent = begun(node, app, Cpu(percent=40))
        until(lambda: len(inside(app, "cpu")) == 2)
        worker = next(number for number in inside(app, "cpu") if number != target)
        until(lambda: processor_seconds(worker) > 0.3)
        most = 0.2 * (time.monotonic() - began) + 0.08  # and what a clock of 10 ms does not show
        assert processor_seconds(worker) <= most
        stopped(agent)
        assert agent.hits(agent.plan.orders[0].injection) >= 300
        assert len(inside(app, "cpu")) == 1


def test_what_is_more_than_the_limit_is_throttled(node: Lab) -> None:
    with limited(node, processors=0.03) as app:
        agent = begun(node, app, Cpu(processors=1.0))
        until(lambda: counter(f"{app.group('cpu')}/cpu.stat", "nr_throttled") > 1)
        assert app.say("1 + 1") == "2"  # slowed down, and alive
        assert "throttled for" in stopped(agent).detail["seen"][0]


def test_a_share_of_the_memory_limit_is_held_and_given_back(node: Lab) -> None:
    with limited(node, memory=128 * MIB) as app:
        before = used(app)
        agent = begun(node, app, Memory(percent=50))
        until(lambda: agent.until(Told.HITS).hits == 64)
        assert abs(used(app) - before - 64 * MIB) <= 2 * MIB  # each processor of the kernel's may have some in stock
        stopped(agent)
        until(lambda: used(app) - before < 2 * MIB)


def test_memory_grows_as_quickly_as_asked(node: Lab) -> None:
    with limited(node) as app:
        began = time.monotonic()
        agent = begun(node, app, Memory(amount=400 * MIB, growth=20 * MIB))
        until(lambda: agent.until(Told.HITS).hits >= 20)
        hits = agent.told[-1].hits
        assert hits <= 20 * (time.monotonic() - began) + 2
        stopped(agent)


def test_with_a_ramp_more_and_more_is_held(node: Lab) -> None:
    with limited(node) as app:
        before = used(app)
        growing = replace(asked(app, Memory(amount=80 * MIB)), pattern=Ramp(0.25, 1.0, 4), duration=8.0)
        agent = node.start(plan(growing, on_node=True), where=node.one)
        assert agent.until(Told.HITS).hits < 80
        agent.end()
        assert most_used(app) - before >= 78 * MIB
        assert [line.detail["percent"] for line in agent.told if line.told is Told.STEP] == [25, 50, 75, 100]
        assert agent.hits(growing.injection) == 80


def test_where_ours_is_to_die_first_the_target_lives(node: Lab) -> None:
    with limited(node, memory=96 * MIB) as app:
        assert app.say("globals().update(kept=b'x' * (30 << 20)) or len(kept)") == str(30 << 20)
        agent = begun(node, app, Memory(percent=100))
        until(lambda: kills(app) > 1)
        assert app.say("len(kept)") == str(30 << 20)
        told = stopped(agent).detail["seen"]
        assert "of our processes ended for want of memory" in told[0]
        assert not any("target" in words for words in told)


def test_where_the_target_is_to_die_first_it_does_and_all_is_let_go(node: Lab) -> None:
    with limited(node, memory=96 * MIB) as app:
        agent = begun(node, app, Memory(percent=100, victim=Victim.TARGET))
        until(lambda: used(app) > 76 * MIB)  # there is no room any more for what the target asks for now
        assert app.process.stdin is not None
        app.process.stdin.write(b"len(b'x' * (40 << 20))\n")
        app.process.stdin.flush()
        assert app.process.wait(20) != 0
        until(lambda: used(app) < 20 * MIB)
        agent.end()
        seen = next(line for line in agent.told if line.told is Told.CLEARED).detail
        assert seen["why"] == "TargetGone"
        assert "of the target's processes ended for want of memory" in seen["seen"][0]


def test_a_target_that_the_kernel_would_rather_keep_dies_all_the_same(node: Lab) -> None:
    """The kubelet gives a pod that is Guaranteed an oom_score_adj of -997, and our NodePods one of nearly 1000."""
    with limited(node, memory=96 * MIB) as app, worth_less_than_the_target():
        agent = begun(node, app, Memory(percent=100, victim=Victim.TARGET), duration=60.0, not_after=90.0)
        until(lambda: kills(app) > 0)  # ours
        since = time.monotonic()
        while app.process.poll() is None and time.monotonic() < since + 3:  # the next one waits inside, and leaves
            if len(inside(app, "memory")) > 1:
                since = time.monotonic()
            time.sleep(0.01)
        assert app.process.poll() is not None or kills(app) == 1
        assert app.process.stdin is not None
        with suppress(BrokenPipeError):  # it may have asked for something, and be dead
            app.process.stdin.write(b"len(b'x' * (40 << 20))\n")
            app.process.stdin.flush()
        assert app.process.wait(20) != 0
        agent.end()
        seen = next(line for line in agent.told if line.told is Told.CLEARED).detail["seen"]
        assert "1 of the target's processes ended for want of memory" in seen
        assert "1 of our processes ended for want of memory" in seen


@contextmanager
def worth_less_than_the_target() -> Iterator[None]:
    """Agents that are begun meanwhile."""
    ours = Path("/proc/self/oom_score_adj")
    before = ours.read_text()
    ours.write_text("990")
    try:
        yield
    finally:
        ours.write_text(before)


def test_no_thread_or_process_can_start_where_all_are_taken(node: Lab) -> None:
    with limited(node, pids=60) as app:
        fork = "(lambda child: child or os._exit(0))(os.fork()) > 0"
        agent = begun(node, app, Pids(percent=100))
        until(lambda: app.say(fork) == "Resource temporarily unavailable")
        until(lambda: agent.until(Told.HITS).hits >= 50)
        assert "refused" in stopped(agent).detail["seen"][0]
        assert app.say(fork) == "True"


@pytest.mark.parametrize("act", [Cpu(processors=1.0), Memory(amount=50 * MIB), Pids(amount=20)], ids=lambda a: a.driver)
def test_what_a_killed_agent_took_is_free_again(node: Lab, act: InsideAct) -> None:
    with limited(node) as app:
        before = used(app)
        agent = begun(node, app, act)
        until(lambda: len(inside(app, act.driver)) == 2)
        agent.signal(signal.SIGKILL)
        until(lambda: len(inside(app, act.driver)) == 1, 2)
        until(lambda: used(app) - before < 20 * MIB)


def test_a_container_that_ends_is_empty(node: Lab) -> None:
    """Or the runtime could not take it away."""
    with limited(node) as app:
        (target,) = inside(app, "cpu")
        several = [asked(app, act) for act in (Cpu(processors=0.1), Memory(amount=20 * MIB), Pids(amount=20))]
        agent = node.start(plan(*several, on_node=True), where=node.one)
        for each in several:
            agent.until(Told.IN_FORCE, each.injection)
        os.kill(target, signal.SIGKILL)
        until(lambda: not any(inside(app, name) for name in CONTROLLERS), 2)
        agent.end()


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (Cpu(percent=50), "NoLimit"),
        (Memory(percent=50), "NoLimit"),
        (Memory(amount=1 << 50), "NodeAtRisk"),
        (Pids(percent=50), "NoLimit"),
        (Pids(amount=100_000), "TooMany"),
    ],
    ids=lambda each: each if isinstance(each, str) else each.driver,
)
def test_what_cannot_be_had_is_refused(node: Lab, act: InsideAct, reason: str) -> None:
    with limited(node) as app:
        agent = node.start(plan(asked(app, act), on_node=True), where=node.one)
        assert agent.until(Told.REFUSED).detail["reason"] == reason
        agent.end()
        assert len(inside(app, act.driver)) == 1


def test_a_share_of_more_processors_than_there_are_is_refused_and_more_workers_are_not(node: Lab) -> None:
    with limited(node, processors=4096.0) as app:
        agent = node.start(plan(asked(app, Cpu(percent=100)), on_node=True), where=node.one)
        assert agent.until(Told.REFUSED).detail["reason"] == "TooFewProcessors"
        agent.end()
        several = begun(node, app, Cpu(processors=6.0))
        until(lambda: len(inside(app, "cpu")) == 7)
        stopped(several)
