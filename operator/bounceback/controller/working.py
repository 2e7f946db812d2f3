"""The prober pods of one run: made in the experiment's account's name, listened to, told to end, and taken away."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import aiohttp

from bounceback.api.check_workload import CheckWorkload
from bounceback.api.status import CheckCopy, FaultExperimentStatus
from bounceback.api.workload_status import WORK_OVER, WorkState
from bounceback.controller.office import Office
from bounceback.engine.state import Work
from bounceback.engine.working import heard, prober_name, worked
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import Backoff
from bounceback.types.instants import Instant
from bounceback.types.outcome import Phase
from bounceback.vehicles.containers import Ended, Waiting, state_of
from bounceback.vehicles.control import offset
from bounceback.vehicles.errors import Refused, refusal
from bounceback.vehicles.prober_pod import CONTAINER, CONTROL, prober_pod
from bounceback.workload.numbering import RUN_BITS

LOOK_SECONDS: Final = 0.5
SILENCE: Final = 20.0
"""Seconds without a line until somebody looks whether the pod is still there; the log is read from its start then."""
ASK_SECONDS: Final = 15.0
log = logging.getLogger(__name__)


class Working:
    """`works` is what is seen of each prober, by check; `changed` is called when that changes.

    All of it can be done again, by another operator too: a pod is made once, under a name that follows from the run,
    and its log is read from its start.
    """

    def __init__(
        self, office: Office, acting: Kube, body: Json, run: str, account: str, changed: Callable[[], None]
    ) -> None:
        metadata = body["metadata"]
        self._office = office
        self._acting = acting
        self._account = account
        self._namespace = metadata["namespace"]
        self._run = run
        self._owner = {key: body[key] for key in ("apiVersion", "kind")} | {
            key: metadata[key] for key in ("name", "uid")
        }
        self._changed = changed
        self._works: dict[str, Work] = {}

    @property
    def seen(self) -> tuple[Work, ...]:
        return tuple(self._works.values())

    async def work(self, status: FaultExperimentStatus) -> None:
        """Have each prober there, and hear it to its end."""
        known = {each.check: each.state for each in status.workloads}
        async with asyncio.TaskGroup() as tasks:
            for check, workload in worked(status.checks):
                state = known.get(check.name, WorkState.STARTING)
                if state not in WORK_OVER:
                    fresh = status.phase is Phase.STEADY and state is WorkState.STARTING
                    tasks.create_task(self._see_through(check, workload, status.deadline_at or time.time(), fresh))

    async def end(self, status: FaultExperimentStatus) -> None:
        """No more operations are begun. One that does not answer is asked again, for as long as that is wanted."""
        for check, _ in worked(status.checks):
            work = self._works.get(check.name)
            if work is not None and not work.over and work.load_end is None:
                await self._ask(prober_name(self._run, check.uid), {"end": True})

    async def remove(self, status: FaultExperimentStatus) -> None:
        """What the account may not delete any more goes with the experiment, and ends by its own deadline."""
        for check, _ in worked(status.checks):
            name = prober_name(self._run, check.uid)
            try:
                pod = await self._acting.get(PODS, self._namespace, name)
                if self._is_ours(pod):
                    await self._acting.delete(PODS, self._namespace, name, uid=pod["metadata"]["uid"])
            except KubeError as error:
                if error.passing:
                    raise

    async def _see_through(self, check: CheckCopy, workload: CheckWorkload, until: float, fresh: bool) -> None:
        name = prober_name(self._run, check.uid)
        self._works.setdefault(check.name, Work(check.name))
        if fresh and not await self._made(check.name, name, workload, until):
            return
        backoff, heard_to = Backoff(0.2, 5.0), -1
        while not self._works[check.name].over:
            pod = await self._look(name)
            if pod is None or not self._is_ours(pod):
                self._tell(check.name, lost=f"its pod {name} is not there any more: its ledger went with it")
                return
            state = state_of(pod, CONTAINER)
            if isinstance(state, Waiting):
                self._tell(check.name, waits=state.words)
                await asyncio.sleep(LOOK_SECONDS)
                continue
            await self._measure_clock(check.name, name)
            heard_to, whole = await self._listen(check.name, name, heard_to)
            if whole and isinstance(state, Ended) and not self._works[check.name].over:
                self._tell(check.name, lost=f"its pod {name} ended, and its ledger with it: {state.words}")
                return
            await backoff.pause()

    async def _made(self, check: str, name: str, workload: CheckWorkload, until: float) -> bool:
        """False where it cannot be."""
        self._office.leadership.check()
        settings = self._office.settings
        try:
            pod = prober_pod(
                name,
                workload,
                run=self._run,
                number=1 + secrets.randbelow((1 << RUN_BITS) - 1),
                not_after=until,
                now=time.time(),
                owner=self._owner,
                image=settings.image,
                pull_policy=settings.pull_policy,
            )
            await self._acting.create(PODS, self._namespace, pod)
        except Refused as refused:
            self._tell(check, refused=str(refused))
            return False
        except KubeError as error:
            if error.exists:
                return True
            account = f"service account {self._account} of namespace {self._namespace}"
            if (refused_ := refusal(error, account, f"the prober pod {name}")) is None:
                raise
            self._tell(check, refused=str(refused_))
            return False
        return True

    async def _look(self, name: str) -> Json | None:
        try:
            return await self._acting.get(PODS, self._namespace, name)
        except KubeError as error:
            if error.gone:
                return None
            raise

    async def _listen(self, check: str, name: str, heard_to: int) -> tuple[int, bool]:
        """The number of the last line that was heard, and whether the log was read to its end."""
        lines = self._acting.log_lines(PODS, self._namespace, name, CONTAINER, follow=True)
        try:
            async with aclosing(lines):
                while True:
                    async with asyncio.timeout(SILENCE):
                        text = await anext(lines, None)
                    if text is None:
                        return heard_to, True
                    heard_to = self._hear(check, text, heard_to)
                    if self._works[check].over:
                        return heard_to, True
        except (KubeError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.debug("%s: %s", name, error)
        return heard_to, False

    def _hear(self, check: str, text: str, heard_to: int) -> int:
        """What is no line of a prober's, or was heard before, is passed over."""
        try:
            line: Any = json.loads(text)
            number = int(line["n"])
            if number <= heard_to:
                return heard_to
            self._works[check] = heard(self._works[check], line)
        except (ValueError, KeyError, TypeError):
            return heard_to
        self._changed()
        return number

    async def _measure_clock(self, check: str, name: str) -> None:
        """How far the prober's clock is ahead of ours, once; where it does not answer, at the next look."""
        if self._works[check].offset is not None:
            return
        asked = Instant.now()
        try:
            answer = await self._ask(name, {"ping": True})
            there = Instant.from_json(answer["at"])
        except (KubeError, aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            log.debug("%s: its clock: %s", name, error)
        else:
            self._tell(check, offset=offset(asked, there, Instant.now()))

    async def _ask(self, name: str, question: Json) -> Json:
        """Raises KubeError, ClientError, TimeoutError or ValueError where it did not answer."""
        code, output, errors = await self._acting.exec(
            self._namespace, name, CONTAINER, CONTROL, stdin=json.dumps(question), seconds=ASK_SECONDS
        )
        if code:
            raise KubeError(500, "NoAnswer", f"{name}: {(errors or output).strip()[-300:]}")
        answer: Json = json.loads(output)
        return answer

    def _is_ours(self, pod: Json) -> bool:
        owners = pod["metadata"].get("ownerReferences") or []
        return any(owner.get("uid") == self._owner["uid"] for owner in owners)

    def _tell(self, check: str, **fields: Any) -> None:
        told = replace(self._works[check], **fields)
        if told != self._works[check]:
            self._works[check] = told
            self._changed()
