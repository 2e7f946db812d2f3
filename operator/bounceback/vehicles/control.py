"""Asking a running agent through the kubelet (pods/exec): stop, begin, new flows, what time it is there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final, Protocol

import aiohttp

from bounceback.engine.model import AgentRef
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import Backoff
from bounceback.types.instants import Instant, Span
from bounceback.types.plan import Flow
from bounceback.vehicles.containers import Ended, Missing, Waiting, command, state_of
from bounceback.vehicles.errors import Refused

UNREACHABLE: Final = "Unreachable"
NOT_STARTED: Final = "NotStarted"
NOT_DONE: Final = "NotDone"
LATE_NEWS: Final = 3.0
"""Seconds by which the kubelet may tell late that a container has ended."""


class Start(Protocol):
    """When an order begins, at the latest, and is over: UTC seconds."""

    @property
    def start_at(self) -> float: ...
    @property
    def start_before(self) -> float: ...
    @property
    def not_after(self) -> float: ...


async def ask(kube: Kube, ref: AgentRef, question: Json, seconds: float = 30) -> Json:
    """The agent's answer. Raises KubeError, aiohttp.ClientError or TimeoutError where none came."""
    code, output, errors = await kube.exec(
        ref.namespace, ref.pod, ref.container, command("control"), stdin=json.dumps(question), seconds=seconds
    )
    try:
        answer = json.loads(output)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise KubeError(500, "NoAnswer", f"control ended with {code}: {(errors or output).strip()[-300:]}")
    return answer


async def stop(kube: Kube, ref: AgentRef) -> None:
    """Returns once all is reverted, or where there is no agent (any more) that could hold anything in force.

    What it found left over stands in its evidence. Raises Refused where it may still be in force or come to be:
    Unreachable, NotStarted (it will refuse after startBefore).
    """
    backoff, give_up = Backoff(0.3), time.monotonic() + LATE_NEWS
    while True:
        try:
            answer = await ask(kube, ref, {"stop": True})
            if answer.get("ok") or answer.get("leftovers"):
                return
            trouble = str(answer.get("error") or answer)  # it has just begun, or is just ending
        except (KubeError, aiohttp.ClientError, TimeoutError) as error:
            trouble = str(error) or type(error).__name__
        if await _is_over(kube, ref):
            return
        if time.monotonic() > give_up:
            raise Refused("", UNREACHABLE, f"the agent {ref.container} could not be asked to stop: {trouble}")
        await backoff.pause()


async def amend(kube: Kube, ref: AgentRef, flows: Mapping[str, tuple[Flow, ...]]) -> None:
    """Put new flows in force, by injection. Raises Refused where the old ones stay in force.

    An injection without a flow is refused here: to the agent that would mean every peer.
    """
    if empty := sorted(injection for injection, peers in flows.items() if not peers):
        raise ValueError(f"no flows for {', '.join(empty)}: that would hit every peer")
    told = {injection: [asdict(flow) for flow in peers] for injection, peers in flows.items()}
    try:
        answer = await ask(kube, ref, {"amend": told})
    except (KubeError, aiohttp.ClientError, TimeoutError) as error:
        raise Refused("", UNREACHABLE, f"agent {ref.container} could not be asked: {error}") from error
    if not answer.get("ok"):
        raise Refused("", NOT_DONE, f"agent {ref.container} keeps the old peers: {answer.get('error') or answer}")


async def begin(kube: Kube, ref: AgentRef, starts: Mapping[str, Start | None]) -> None:
    """Tell orders that wait when they begin, by injection; None: never. Raises Refused where they go on waiting."""
    told = {
        injection: start and {"startAt": start.start_at, "startBefore": start.start_before, "notAfter": start.not_after}
        for injection, start in starts.items()
    }
    try:
        answer = await ask(kube, ref, {"begin": told})
    except (KubeError, aiohttp.ClientError, TimeoutError) as error:
        raise Refused("", UNREACHABLE, f"agent {ref.container} could not be asked: {error}") from error
    if not answer.get("ok"):
        raise Refused("", NOT_DONE, f"agent {ref.container} goes on waiting: {answer.get('error') or answer}")


async def ping(kube: Kube, ref: AgentRef) -> Span:
    """Seconds that the clock there is ahead of ours: least and most; 0, 0 where both are the same boot's.

    The answer was written between the question and its arrival. Raises Refused where none came.
    """
    asked = Instant.now()
    try:
        answer = await ask(kube, ref, {"ping": True})
        there = Instant.from_json(answer["at"])
    except (KubeError, aiohttp.ClientError, TimeoutError, KeyError, ValueError) as error:
        raise Refused("", UNREACHABLE, f"agent {ref.container} could not be asked: {error}") from error
    return offset(asked, there, Instant.now())


def offset(asked: Instant, there: Instant, answered: Instant) -> Span:
    """What one round trip tells of another clock."""
    if there.boot == asked.boot:
        return Span(0.0, 0.0)
    return Span(there.utc - answered.utc, there.utc - asked.utc)


async def _is_over(kube: Kube, ref: AgentRef) -> bool:
    """Whether the pod says so. Raises Refused where the agent has not even begun."""
    try:
        state = state_of(await kube.get(PODS, ref.namespace, ref.pod), ref.container)
    except KubeError as error:
        return error.gone
    except (aiohttp.ClientError, TimeoutError):
        return False
    if isinstance(state, Waiting):
        raise Refused("", NOT_STARTED, f"the agent {ref.container} has not started: {state.words}")
    return isinstance(state, Ended | Missing)
