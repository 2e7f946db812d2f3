"""Sockets used up in a target's network: ports, connections, the queue of a port; gone with who made them."""

from __future__ import annotations

import signal
import socket

from bounceback.drivers.listeners import listeners
from bounceback.drivers.netns import Netns
from bounceback.types.inside import Who
from bounceback.types.plan import Order
from bounceback.types.scarce import Backlog, Crowd
from bounceback.types.told import Told
from tests.kernel.lab import ONE, TARGET, Agent, Lab, echo, plan
from tests.kernel.pods import container, on, until
from tests.kernel.test_node_pod import node

__all__ = ["node"]
PORT = 7100
LISTENS = f"""
import os, socket, sys
server = socket.create_server(("", {PORT}), backlog=100)
taken = []
print(os.getpid(), flush=True)
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""
ACCEPTS = (
    "__import__('threading').Thread(target=lambda: [taken.append(server.accept()) for _ in range(20000)], "
    "daemon=True).start()"
)


def sockets(where: Netns) -> list[list[str]]:
    with where.entered(), open("/proc/thread-self/net/tcp") as file:  # noqa: PTH123 - of this thread's network
        return [line.split() for line in file]


def connections(where: Netns) -> int:
    """Those to the port that are open, in that network, as who made them sees it."""
    port = f":{PORT:04X}"
    return sum(words[3] == "01" and words[2].endswith(port) for words in sockets(where))


def begun(node: Lab, made: Order, guarded: bool = False) -> Agent:
    whole = plan(made, on_node=True, guarded=guarded)
    agent = node.start(whole, where=node.one)
    if guarded:
        node.start(whole, "guard", where=node.one)
    agent.until(Told.IN_FORCE, seconds=60)
    return agent


def test_no_port_is_left_for_connections_of_the_targets_own(node: Lab) -> None:
    with container(node, node.target) as app, echo(node.one, ONE):
        ask = f"__import__('socket').create_connection(('{ONE}', 7000)).close() or 'open'"
        app.say("__import__('socket')")
        assert app.say(ask) == "open"
        agent = begun(node, on(app, Crowd(leave_ports=0)))
        until(lambda: app.say(ask) == "Cannot assign requested address", 60)
        agent.signal(signal.SIGKILL)
        until(lambda: app.say(ask) == "open")


def test_ten_thousand_connections_are_held_and_gone_with_the_agent(node: Lab) -> None:
    with container(node, node.target, program=LISTENS) as app:
        app.say("__import__('resource').setrlimit(7, (20000, 20000))")
        app.say(ACCEPTS)
        agent = begun(node, on(app, Crowd(port=PORT, connections=10_000, per_second=10_000)))
        until(lambda: connections(node.target) == 10_000, 60)
        while agent.until(Told.HITS, seconds=30).hits < 10_000:  # and known to the agent
            pass
        code, answer = agent.control({"stop": True})
        assert code == 0, answer
        cleared = next(line for line in agent.end(60) if line.told is Told.CLEARED)
        assert "10000 connections at a time" in cleared.detail["seen"][0]
        until(lambda: connections(node.target) == 0)


def test_a_full_queue_turns_others_away_until_the_guard_makes_it_long_again(node: Lab) -> None:
    with container(node, node.target, program=LISTENS) as app:
        agent = begun(node, on(app, Backlog(port=PORT, size=1)), guarded=True)
        with node.target.entered():
            until(lambda: listeners(PORT)[0].waiting == 2)
        with node.one.entered():
            waiting = socket.socket()
        waiting.settimeout(0.5)
        try:
            waiting.connect((TARGET, PORT))
            raise AssertionError("there was room")
        except TimeoutError:
            waiting.close()
        assert agent.until(Told.HITS, seconds=30).hits >= 1
        agent.signal(signal.SIGKILL)
        length = "int.from_bytes(server.getsockopt(6, 11, 104)[28:32], 'little')"
        until(lambda: app.say(length) == "100")


def test_a_port_on_which_nobody_listens_is_refused(node: Lab) -> None:
    with container(node, node.target) as app:
        for act in (Crowd(port=PORT, connections=1), Backlog(port=PORT), Backlog(port=PORT, who=Who(container="no"))):
            agent = node.start(plan(on(app, act), on_node=True), where=node.one)
            assert agent.until(Told.REFUSED, seconds=60).detail["reason"] == "NoListener"
            agent.end()
