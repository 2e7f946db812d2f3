"""Clients of the API proxy that are killed in the middle of a request, by an agent on their node."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest

from bounceback.drivers.processes import of_pod
from bounceback.types.api_rule import ApiRule, Crash, Requests
from bounceback.types.choice import Choice
from bounceback.types.plan import ApiRules, Order
from bounceback.types.told import Told
from tests.kernel.armed import GATE_PORT, PODS, Armed, armed
from tests.kernel.lab import Agent, Lab, order, plan
from tests.kernel.pods import Inside, container
from tests.kernel.test_node_pod import node

__all__ = ["node"]
WRITES = (Requests(verbs=("create",), resources=("pods",)),)
CLIENT = f"""
import http.client, os, ssl, sys
print(os.getpid(), flush=True)
for line in sys.stdin:
    if not os.fork():  # a connection is its own, and another process of the container has nothing to do with it
        connection = http.client.HTTPSConnection(
            "127.0.0.1", {GATE_PORT}, context=ssl._create_unverified_context(), timeout=30
        )
        connection.request(line.strip(), "{PODS}", b"{{}}")
        print(connection.getresponse().status, flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
"""Asks by a process of its own each time; says the code of the answer, where one came, and how that process ended."""


@pytest.fixture
def pod(node: Lab) -> Iterator[Armed]:
    with armed(node.target, node.one, node.folder) as made:
        yield made


@contextlib.contextmanager
def killing(node: Lab, app: Inside, crash: Crash, choice: Choice) -> Iterator[tuple[Agent, Order]]:
    act = ApiRules(json.dumps([asdict(ApiRule("it", crash, WRITES, choice=choice))]))
    injection = replace(order(act, duration=60.0, not_after=90.0), pod_uid=app.uid)
    agent = node.start(plan(injection, on_node=True), where=node.one)
    agent.until(Told.IN_FORCE)
    yield agent, injection
    if agent.process.poll() is None:
        agent.control({"stop": True})


def answers(app: Inside, method: str) -> tuple[str, int]:
    """The code that the client got, if any, and its exit code."""
    said = app.say(method)
    if len(said) < 3:  # no code of an answer: how a process ended that got none
        return "", int(said)
    assert app.process.stdout is not None
    return said, int(app.process.stdout.readline())


@pytest.mark.parametrize("done", [True, False])
def test_the_client_is_killed_before_it_hears(node: Lab, pod: Armed, done: bool) -> None:
    with container(node, node.target, program=CLIENT) as app:
        with killing(node, app, Crash(done), Choice(nth=2)) as (agent, injection):
            assert [answers(app, method) for method in ("POST", "GET", "POST", "GET", "POST", "POST")] == [
                ("200", 0),
                ("200", 0),
                ("", -9),
                ("200", 0),
                ("200", 0),
                ("", -9),
            ]
            assert len(of_pod(app.uid)) == 1, "nobody but who asked"
        lines = agent.end()
        (told,) = [line.detail for line in lines if line.told is Told.CLEARED]
        assert agent.hits(injection.injection) == 2
        assert told["seen"] == ["2 SIGKILL to python3 in container app"]
        asked = {kind["verb"]: kind for kind in told["behavior"]["kinds"]}
        assert asked["create"]["lost"] == 2
        assert answers(app, "POST") == ("200", 0)


def test_who_is_no_process_of_the_pods_containers_is_not_killed_and_not_counted(node: Lab, pod: Armed) -> None:
    with container(node, node.target, program=CLIENT) as app:
        with killing(node, app, Crash(), Choice()) as (agent, injection):
            assert pod.ask(method="POST", body=b"{}") == 0, "its connection is reset"
        lines = agent.end()
        assert agent.hits(injection.injection) == 0
        assert [line.detail.get("seen") for line in lines if line.told is Told.CLEARED] == [[]]


def test_rules_that_kill_go_with_who_could(node: Lab, pod: Armed) -> None:
    with container(node, node.target, program=CLIENT) as app, killing(node, app, Crash(), Choice()) as (agent, _):
        agent.signal(signal.SIGKILL)
        while answers(app, "POST") != ("200", 0):
            pass
