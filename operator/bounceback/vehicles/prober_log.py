"""A prober pod that is there: what it tells, line by line through cut connections, and what it answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import aiohttp

from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import Backoff
from bounceback.types.instants import Instant
from bounceback.vehicles.containers import Ended, Waiting, state_of
from bounceback.vehicles.errors import refusal
from bounceback.vehicles.prober_pod import CONTAINER, CONTROL

LOOK_SECONDS: Final = 0.5
SILENCE: Final = 20.0
"""Seconds without a line until somebody looks whether the pod is still there; the log is read from its start then."""
ASK_SECONDS: Final = 15.0
log = logging.getLogger(__name__)


class ProberPod:
    """One pod, by its name; `owner` is the experiment that it belongs to, `account` who acts."""

    def __init__(self, acting: Kube, namespace: str, name: str, owner: Json, account: str) -> None:
        self._acting = acting
        self._namespace = namespace
        self._owner = owner
        self._account = account
        self.name = name
        self._heard: tuple[str, int] = ("", -1)  # the pod's UID, and the number of the last line that was given

    async def make(self, body: Json) -> None:
        """One that is there already is left as it is. Raises Refused; KubeError where asking again may help."""
        try:
            await self._acting.create(PODS, self._namespace, body)
        except KubeError as error:
            if error.exists:
                return
            account = f"service account {self._account} of namespace {self._namespace}"
            if refused := refusal(error, account, f"the prober pod {self.name}"):
                raise refused from error
            raise

    async def lines(self) -> AsyncGenerator[Json | Waiting | Ended | None, None]:
        """Each line once, however often this is called, from the start of its log; Waiting while it does not run.

        Then, and it is the last: Ended once all that it told was given, None where the pod is not there (any more).
        """
        backoff = Backoff(0.2, 5.0)
        while True:
            if (pod := await self._there()) is None:
                yield None
                return
            state, uid = state_of(pod, CONTAINER), pod["metadata"]["uid"]
            if self._heard[0] != uid:
                self._heard = uid, -1
            if isinstance(state, Waiting):
                yield state
                await asyncio.sleep(LOOK_SECONDS)
                continue
            try:
                async with aclosing(self._read()) as told:
                    async for line in told:
                        if line["n"] > self._heard[1]:
                            self._heard = uid, line["n"]
                            backoff.reset()
                            yield line
                if isinstance(state, Ended):
                    yield state
                    return
            except (KubeError, aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.debug("%s: %s", self.name, error)
            await backoff.pause()

    async def ask(self, question: Json) -> Json:
        """Raises KubeError, ClientError, TimeoutError or ValueError where it did not answer."""
        code, output, errors = await self._acting.exec(
            self._namespace, self.name, CONTAINER, CONTROL, stdin=json.dumps(question), seconds=ASK_SECONDS
        )
        if code:
            raise KubeError(500, "NoAnswer", f"{self.name}: {(errors or output).strip()[-300:]}")
        answer: Json = json.loads(output)
        return answer

    async def clock(self) -> tuple[Instant, Instant, Instant] | None:
        """When it was asked, the time there, when it had answered; None where it did not."""
        asked = Instant.now()
        try:
            answer = await self.ask({"ping": True})
            return asked, Instant.from_json(answer["at"]), Instant.now()
        except (KubeError, aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            log.debug("%s: its clock: %s", self.name, error)
            return None

    async def remove(self) -> None:
        """What the account may not delete any more goes with the experiment, and ends by its own deadline."""
        try:
            if (pod := await self._there()) is not None:
                await self._acting.delete(PODS, self._namespace, self.name, uid=pod["metadata"]["uid"])
        except KubeError as error:
            if error.passing:
                raise

    async def _there(self) -> Json | None:
        """The pod; None where there is none, or another's."""
        try:
            pod = await self._acting.get(PODS, self._namespace, self.name)
        except KubeError as error:
            if error.gone:
                return None
            raise
        owners = pod["metadata"].get("ownerReferences") or []
        return pod if any(owner.get("uid") == self._owner["uid"] for owner in owners) else None

    async def _read(self) -> AsyncGenerator[Json, None]:
        """What is no line of a prober's is passed over."""
        lines = self._acting.log_lines(PODS, self._namespace, self.name, CONTAINER, follow=True)
        async with aclosing(lines):
            while True:
                async with asyncio.timeout(SILENCE):
                    text = await anext(lines, None)
                if text is None:
                    return
                try:
                    line: Any = json.loads(text)
                except ValueError:
                    continue
                if isinstance(line, dict) and isinstance(line.get("n"), int):
                    yield line


def owner_of(body: Json) -> Json:
    """An experiment, as objects that go with it name it."""
    metadata = body["metadata"]
    return {**{key: body[key] for key in ("apiVersion", "kind")}, **{key: metadata[key] for key in ("name", "uid")}}
