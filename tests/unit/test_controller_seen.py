"""What a run is told while one of its duties is under way is not forgotten when that duty is done."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bounceback.api.evidence_status import EvidenceStatus
from bounceback.controller.run import Run
from bounceback.engine.planning import NOTHING_FOUND
from bounceback.engine.repairing import REPAIRED_ANNOTATION
from bounceback.engine.state import Seen, Snapshot, State
from bounceback.types.instants import Interval
from bounceback.types.outcome import EvidenceState
from tests.unit.engine_values import at, finished

CHANGED = {
    "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {REPAIRED_ANNOTATION: "repair-1"}},
    "spec": {"cancel": True},
}
EVIDENCE = EvidenceStatus(state=EvidenceState.KEPT)
SNAPSHOT = Snapshot(Interval(at(1), at(2)), {}, {})


class Slow:
    """Answers when it is told to."""

    def __init__(self, answer: object) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self._answer = answer

    async def __call__(self, *_: object) -> object:
        self.begun.set()
        await self.may_end.wait()
        return self._answer


@pytest.mark.parametrize(
    ("duty", "part", "asked", "answer", "seen"),
    [
        ("_prepare", "_preparing", "run", NOTHING_FOUND, "preparation"),
        ("_observe_clear", "_looking", "observe_all", SNAPSHOT, "clear"),
        ("_pack", "_keeping", "pack", EVIDENCE, "evidence"),
        ("_keep", "_keeping", "keep", EVIDENCE, "evidence"),
    ],
)
async def test_what_is_told_meanwhile_is_kept(duty: str, part: str, asked: str, answer: Any, seen: str) -> None:
    slow = Slow(answer)
    run = Run.__new__(Run)
    state = State(finished().model_copy(update={"evidence": EVIDENCE}))
    run.__dict__ |= {
        "_seen": Seen(),
        "_state": state,
        "_news": asyncio.Event(),
        "_whole": lambda: None,
        part: SimpleNamespace(**{asked: slow}),
    }
    doing = asyncio.create_task(getattr(run, duty)())
    await slow.begun.wait()
    run.changed(CHANGED)
    slow.may_end.set()
    await doing
    known = run._seen
    assert (known.cancel, known.deleted, known.said_repaired) == (True, True, "repair-1")
    assert getattr(known, seen) is answer
