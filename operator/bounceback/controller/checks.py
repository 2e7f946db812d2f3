"""Checks as they come and go: whether one can be used is told at once, in its own status."""

from __future__ import annotations

import logging

import aiohttp

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.check_status import RecoveryCheckStatus
from bounceback.api.meta import with_condition
from bounceback.api.problems import dotted, parse
from bounceback.engine.conditions import is_watched
from bounceback.engine.invariants import expression_problems
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS
from bounceback.types.instants import Instant

log = logging.getLogger(__name__)


class Checks:
    """Stateless: a check that nobody has looked at since it changed has a status that speaks of an older generation."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def changed(self, kind: str | None, body: Json) -> None:
        """A check as the watch gives it. What cannot be written now is written when it is next seen."""
        generation = body["metadata"].get("generation", 0)
        before = RecoveryCheckStatus.model_validate(body.get("status") or {})
        if kind == "DELETED" or before.observed_generation == generation:
            return
        after = looked_at(before, problem_of(body.get("spec") or {}), generation, Instant.now().rfc3339())
        metadata = body["metadata"]
        try:
            await self._kube.replace(
                CHECKS, metadata["namespace"], metadata["name"], {**body, "status": after.to_json()}, "status"
            )
        except (KubeError, aiohttp.ClientError, TimeoutError) as error:
            log.info("%s/%s: status not written: %s", metadata["namespace"], metadata["name"], error)


def problem_of(spec: Json) -> str:
    """What must be changed before it can be used, with its field; empty: nothing."""
    check, problems = parse(RecoveryCheckSpec, spec)
    if check is None:
        return str(problems[0])
    for path, wrong in expression_problems(check):
        return f"{dotted(('spec', *path))}: {wrong}"
    return ""


def looked_at(before: RecoveryCheckStatus, problem: str, generation: int, now: str) -> RecoveryCheckStatus:
    """All known conditions; Ready says how the last experiment ended, once one has, or whether the check watches."""
    conditions = with_condition(
        before.conditions, "Stalled", bool(problem), "Invalid" if problem else "NotStalled", problem, now, generation
    )
    conditions = with_condition(conditions, "Reconciling", False, "Looked", "", now, generation)
    if problem or not (before.results or is_watched(conditions)):
        ready = False if problem else None
        reason = "Invalid" if problem else "NoResult"
        conditions = with_condition(
            conditions, "Ready", ready, reason, problem or "no experiment has used it yet", now, generation
        )
    return before.model_copy(update={"observed_generation": generation, "conditions": conditions})
