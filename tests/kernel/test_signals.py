"""Signals to a container's processes: who gets them, what they do, and that nothing stays frozen."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

import pytest

from bounceback.drivers import Site
from bounceback.drivers.freeze import Frozen
from bounceback.drivers.processes import chosen, of_pod
from bounceback.types.choice import Choice
from bounceback.types.inside import InsideAct, Who
from bounceback.types.pattern import OnOff, Ramp
from bounceback.types.plan import Order
from bounceback.types.repeat import Repeat
from bounceback.types.signals import Freeze, Signal
from bounceback.types.told import Line, Told
from tests.kernel.lab import GONE_SECONDS, Agent, Lab, order, plan
from tests.kernel.pods import DEAF, Inside, container, until
from tests.kernel.test_node_pod import node

__all__ = ["node"]
APP = Who(container="app")
FAMILY = """
import os, signal, sys, time
sys.stdout.reconfigure(line_buffering=True)
for name in ("worker", "other"):
    if not os.fork():
        if name == "worker":
            signal.signal(signal.SIGUSR1, lambda *_: open("/data/heard", "a").write("x"))
        open("/proc/self/comm", "w").write(name)  # from here on it is known
        while True:
            time.sleep(60)
print(os.getpid(), flush=True)
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except Exception as error:
        print(error, flush=True)
"""
"""A process that answers, and two that sleep: `worker` writes down each SIGUSR1, `other` dies of one."""
WAITS = f"""{DEAF}
import sys
open("/proc/self/comm", "w").write("deaf")
print(os.getpid(), flush=True)
deaf(15)
for line in sys.stdin:
    print(eval(line), flush=True)
"""
FIRST = """
import os, sys
os.spawnvp(os.P_NOWAIT, "unshare", ["unshare", "--pid", "--fork", "--kill-child", "sleep", "1000"])
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def family(node: Lab) -> Iterator[Inside]:
    """Three processes, one of which answers."""
    with container(node, node.target, program=FAMILY) as app:
        # A process has its name some time after it was begun.
        until(lambda: {"worker", "other"} <= {each.name for each in of_pod(app.uid)}, 30.0)
        try:
            yield app
        finally:
            app.process.send_signal(signal.SIGCONT)  # nsenter(1) stops itself where its child is stopped


def on(app: Inside, act: InsideAct, **times: object) -> Order:
    return replace(order(act, **times), pod_uid=app.uid)  # type: ignore[arg-type]


def start(node: Lab, *orders: Order, guarded: bool = False) -> Agent:
    return node.start(plan(*orders, on_node=True, guarded=guarded), where=node.one)


def cleared(agent: Agent) -> Line:
    return next(line for line in agent.end() if line.told is Told.CLEARED)


def answers(app: Inside, seconds: float) -> bool:
    """Whether it does within so many seconds; a question that it did not answer is answered later."""
    assert app.process.stdin is not None
    assert app.process.stdout is not None
    app.process.stdin.write(b"1\n")
    app.process.stdin.flush()
    came = bool(select.select([app.process.stdout], [], [], seconds)[0])
    if came:
        app.process.stdout.readline()
    return came


def stopped(app: Inside) -> int:
    """How many processes of that pod are, as this machine's /proc has it."""
    return sum(each.state() == "T" for each in of_pod(app.uid))


def test_a_frozen_container_stands_still_and_goes_on_at_the_end(node: Lab) -> None:
    with family(node) as app:
        assert answers(app, 5)
        agent = start(node, on(app, Freeze(who=APP)))
        until(lambda: agent.until(Told.HITS).hits == 3)
        assert not answers(app, 0.3)
        # Somebody lets one go on: it is stopped again, and that is told.
        os.kill(next(each.number for each in of_pod(app.uid) if each.name == "worker"), signal.SIGCONT)
        until(lambda: stopped(app) == 3)
        code, answer = agent.control({"stop": True})
        assert (code, answer["leftovers"]) == (0, {agent.plan.orders[0].injection: []})
        assert stopped(app) == 0
        app.process.stdout.readline()  # type: ignore[union-attr]
        assert answers(app, 5)
        assert cleared(agent).detail["seen"][1] == "1 times somebody else had let one go on"


@pytest.mark.parametrize("let_go", [False, True], ids=["undone", "somebody lets it go on"])
def test_what_is_to_stop_once_the_kernel_lets_go_of_it_is_not_forgotten(node: Lab, let_go: bool) -> None:
    """A process in state D hears SIGSTOP afterwards: who looked for stopped ones alone would leave it to stop then."""
    with container(node, node.target, program=WAITS) as app:
        freeze = Freeze(who=Who(container="app", process="deaf"))
        until(lambda: {each.name: each.state() for each in chosen(of_pod(app.uid), APP)} == {"deaf": "D", "child": "S"})
        (deaf,) = chosen(of_pod(app.uid), freeze.who)
        frozen = Frozen(on(app, freeze), Site(node.one), freeze)
        frozen.hold([deaf])
        assert deaf.state() == "D"
        if let_go:
            deaf.send(signal.SIGCONT)
            until(lambda: frozen.hits() == 1)
            assert deaf.state() == "T"
        frozen.revert()
        assert answers(app, 30)


def test_what_a_killed_agent_froze_goes_on_by_its_guard(node: Lab) -> None:
    with family(node) as app:
        agent = start(node, on(app, Freeze(who=APP)), guarded=True)
        guard = node.start(agent.plan, "guard", where=node.one)
        until(lambda: stopped(app) == 3)
        agent.signal(signal.SIGKILL)
        until(lambda: stopped(app) == 0, GONE_SECONDS)
        told = guard.end()
        assert [line.detail["leftovers"] for line in told if line.told is Told.VERIFIED] == [[]]


def test_turns_of_a_pattern_freeze_and_thaw(node: Lab) -> None:
    with family(node) as app:
        worker = replace(APP, process="worker")
        agent = start(node, on(app, Freeze(who=worker), pattern=OnOff(0.3, 0.3), duration=10))
        seen = set()
        until(lambda: seen.add(stopped(app)) or {0, 1} == seen)  # type: ignore[func-returns-value]
        assert stopped(app) in (0, 1), "the others never are"
        agent.control({"stop": True})
        assert stopped(app) == 0


def test_a_ramp_freezes_more_and_more_and_blames_nobody(node: Lab) -> None:
    with family(node) as app:
        agent = start(node, on(app, Freeze(who=APP), pattern=Ramp(0.3, 1.0, 4), duration=8.0))
        until(lambda: stopped(app) == 3)
        until(lambda: stopped(app) == 0)
        seen = cleared(agent).detail["seen"]
        assert seen[0].startswith("stopped ") and len(seen) == 1, "the agent itself let them go on in between"


def test_a_process_that_is_stopped_already_is_left_alone(node: Lab) -> None:
    with family(node) as app:
        os.kill(next(each.number for each in of_pod(app.uid) if each.name == "other"), signal.SIGSTOP)
        until(lambda: stopped(app) == 1)
        agent = start(node, on(app, Freeze(who=APP)))
        assert agent.until(Told.REFUSED).detail["reason"] == "AlreadyStopped"
        agent.end()
        assert stopped(app) == 1
        verifier = node.start(plan(on(app, Freeze(who=APP)), on_node=True), "verify", where=node.one)
        (left,) = verifier.until(Told.VERIFIED).detail["leftovers"]
        assert "other" in left
        assert "is still stopped" in left


def test_a_signal_goes_to_those_that_are_meant_once(node: Lab) -> None:
    with family(node) as app:
        missing = start(node, on(app, Signal(signal="KILL", who=replace(APP, process="nobody"))))
        refusal = missing.until(Told.REFUSED).detail
        assert refusal["reason"] == "NoProcess"
        assert "worker (container app)" in refusal["message"]
        told = cleared(start(node, on(app, Signal(signal="USR1", who=replace(APP, process="worker")))))
        assert told.detail["why"] == "Done"
        assert told.detail["seen"] == ["1 SIGUSR1 to worker in container app", "0 of 1 processes have ended"]
        until(lambda: app.say("open('/data/heard').read()") == "x")
        killed = start(node, on(app, Signal(signal="KILL", firsts=True)))
        assert cleared(killed).detail["seen"][0] == "1 SIGKILL to python3 in container app"
        until(lambda: app.process.poll() is not None)


def test_signals_come_again_to_those_that_the_dice_choose(node: Lab) -> None:
    with family(node) as app:
        again = Repeat(0.2, 0.4, seed=3, name="told")
        act = Signal(signal="USR1", who=replace(APP, process="worker"), again=again, name="told", choice=Choice(nth=2))
        agent = start(node, on(app, act, duration=2.0))
        seen = cleared(agent).detail
        assert seen["why"] == "Duration"
        most = 1 + sum(1 for _ in takewhile(lambda at: at < 2.0, again.times()))
        assert 1 <= agent.hits(agent.plan.orders[0].injection) <= most // 2, "what was slept through is not made up for"


def test_process_1_without_a_handler_is_told_nothing_but_can_be_killed(node: Lab) -> None:
    with container(node, node.target, program=FIRST) as app:
        sleeper = Who(container="app", process="sleep")
        until(lambda: any(each.is_first for each in chosen(of_pod(app.uid), sleeper)))
        agent = start(node, on(app, Signal(signal="TERM", who=sleeper)))
        told = cleared(agent).detail["seen"][0]
        assert told == (
            "1 SIGTERM to sleep in container app, process 1 did nothing: it has no handler for it, or ignores it"
        )
        assert agent.hits(agent.plan.orders[0].injection) == 0
        killed = start(node, on(app, Signal(signal="KILL", who=sleeper)))
        cleared(killed)
        assert killed.hits(killed.plan.orders[0].injection) == 1
        until(lambda: not chosen(of_pod(app.uid), sleeper))


def test_what_takes_the_place_of_what_was_killed_is_killed_too(node: Lab) -> None:
    with container(node, node.target) as app:
        spawn = "__import__('subprocess').Popen(['sleep', '99']).pid"
        app.say(spawn)
        act = Signal(signal="KILL", who=replace(APP, process="sleep"), follow=True)
        agent = start(node, on(app, act, duration=15.0))
        assert agent.until(Told.HITS).hits == 1
        app.say(spawn)
        assert agent.until(Told.HITS).hits == 2
        agent.control({"stop": True})
        assert cleared(agent).detail["seen"][-1] == "2 of 2 processes have ended"
