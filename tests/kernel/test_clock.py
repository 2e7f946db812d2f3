"""The wall clock of programs that run is wrong, and right again: by the agent, by its guard, and by nobody."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bounceback.drivers.clock_page import Page
from bounceback.types.clock import Skew
from bounceback.types.inside import Who
from bounceback.types.plan import Order
from bounceback.types.told import Told
from tests.kernel.lab import Agent, Lab, plan
from tests.kernel.pods import ANSWERS, Inside, container, on, until
from tests.kernel.test_node_pod import node

__all__ = ["node"]
HOUR = 3600
NEAR = 60
"""Seconds: what a busy machine may take between two looks at a clock."""
PROGRAM = f"""
import ctypes, subprocess, time

def started(*command, **more):
    return subprocess.Popen(command, **more).pid

def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

def fast():
    before = time.time(), time.monotonic()
    time.sleep(2)
    return (time.time() - before[0]) / (time.monotonic() - before[1])

class Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanos", ctypes.c_long))

def waited():
    semaphore = ctypes.create_string_buffer(64)
    began = time.monotonic()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sem_timedwait(semaphore, ctypes.byref(Moment(int(time.time()) + 2, 0)))
    return ctypes.get_errno(), time.monotonic() - began
{ANSWERS}"""


def skewing(where: Inside, who: Who = Who(), **fields: Any) -> Order:  # noqa: B008 - it is a value
    return on(where, Skew(who=who, **fields))


def off(app: Inside, command: str = "time.time()") -> float:
    """Seconds by which its clock is wrong."""
    return float(app.say(command)) - time.time()


def wrong_by(app: Inside, seconds: float, command: str = "time.time()") -> bool:
    return abs(off(app, command) - seconds) < NEAR


@contextmanager
def skewed(node: Lab, order: Order, *, guarded: bool = False) -> Iterator[tuple[Agent, Agent | None]]:
    made = plan(order, on_node=True, guarded=guarded)
    agent = node.start(made, where=node.one)
    guard = node.start(made, "guard", where=node.one) if guarded else None
    agent.until(Told.IN_FORCE, seconds=60)
    yield agent, guard


def test_programs_are_told_a_wrong_time_and_the_right_one_again(node: Lab, library: Path) -> None:
    with container(node, node.target, user=1234, program=PROGRAM, clock=library) as app:
        assert wrong_by(app, 0)
        with skewed(node, skewing(app, offset_milliseconds=HOUR * 1000), guarded=True) as (agent, guard):
            assert wrong_by(app, HOUR)
            assert wrong_by(app, HOUR, "run('date', '+%s')"), "a program that starts meanwhile"
            assert wrong_by(app, HOUR, "run('env', '-u', 'HOME', 'date', '+%s')"), "and what that starts"
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            assert abs(float(app.say("time.clock_gettime(time.CLOCK_BOOTTIME)")) - now) < NEAR, "no wall clock"
            number, seconds = eval(app.say("waited()"))
            assert (number, seconds < NEAR) == (110, True), "what waits for a moment of that clock waits no hour"
            assert agent.until(Told.HITS, seconds=60).hits >= 1
            code, answer = agent.control({"stop": True})
            assert code == 0, answer
            assert wrong_by(app, 0)
            told = agent.end(seconds=60)
        assert guard is not None
        guard.end(seconds=60)
        cleared = next(line for line in told if line.told is Told.CLEARED)
        assert "was told a wrong time" in cleared.detail["seen"][0]


def test_a_program_of_root_that_becomes_another_user_goes_on(node: Lab, library: Path) -> None:
    with container(node, node.target, program=PROGRAM, clock=library) as app:
        other = "run('setpriv', '--reuid=1234', '--regid=1234', '--clear-groups', 'date', '+%s')"
        assert wrong_by(app, 0, other)
        with skewed(node, skewing(app, offset_milliseconds=-HOUR * 1000)) as (agent, _):
            assert wrong_by(app, -HOUR, other)
            agent.control({"stop": True})
            agent.end(seconds=60)


def test_a_clock_goes_twice_as_fast(node: Lab, library: Path) -> None:
    with container(node, node.target, program=PROGRAM, clock=library) as app:
        with skewed(node, skewing(app, drift_ppm=1_000_000)) as (agent, _):
            assert 1.6 < float(app.say("fast()")) < 2.4
            agent.control({"stop": True})
            agent.end(seconds=60)
        assert wrong_by(app, 0)


def test_a_guard_puts_a_dead_agents_clock_right(node: Lab, library: Path) -> None:
    with (
        container(node, node.target, program=PROGRAM, clock=library) as app,
        skewed(node, skewing(app, offset_milliseconds=HOUR * 1000), guarded=True) as (agent, guard),
    ):
        assert wrong_by(app, HOUR)
        agent.signal(signal.SIGKILL)
        until(lambda: wrong_by(app, 0))
        assert guard is not None
        assert guard.end(seconds=60)[-2].detail == {"leftovers": []}


def test_a_clock_is_right_on_time_where_agent_and_guard_are_dead(node: Lab, library: Path) -> None:
    with container(node, node.target, program=PROGRAM, clock=library) as app:
        order = skewing(app, offset_milliseconds=HOUR * 1000)
        with skewed(node, order, guarded=True) as (agent, guard):
            assert guard is not None
            for each in (guard, agent):
                each.signal(signal.SIGSTOP)  # neither can tell what becomes of the other
            assert wrong_by(app, HOUR)
            with (app.volume.parents[4] / "clock" / "page").open("r+b", buffering=0) as file:
                page = Page(file.fileno(), "app")
                held = page.setting()
                assert held.until - held.since == pytest.approx((order.duration + 1) * 1e9, abs=5e9)
                page.write(replace(held, until=held.since))  # as when that time has come
            assert wrong_by(app, 0)
            for each in (guard, agent):
                each.signal(signal.SIGKILL)


def test_who_cannot_be_told_a_wrong_time_is_refused_by_name_and_reason(node: Lab, library: Path) -> None:
    def refusal(order: Order) -> tuple[str, str]:
        agent = node.start(plan(order, on_node=True), where=node.one)
        detail = agent.until(Told.REFUSED, seconds=60).detail
        agent.end(seconds=60)
        return detail["reason"], detail["message"]

    with container(node, node.target, program=PROGRAM, clock=library) as app:
        cleared = int(app.say("started('sleep', '1000', env={})"))
        reason, message = refusal(skewing(app, offset_milliseconds=1))
        assert reason == "TargetUnsupported"
        assert "sleep (process " in message
        assert "in container app cannot be told a wrong time: it was started without LD_PRELOAD" in message
        assert refusal(skewing(app, Who(process="none"), offset_milliseconds=1))[0] == "NoProcess"
        with skewed(node, skewing(app, Who(process="python3"), offset_milliseconds=HOUR * 1000)) as (agent, _):
            assert wrong_by(app, HOUR), "who is meant can"
            reason, message = refusal(skewing(app, Who(process="python3"), offset_milliseconds=1))
            assert (reason, message) == ("AlreadySkewed", "the clock of container app is wrong already")
            agent.control({"stop": True})
            agent.end(seconds=60)
        app.say(f"os.kill({cleared}, 9)")
        if shutil.which("busybox"):
            app.say("started('busybox', 'sleep', '1000')")
            assert "busybox" in (message := refusal(skewing(app, offset_milliseconds=1))[1])
            assert "it is statically linked" in message
    with container(node, node.target) as plain:
        reason, message = refusal(skewing(plain, offset_milliseconds=1))
        assert reason == "NotArmed"
        assert "container app" in message
