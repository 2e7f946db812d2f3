"""What an agent tells, from the first line of its log to its end, through cut connections."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import aiohttp

from bounceback.engine.model import AgentEnd, AgentFate
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import DELETED, LISTED, Backoff, changes
from bounceback.types.plan import Plan
from bounceback.types.told import Line, Told
from bounceback.vehicles.containers import Ended, Missing, Running, State, Waiting, plan_in, state_of

SILENCE: Final = 30.0
"""Seconds without a line until somebody looks whether the agent is still there: it tells each second while in force."""
LATE: Final = 5.0
"""Seconds after the last startBefore: an agent that has not started by then refuses, and touches nothing."""
OVER: Final = 10.0
"""Seconds after the last notAfter: the agent has reverted by then, whether it can be asked or not."""
PATIENCE: Final = 15.0
"""Seconds for which a refusal is taken as passing; the rights of a namespace under deletion do not come back."""
REMEMBERED: Final = 4096


class Memory:
    """Which lines of a log were given already, when it is read again from its start.

    The last few thousand are known by their text; older ones by their time, which only grows within one log.
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._size = size
        self._forgotten = -1  # nanos of the newest line that was pushed out

    def is_new(self, text: str, nanos: int) -> bool:
        """True once for each line."""
        if text in self._recent or nanos <= self._forgotten:
            return False
        self._recent[text] = nanos
        if len(self._recent) > self._size:
            self._forgotten = max(self._forgotten, self._recent.popitem(last=False)[1])
        return True


class Listener:
    """Follows one container's log.

    `ours`: the pod is not the target, so that its end is not the target's. `by`: UTC seconds at which to give up, for
    work that is not bound to its plan's times.
    """

    def __init__(
        self, kube: Kube, namespace: str, pod: str, container: str, *, ours: bool, by: float | None = None
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._pod = pod
        self._container = container
        self._ours = ours
        self._by = by
        self._memory = Memory()
        self._backoff = Backoff(0.2, 5.0)
        self._plan: Plan | None = None
        self._refused_since: float | None = None
        self._unread_since: float | None = None
        self._finished = False

    async def listen(self) -> AsyncGenerator[Line | AgentEnd, None]:
        """All lines, each once, then how it ended."""
        state: State | AgentEnd = await self._begun()
        while True:
            if isinstance(state, AgentEnd):
                yield state
                return
            if isinstance(state, Ended) and not state.ran:
                yield AgentEnd(AgentFate.NEVER_STARTED, state.words)
                return
            silence, read = "its log ended before it did", True
            try:
                async with aclosing(self._lines()) as lines:
                    async for line in lines:
                        yield line
            except KubeError as error:
                silence, read = str(error), False
            except aiohttp.ClientError:
                silence, read = "", False  # the way to the API server was cut: that says nothing about the agent
            except (TimeoutError, ValueError) as error:  # ValueError: a line of no sensible length
                silence, read = str(error) or f"it was silent for {SILENCE:.0f} s", False
            if self._finished:
                yield AgentEnd(AgentFate.FINISHED)
                return
            if isinstance(state, Ended) and (read or self._hopeless()):
                yield AgentEnd(AgentFate.KILLED, state.words)
                return
            await self._backoff.pause()
            state = await self._look(silence)

    async def _lines(self) -> AsyncGenerator[Line, None]:
        log = self._kube.log_lines(PODS, self._namespace, self._pod, self._container, follow=True)
        async with aclosing(log):
            while True:
                async with asyncio.timeout(SILENCE):
                    text = await anext(log, None)
                if text is None:
                    return
                self._refused_since = None
                line = Line.from_json(text)
                if line is None or not self._memory.is_new(text, line.at.nanos):
                    continue
                self._backoff.reset()
                yield line
                if line.told is Told.FINISHED:  # its last; the kubelet keeps the log open for a second longer
                    self._finished = True
                    return

    async def _begun(self) -> State | AgentEnd:
        """Wait until the container runs or has ended, or until it is certain that it will do nothing any more."""
        waiting = "not yet begun by the kubelet"
        async with aclosing(self._states()) as states:
            while True:
                try:
                    async with asyncio.timeout(self._seconds_to_start()):
                        state = await anext(states)
                except TimeoutError:
                    return AgentEnd(AgentFate.NEVER_STARTED, waiting)
                if not isinstance(state, Waiting):
                    return state
                waiting = state.words

    async def _states(self) -> AsyncGenerator[State | AgentEnd, None]:
        """The container's state, whenever the pod changes."""
        there = False
        while True:
            try:
                told = changes(self._kube, PODS, self._namespace, fields=f"metadata.name={self._pod}")
                async with aclosing(told):
                    async for kind, pod in told:
                        self._refused_since = None
                        if kind == LISTED and there:
                            continue
                        there = kind not in (LISTED, DELETED)
                        yield self._judge(pod) if there else self._gone()
            except KubeError as error:
                if end := self._given_up(error):
                    yield end
            except (aiohttp.ClientError, TimeoutError):
                pass  # the API server does not answer: nothing can be decided or written down until it does
            await self._backoff.pause()

    async def _look(self, silence: str) -> State | AgentEnd:
        """The container's state now; where its time is over nobody waits for one that is said to run, but is silent."""
        while True:
            try:
                pod = await self._kube.get(PODS, self._namespace, self._pod)
            except KubeError as error:
                if error.gone:
                    return self._gone()
                if end := self._given_up(error):
                    return end
            except (aiohttp.ClientError, TimeoutError):
                pass  # as above
            else:
                self._refused_since = None
                state = self._judge(pod)
                if isinstance(state, Running) and silence and time.time() > self._over():
                    return AgentEnd(AgentFate.UNREACHABLE, silence)
                return state
            await self._backoff.pause()

    def _judge(self, pod: Json) -> State | AgentEnd:
        if self._plan is None:
            self._plan = plan_in(pod, self._container)
        state = state_of(pod, self._container)
        return self._gone() if isinstance(state, Missing) else state

    def _gone(self) -> AgentEnd:
        if self._ours:
            return AgentEnd(AgentFate.KILLED, f"pod {self._pod} was deleted")
        return AgentEnd(AgentFate.GONE, f"pod {self._pod} is not there any more")

    def _hopeless(self) -> bool:
        """The log of a container that has ended could not be read for a while."""
        now = time.monotonic()
        self._unread_since = self._unread_since or now
        return now - self._unread_since >= PATIENCE

    def _given_up(self, error: KubeError) -> AgentEnd | None:
        """A refusal that lasts is final; the server's own trouble is not."""
        if error.passing:
            return None
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        return AgentEnd(AgentFate.UNREACHABLE, str(error)) if now - self._refused_since > PATIENCE else None

    def _seconds_to_start(self) -> float | None:
        if self._by is not None:
            return self._by - time.time()
        if self._plan is None:
            return None
        return max(order.start_before for order in self._plan.orders) + LATE - time.time()

    def _over(self) -> float:
        """UTC seconds."""
        if self._by is not None:
            return self._by
        return max(order.not_after for order in self._plan.orders) + OVER if self._plan else 0.0
