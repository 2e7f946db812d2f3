"""A finished experiment's verdict, shown in the status of the checks that judged it."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from bounceback.api.check_status import CheckResult, RecoveryCheckStatus
from bounceback.api.meta import with_condition
from bounceback.api.status import FaultExperimentStatus
from bounceback.engine.conditions import is_watched
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS
from bounceback.types.outcome import Verdict

KEPT = 20


class Results:
    """Runs that used the same check take turns: each reads the check's status and writes it back with one result more.

    Without turns most writes would meet a conflict, and each run would ask some dozen times.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by the check's UID

    async def publish(self, experiment: Json, status: FaultExperimentStatus) -> None:
        """Once for each check that still is the one that was used; a check that is gone is passed over."""
        if status.verdict is None:
            return
        for check in status.checks:
            async with self._turns.setdefault(check.uid, asyncio.Lock()):
                while not await _add(self._kube, experiment, check.name, check.uid, status):
                    pass  # somebody else's write came in between: read again


async def _add(kube: Kube, experiment: Json, name: str, uid: str, status: FaultExperimentStatus) -> bool:
    metadata = experiment["metadata"]
    try:
        body = await kube.get(CHECKS, metadata["namespace"], name)
        if body["metadata"]["uid"] != uid:
            return True
        before = RecoveryCheckStatus.model_validate(body.get("status") or {})
        after = with_result(before, metadata, status, body["metadata"].get("generation", 0))
        await kube.replace(CHECKS, metadata["namespace"], name, {**body, "status": after.to_json()}, "status")
    except KubeError as error:
        if error.gone:
            return True
        if error.conflict:
            return False
        raise
    return True


def with_result(
    before: RecoveryCheckStatus, experiment: Json, status: FaultExperimentStatus, generation: int
) -> RecoveryCheckStatus:
    """The check's status with that result first; the same experiment is not listed twice."""
    assert status.verdict is not None
    finished = status.finished_at or ""
    result = CheckResult(
        experiment=experiment["name"],
        uid=experiment["uid"],
        verdict=status.verdict,
        recovered=status.recovered,
        finished_at=finished,
    )
    others = [r for r in before.results if r.uid != experiment["uid"]]
    passed = status.verdict is Verdict.PASSED
    told = status.findings[0].message if status.findings else f"{experiment['name']} passed"
    listed = before.conditions
    if not is_watched(listed):
        listed = with_condition(listed, "Ready", passed, str(status.verdict), told, finished, generation)
    return before.model_copy(
        update={
            "observed_generation": generation,
            "conditions": listed,
            "results": [result, *others][:KEPT],
            "last_verdict": str(status.verdict),
            "last_recovered": status.recovered,
        }
    )
