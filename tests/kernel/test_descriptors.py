"""Fewer descriptors for a process that runs: refused, counted by the kernel, and put back, also by the guard alone."""

from __future__ import annotations

import signal

from bounceback.types.inside import Who
from bounceback.types.plan import Order
from bounceback.types.scarce import Descriptors
from bounceback.types.told import Told
from tests.kernel.lab import Lab, plan
from tests.kernel.pods import Inside, container, on, until
from tests.kernel.test_node_pod import node

__all__ = ["node"]
LIMIT = "__import__('resource').getrlimit(7)[0]"
OPEN = "(os.close(os.open('/etc', os.O_RDONLY)), 'open')[1]"
FULL = "Too many open files"


def lowering(where: Inside, **fields: object) -> Order:
    return on(where, Descriptors(**fields))  # type: ignore[arg-type]


def test_a_process_of_another_user_has_no_descriptor_left_and_gets_them_back(node: Lab) -> None:
    with container(node, node.target, user=1234) as app:
        before = app.say(LIMIT)
        guarded = plan(lowering(app, leave=0), on_node=True, guarded=True)
        agent = node.start(guarded, where=node.one)
        guard = node.start(guarded, "guard", where=node.one)
        agent.until(Told.IN_FORCE, seconds=60)
        assert [app.say(OPEN) for _ in range(3)] == [FULL] * 3
        hits = agent.until(Told.HITS).hits
        app.say("__import__('resource').setrlimit(7, (64, 100))")  # its own doing stays
        code, answer = agent.control({"stop": True})
        assert code == 0, answer
        assert hits >= 1
        assert app.say(LIMIT) == "64" != before
        agent.end()
        guard.end()


def test_a_guard_puts_back_what_a_killed_agent_lowered_in_children_too(node: Lab) -> None:
    with container(node, node.target, user=1234) as app:
        before = app.say(LIMIT)
        guarded = plan(lowering(app, limit=20, who=Who(container="app")), on_node=True, guarded=True)
        agent = node.start(guarded, where=node.one)
        guard = node.start(guarded, "guard", where=node.one)
        agent.until(Told.IN_FORCE, seconds=60)
        assert app.say(LIMIT) == "20"
        started = "__import__('subprocess').Popen(['sleep', '100']).pid"
        limit = f"__import__('resource').prlimit({int(app.say(started))}, 7)[0]"
        assert app.say(limit) == "20"
        agent.signal(signal.SIGKILL)
        until(lambda: app.say(LIMIT) == before and app.say(limit) == before)
        assert guard.end()[-2].detail == {"leftovers": []}


def test_a_limit_that_is_none_is_refused(node: Lab) -> None:
    with container(node, node.target) as app:
        for who, fields, reason in (
            (Who(), {"limit": 1 << 20}, "NothingToLower"),
            (Who(process="nobody"), {"limit": 10}, "NoProcess"),
        ):
            guarded = plan(lowering(app, who=who, **fields), on_node=True)
            agent = node.start(guarded, where=node.one)
            assert agent.until(Told.REFUSED, seconds=60).detail["reason"] == reason
            agent.end()
