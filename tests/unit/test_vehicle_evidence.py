"""What is made of an agent's log and its pod where something goes wrong. The kubelet here is a fake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, cast

import aiohttp
import pytest

from bounceback.engine.model import AgentEnd, AgentFate
from bounceback.kube import Kube, KubeError
from bounceback.kube.watching import Backoff
from bounceback.types.instants import Instant
from bounceback.types.plan import Direction, Drop, Order, Plan
from bounceback.types.told import Line, Told
from bounceback.vehicles import evidence
from bounceback.vehicles.control import offset
from bounceback.vehicles.evidence import Listener, Memory
from bounceback.vehicles.sidecar import patch_for

AGENT = "bb-0123456789"


def line(told: Told, nanos: int, injection: str = "") -> str:
    return Line(told, Instant("boot", nanos, 0.0), injection).to_json()


STORY = [line(Told.STARTED, 1), line(Told.IN_FORCE, 2, "f"), line(Told.CLEARED, 3, "f"), line(Told.FINISHED, 4)]
CUT = aiohttp.ClientPayloadError("cut")
DOWN = KubeError(502, "", "dial tcp 10.0.0.1:10250: connect: connection refused")


class FakeKubelet:
    """One pod with one agent: its states, one after the other, and what each reading of its log gives."""

    def __init__(self, states: list[Any], logs: list[list[Any]], *, start_before: float = 60, not_after: float = 90):
        self._states = states
        self._seen = 0
        self.logs = logs
        now = time.time()
        times = (now, now + start_before, now + not_after, 30)
        order = Order("f", "f", "shop", "web", "u", Drop(), Direction.BOTH, (), *times)
        plan = Plan("run", AGENT, False, (order,))
        self._containers = patch_for(plan, "image", "Always")["spec"]["ephemeralContainers"]

    def _pod(self, state: Any) -> dict[str, Any]:
        if isinstance(state, BaseException):
            raise state
        statuses = [{"name": AGENT, "state": state}] if state else []
        return {
            "metadata": {"name": "web", "uid": "u", "resourceVersion": "1"},
            "spec": {"containers": [], "ephemeralContainers": self._containers},
            "status": {"phase": "Running", "ephemeralContainerStatuses": statuses},
        }

    def _next(self) -> Any:
        self._seen += 1
        return self._states[min(self._seen, len(self._states)) - 1]

    async def list(self, *_: object, **__: object) -> tuple[list[dict[str, Any]], str]:
        state = self._next()
        return ([] if state == "gone" else [self._pod(state)]), "1"

    async def watch(self, *_: object, **__: object) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        while self._seen < len(self._states):
            state = self._next()
            yield ("DELETED", self._pod({})) if state == "gone" else ("MODIFIED", self._pod(state))
        await asyncio.Event().wait()

    async def get(self, *_: object) -> dict[str, Any]:
        state = self._next()
        if state == "gone":
            raise KubeError(404, "NotFound", "pods web not found")
        return self._pod(state)

    async def log_lines(self, *_: object, **__: object) -> AsyncGenerator[str, None]:
        for text in self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]:
            if isinstance(text, BaseException):
                raise text
            yield text


RUNNING: dict[str, Any] = {"running": {}}
KILLED = {"terminated": {"reason": "Error", "exitCode": 137}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(self: Backoff) -> None:
        await asyncio.sleep(0.005)

    monkeypatch.setattr(Backoff, "pause", pause)
    monkeypatch.setattr(evidence, "PATIENCE", 1.0)


async def heard(kubelet: FakeKubelet, *, ours: bool = False) -> list[Line | AgentEnd]:
    listener = Listener(cast(Kube, kubelet), "shop", "web", AGENT, ours=ours)
    async with asyncio.timeout(10):
        return [each async for each in listener.listen()]


def told(lines: list[Line | AgentEnd]) -> list[str]:
    return [str(each.told) for each in lines if isinstance(each, Line)]


async def test_a_log_that_is_cut_is_read_on() -> None:
    found = await heard(FakeKubelet([RUNNING], [[*STORY[:2], CUT], [STORY[0], CUT], STORY[:3], STORY]))
    assert told(found) == ["started", "inForce", "cleared", "finished"]
    assert found[-1] == AgentEnd(AgentFate.FINISHED)


async def test_an_agent_that_ends_without_its_last_line_was_killed() -> None:
    found = await heard(FakeKubelet([RUNNING, RUNNING, KILLED], [STORY[:2], STORY[:2], STORY[:3]]))
    assert told(found) == ["started", "inForce", "cleared"], "what it wrote last is read after its end"
    assert found[-1] == AgentEnd(AgentFate.KILLED, "Error, exit code 137")


async def test_a_log_that_was_lost_does_not_hold_the_end_up_for_ever() -> None:
    found = await heard(FakeKubelet([KILLED], [[DOWN]]))
    assert found == [AgentEnd(AgentFate.KILLED, "Error, exit code 137")]


async def test_a_kubelet_that_is_gone_is_waited_for_until_the_plan_is_over() -> None:
    kubelet = FakeKubelet([RUNNING], [[*STORY[:2], CUT], [DOWN]], not_after=-evidence.OVER + 0.3)
    began = time.monotonic()
    found = await heard(kubelet)
    assert told(found) == ["started", "inForce"]
    end = found[-1]
    assert isinstance(end, AgentEnd) and end.fate is AgentFate.UNREACHABLE
    assert "connection refused" in end.message
    assert time.monotonic() - began >= 0.25
    back = FakeKubelet([RUNNING], [[*STORY[:2], CUT], [DOWN], [DOWN], STORY])
    assert (await heard(back))[-1] == AgentEnd(AgentFate.FINISHED)


async def test_rights_that_do_not_come_back_end_the_listening() -> None:
    gone = KubeError(403, "Forbidden", "no")
    found = await heard(FakeKubelet([RUNNING, gone], [[STORY[0], CUT], [gone]]))
    assert found[-1] == AgentEnd(AgentFate.UNREACHABLE, str(gone))
    assert (await heard(FakeKubelet([gone], [STORY])))[-1] == AgentEnd(AgentFate.UNREACHABLE, str(gone))
    short = await heard(FakeKubelet([gone, gone, RUNNING], [STORY]))
    assert short[-1] == AgentEnd(AgentFate.FINISHED), "a short refusal is waited out"


async def test_a_server_in_trouble_is_waited_for() -> None:
    found = await heard(FakeKubelet([DOWN, TimeoutError(), RUNNING, DOWN, RUNNING], [STORY[:1], STORY]))
    assert told(found) == ["started", "inForce", "cleared", "finished"]


@pytest.mark.parametrize("states", [["gone"], [{}, "gone"], [{"waiting": {"reason": "x"}}, "gone"]])
async def test_a_pod_that_is_gone_takes_its_agent_along(states: list[Any]) -> None:
    assert await heard(FakeKubelet(list(states), [STORY])) == [
        AgentEnd(AgentFate.GONE, "pod web is not there any more")
    ]
    assert await heard(FakeKubelet(list(states), [STORY]), ours=True) == [
        AgentEnd(AgentFate.KILLED, "pod web was deleted")
    ]


async def test_a_container_that_cannot_be_started_is_told_at_once() -> None:
    failed = {"terminated": {"reason": "StartError", "exitCode": 128, "message": "unable to apply caps"}}
    assert await heard(FakeKubelet([{}, failed], [[]])) == [
        AgentEnd(AgentFate.NEVER_STARTED, "StartError, exit code 128: unable to apply caps")
    ]


async def test_an_image_that_does_not_come_is_waited_for_while_the_agent_may_still_begin() -> None:
    pulling = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}
    early = FakeKubelet([pulling, pulling], [[]], start_before=-evidence.LATE + 0.2)
    began = time.monotonic()
    assert await heard(early) == [AgentEnd(AgentFate.NEVER_STARTED, "ImagePullBackOff: Back-off pulling")]
    assert time.monotonic() - began >= 0.15
    late = FakeKubelet([pulling, pulling, RUNNING], [STORY])
    assert (await heard(late))[-1] == AgentEnd(AgentFate.FINISHED)


def test_a_memory_knows_lines_by_their_text_and_old_ones_by_their_time() -> None:
    memory = Memory(size=3)
    texts = [(line(Told.HEARTBEAT, n), n) for n in range(10)]
    assert all(memory.is_new(*each) for each in texts)
    assert not any(memory.is_new(*each) for each in texts)
    assert memory.is_new(line(Told.FINISHED, 9), 9), "another line of the same moment"


def test_a_clock_is_known_within_one_round_trip() -> None:
    asked, answered = Instant("here", 0, 100.0), Instant("here", 10**8, 100.25)
    span = offset(asked, Instant("there", 5, 103.1), answered)
    assert (round(span.least, 3), round(span.most, 3)) == (2.85, 3.1)
    assert offset(asked, Instant("here", 5, 100.1), answered).most == 0.0
