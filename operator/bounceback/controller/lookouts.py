"""All checks that watch by themselves: each in a task of its own, for as long as this operator leads."""

from __future__ import annotations

import asyncio
import logging

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.check_status import RecoveryCheckStatus
from bounceback.api.problems import parse
from bounceback.controller import metrics
from bounceback.controller.causes import Causes
from bounceback.controller.checks import problem_of
from bounceback.controller.lookout import Lookout
from bounceback.controller.office import Office
from bounceback.controller.trying import Key, until_done
from bounceback.engine.conditions import ON_DEMAND, SUSPENDED, Obstacle, is_watched
from bounceback.engine.targets import PROTECTED
from bounceback.kube import KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS

LAST_WORDS = 5.0
"""Seconds that may pass until what is known is written down, when a check is changed or the operator ends."""
log = logging.getLogger(__name__)


class Lookouts:
    """Begun anew with each generation of a check: what was seen by the last one is written down before."""

    def __init__(self, office: Office, causes: Causes) -> None:
        self._office = office
        self._causes = causes
        self._generations: dict[str, int] = {}  # by UID: what is seen to, or was
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking: dict[str, Lookout] = {}
        self._ended = False

    async def changed(self, kind: str | None, body: Json) -> None:
        """A check as the watch gives it."""
        metadata = body["metadata"]
        uid, generation = metadata["uid"], metadata.get("generation", 0)
        key = (metadata["namespace"], metadata["name"], uid)
        if self._ended:
            return
        if kind == "DELETED":
            self._generations.pop(uid, None)
            if task := self._tasks.get(uid):
                task.cancel()
        elif self._generations.get(uid) != generation:
            self._generations[uid] = generation
            before = self._tasks.get(uid)
            task = asyncio.create_task(self._take_over(key, before), name="/".join(key))
            self._tasks[uid] = task
            task.add_done_callback(lambda done: self._left(key, done))

    async def end(self) -> None:
        """Write down what is known, where there is still the right to, and leave it to another."""
        self._ended = True
        tasks = list(self._tasks.values())
        if self._office.leadership.held():
            await self._stop(*tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stop(self, *tasks: asyncio.Task[None]) -> None:
        told = [uid for uid, task in self._tasks.items() if task in tasks and uid in self._looking]
        for uid in told:
            self._looking[uid].stop()
        if stopped := [self._tasks[uid] for uid in told]:
            await asyncio.wait(stopped, timeout=LAST_WORDS)

    async def _take_over(self, key: Key, before: asyncio.Task[None] | None) -> None:
        """One at a time looks for one check."""
        if before is not None:
            try:
                if lookout := self._looking.get(key[2]):
                    lookout.stop()
                    await asyncio.wait([before], timeout=LAST_WORDS)
            finally:
                before.cancel()
            await asyncio.wait([before])
        await until_done(self._office.leadership, key, self._see_to)

    def _left(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key[2]) is task:
            del self._tasks[key[2]]
            metrics.forget_check(key[0], key[1])

    async def _see_to(self, key: Key) -> None:
        """From how the check is now; where nobody is to look, that is written and all there is to do."""
        try:
            body = await self._office.kube.get(CHECKS, key[0], key[1])
        except KubeError as error:
            if error.gone:
                return
            raise
        if body["metadata"]["uid"] != key[2]:
            return
        spec, _ = parse(RecoveryCheckSpec, body.get("spec") or {})
        obstacle = self._obstacle(key[0], body.get("spec") or {}, spec)
        if spec is None or obstacle is not None:
            assert obstacle is not None
            await self._rest(body, spec, obstacle)
            return
        lookout = self._looking[key[2]] = Lookout(self._office, self._causes, body, spec)
        metrics.CHECKS_WATCHED.inc()
        try:
            await lookout.keep()
        finally:
            metrics.CHECKS_WATCHED.dec()
            if self._looking.get(key[2]) is lookout:
                del self._looking[key[2]]

    def _obstacle(self, namespace: str, raw: Json, spec: RecoveryCheckSpec | None) -> Obstacle | None:
        if spec is not None and spec.mode != "Continuous":
            return Obstacle(ON_DEMAND, "it looks when experiments ask it to")
        if problem := problem_of(raw):
            return Obstacle("Invalid", problem)
        if namespace in (*PROTECTED, self._office.settings.namespace):
            return Obstacle(
                "ProtectedNamespace",
                f"metadata.namespace: nothing in {namespace} is looked at in the name of its accounts; put the check "
                "into the namespace of the system that it is for",
            )
        if spec is not None and spec.suspend:
            return Obstacle(SUSPENDED, "spec.suspend is true: nobody looks, and that time counts as unknown")
        return None

    async def _rest(self, body: Json, spec: RecoveryCheckSpec | None, obstacle: Obstacle) -> None:
        """Nothing to say of a check that never watched; what is wrong with one, controller/checks.py tells."""
        status = RecoveryCheckStatus.model_validate(body.get("status") or {})
        if obstacle.reason == ON_DEMAND and not is_watched(status.conditions):
            return
        if spec is None and status.continuous is None:
            return
        spec = spec or RecoveryCheckSpec.model_construct()
        await Lookout(self._office, self._causes, body, spec).rest(obstacle)
