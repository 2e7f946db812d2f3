"""A kubelet that stands still, and goes on whatever becomes of who stopped it. Here it is a process of that name."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bounceback.drivers.kubelet import TIMER
from bounceback.types.inside import InsideAct
from bounceback.types.kubelet import StopKubelet, StopKubeletService
from bounceback.types.pattern import OnOff
from bounceback.types.plan import Order
from bounceback.types.told import Line, Told
from tests.kernel.lab import GONE_SECONDS, Agent, Lab, order, plan
from tests.kernel.pods import DEAF, GROUPS, group
from tests.kernel.test_node_pod import node

__all__ = ["node"]
PROGRAM = f"""{DEAF}
import sys
open("/proc/self/comm", "w").write("kubelet")
print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("deaf"):
        deaf(15)
        continue  # it answers questions alone
    print(line, end="", flush=True)
"""


class Kubelet:
    """It answers each line with the same."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def answers(self, seconds: float) -> bool:
        """Whether it does within so many seconds; a question that it did not answer is answered later."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"1\n")
        self._process.stdin.flush()
        came = bool(select.select([self._process.stdout], [], [], seconds)[0])
        if came:
            self._process.stdout.readline()
        return came

    def is_deaf_for_a_while(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"deaf\n")
        self._process.stdin.flush()

    def goes_on_within(self, seconds: float) -> float:
        """How long it took until a question that it has already was answered."""
        assert self._process.stdout is not None
        began = time.monotonic()
        assert select.select([self._process.stdout], [], [], seconds)[0], f"still stopped after {seconds} s"
        self._process.stdout.readline()
        return time.monotonic() - began


@contextlib.contextmanager
def kubelet(*among: str) -> Iterator[Kubelet]:
    command = [*among, sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield Kubelet(process)
        finally:
            numbers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for number in [*map(int, numbers), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


def still(act: InsideAct | None = None, **times: object) -> Order:
    made = order(act or StopKubelet(), **times)  # type: ignore[arg-type]
    return replace(made, pod_namespace="", pod_name="", pod_uid="")


def start(node: Lab, each: Order) -> Agent:
    return node.start(plan(each, on_node=True), where=node.one)


def timers(injection: str) -> list[Path]:
    """The timers on the host of that injection, as folders of /proc."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, NotADirectoryError):
            words = (folder / "cmdline").read_text().split("\0")
            if TIMER in words and injection in words and folder.name.isdigit():
                found.append(folder)
    return found


def none_left(injection: str) -> bool:
    end = time.monotonic() + 10
    while timers(injection) and time.monotonic() < end:
        time.sleep(0.05)
    return not timers(injection)


def test_a_kubelet_stands_still_for_its_time_and_goes_on(node: Lab) -> None:
    with kubelet(*node.among) as one:
        each = still(duration=6.0)
        agent = start(node, each)
        begun = agent.until(Told.IN_FORCE)
        first = agent.until(Told.HITS)
        assert not one.answers(0.5)
        lines = agent.end()
        one.goes_on_within(10)
        cleared = next(line for line in lines if line.told is Told.CLEARED)
        assert cleared.detail["why"] == "Duration"
        assert "stood still for" in cleared.detail["seen"][0]
        assert is_its_time(agent.hits(each.injection), begun, first, cleared, each.duration)
        assert [line.detail["leftovers"] for line in lines if line.told is Told.VERIFIED] == [[]]
        assert none_left(each.injection)


def is_its_time(milliseconds: int, begun: Line, first: Line, cleared: Line, duration: float) -> bool:
    """From the first word of it until it was over at least, and no more than from when it was in force."""
    least = first.hits + 1000 * (duration - first.at.since(begun.at)) - 500
    return least <= milliseconds <= 1000 * cleared.at.since(begun.at) + 100


def test_one_that_hears_of_it_late_was_let_go_on_by_nobody(node: Lab) -> None:
    with kubelet(*node.among) as one:
        each = still(duration=30.0)
        one.is_deaf_for_a_while()
        agent = start(node, each)
        agent.until(Told.HITS)
        assert not one.answers(0.5)
        agent.control({"stop": True})
        one.goes_on_within(30)
        lines = agent.end()
        assert [line.told for line in lines if line.told is Told.FAILED] == []
        assert [line.detail["leftovers"] for line in lines if line.told is Told.VERIFIED] == [[]]


def test_it_goes_on_when_the_whole_pod_is_killed_at_once(node: Lab) -> None:
    uid, hierarchies = str(uuid.uuid4()), [each for each in GROUPS if (each / "cgroup.procs").exists()]
    hierarchies = hierarchies or [Path("/sys/fs/cgroup")]  # version 2 alone
    with group(uid, *hierarchies) as groups, kubelet(*node.among) as one:
        join = "; ".join(f"echo $$ > {each}/cgroup.procs" for each in groups)
        node.among = (*node.among, "sh", "-c", f'{join}; exec "$@"', "sh")
        each = still()
        agent = start(node, each)
        agent.until(Told.HITS)
        assert not one.answers(0.5)
        (timer,) = timers(each.injection)
        assert uid not in (timer / "cgroup").read_text()
        for number in {number for each in groups for number in (each / "cgroup.procs").read_text().split()}:
            os.kill(int(number), signal.SIGKILL)  # as the runtime ends a pod
        one.goes_on_within(GONE_SECONDS)
        assert none_left(each.injection)
        agent.process.wait()
        looked = start_looking(node, agent)
        assert [line.detail["leftovers"] for line in looked.end() if line.told is Told.VERIFIED] == [[]]
        looked.process.wait()


def start_looking(node: Lab, agent: Agent) -> Agent:
    return node.start(agent.plan, "verify", where=node.one)


def test_it_goes_on_when_its_time_is_over_though_the_agent_does_nothing_any_more(node: Lab) -> None:
    with kubelet(*node.among) as one:
        each = still(duration=6.0)
        agent = start(node, each)
        agent.until(Told.HITS)
        agent.signal(signal.SIGSTOP)
        assert not one.answers(0.5)
        assert one.goes_on_within(15) > 0.5
        agent.signal(signal.SIGKILL)
        assert none_left(each.injection)


def test_what_a_dead_agent_left_stopped_is_seen(node: Lab) -> None:
    with kubelet(*node.among) as one:
        each = still()
        agent = start(node, each)
        agent.until(Told.HITS)
        (timer,) = timers(each.injection)
        os.kill(int(timer.name), signal.SIGKILL)  # the agent ends what nobody guards any more
        failed = agent.until(Told.FAILED)
        assert failed.detail["message"] == "no longer in force: the timer on the host has ended"
        assert one.answers(5)
        agent.end()


def test_turns_of_a_pattern_let_it_go_on_in_between(node: Lab) -> None:
    with kubelet(*node.among) as one:
        agent = start(node, still(pattern=OnOff(6.0, 6.0), duration=30.0))
        agent.until(Told.HITS)
        assert not one.answers(0.3)
        one.goes_on_within(15)
        agent.control({"stop": True})
        agent.end()
        assert one.answers(5)


def test_where_no_systemd_runs_it_it_is_not_stopped_as_a_service(node: Lab) -> None:
    with kubelet(*node.among) as one:
        refused = start(node, still(StopKubeletService())).until(Told.REFUSED)
        assert refused.detail["reason"] == "NoSystemd"
        assert "process 1 of this node is sleep and not systemd" in refused.detail["message"]
        assert one.answers(5)


def test_where_there_is_none_or_only_another_machines_nothing_is_touched(node: Lab) -> None:
    agent = start(node, still())
    refused = agent.until(Told.REFUSED)
    assert refused.detail["reason"] == "NoKubelet"
    assert "no process is named kubelet" in refused.detail["message"]
    with kubelet(*node.among, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc") as other:
        agent = start(node, still())
        assert agent.until(Told.REFUSED).detail["reason"] == "NoKubelet"
        assert other.answers(5)
