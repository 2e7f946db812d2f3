"""Keeping evidence comes after the verdict and before the run is let go, and holds up neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.evidence_status import EvidenceStatus
from bounceback.api.runs import RunsStatus, RunSummary
from bounceback.api.status import FaultExperimentStatus
from bounceback.controller import keeping
from bounceback.controller.keeping import Keeping
from bounceback.controller.leader import NotLeaderError
from bounceback.controller.settings import StoreKind
from bounceback.controller.store import Refusing, Stored
from bounceback.engine.advance import advance
from bounceback.engine.conditions import conditions
from bounceback.engine.repeats import next_run
from bounceback.engine.state import Duty, Seen, State
from bounceback.kube import KubeError
from bounceback.report.bundle import Bundle
from bounceback.report.evidence import Whole
from bounceback.types.outcome import EvidenceState, Phase, Verdict
from tests.unit.engine_values import at, experiment, finished
from tests.unit.test_evidence import bundle_of, whole

KEPT = EvidenceStatus(state=EvidenceState.KEPT, reason="Kept", digest="sha256:ab", place="there", store="ConfigMaps")
WRITING = EvidenceStatus(state=EvidenceState.WRITING, reason="Writing", digest="sha256:ab", store="ConfigMaps")
KEEPS = Seen(claimed=True, keeps=True)


def over(**changes: Any) -> State:
    return State(finished().model_copy(update={"phase": Phase.FINISHED, "verdict": Verdict.PASSED, **changes}))


def kept_condition(status: FaultExperimentStatus) -> tuple[str, str]:
    (found,) = [each for each in conditions(status, 1, "2026-01-01T00:00:00Z") if each.type == "EvidenceKept"]
    return found.status, found.reason


def test_the_run_is_let_go_once_it_is_told_what_became_of_the_evidence() -> None:
    spec, state = experiment(), over()
    assert advance(spec, state, Seen(), at(60)).duties == {Duty.RELEASE}, "no store, nothing to wait for"
    assert advance(spec, state, KEEPS, at(60)).duties == {Duty.PACK}
    writing = advance(spec, state, replace(KEEPS, evidence=WRITING), at(60))
    assert writing.duties == {Duty.KEEP}
    assert writing.state.status.evidence == WRITING, "the digest stands there before anything is in the store"
    assert advance(spec, writing.state, KEEPS, at(60)).duties == {Duty.KEEP}
    told = advance(spec, state, replace(KEEPS, evidence=KEPT), at(60))
    assert told.duties == {Duty.RELEASE}
    assert told.state.status.evidence == KEPT
    assert told.state.status.verdict is Verdict.PASSED
    again = advance(spec, told.state, KEEPS, at(60))
    assert again.duties == {Duty.RELEASE}, "as an operator after this one sees it"
    assert again.state == told.state


def test_a_doubt_at_the_start_stands_until_the_store_was_asked_again() -> None:
    doubtful = EvidenceStatus(state=EvidenceState.DOUBTFUL, reason="QuotaExceeded", message="no")
    state = over(evidence=doubtful)
    assert kept_condition(state.status) == ("False", "QuotaExceeded")
    assert advance(experiment(), state, KEEPS, at(60)).duties == {Duty.PACK}


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (None, ("Unknown", "NoEvidence")),
        (WRITING, ("Unknown", "Writing")),
        (KEPT, ("True", "Kept")),
        (EvidenceStatus(state=EvidenceState.PARTIAL, reason="Partial"), ("False", "Partial")),
        (EvidenceStatus(state=EvidenceState.NOT_KEPT, reason="Forbidden"), ("False", "Forbidden")),
    ],
)
def test_a_condition_tells_of_it(evidence: EvidenceStatus | None, told: tuple[str, str]) -> None:
    assert kept_condition(over(evidence=evidence).status) == told


def test_each_of_several_runs_has_a_digest_of_its_own() -> None:
    spec = experiment(runs={"count": 3})
    runs = RunsStatus(number=1, listed=[RunSummary(number=1, seed=0, verdict=Verdict.PASSED)])
    state = over(phase=Phase.REPEATING, runs=runs)
    told = advance(spec, state, replace(KEEPS, evidence=KEPT), at(60)).state.status
    after = next_run(spec, told)
    assert after.runs is not None
    assert after.runs.listed[0].evidence == "sha256:ab"
    assert after.evidence is None


class Script:
    """A store that answers as it is told to, and then takes what it is given."""

    name = StoreKind.CONFIG_MAPS
    most = 100_000

    def __init__(self, *answers: Exception, there: Bundle | None = None) -> None:
        self._answers = list(answers)
        self._there = there
        self.asked = 0
        self.looked_through = 0

    def _answer(self) -> None:
        self.asked += 1
        if self._answers:
            raise self._answers.pop(0)

    async def try_out(self, owner: Any, run: str) -> None:
        self._answer()

    async def keep(self, owner: Any, run: str, bundle: Bundle) -> Stored:
        self._answer()
        return Stored("there", bundle.manifest, bundle.bytes)

    async def find(self, owner: Any, run: str) -> Stored | None:
        self._answer()
        return Stored("there", self._there.manifest, self._there.bytes) if self._there else None

    async def make_room(self, namespace: str, run: str) -> int:
        self.looked_through += 1
        if self.asked == 4:
            raise KubeError(403, "Forbidden", "may not list configmaps")
        return 1000


def deposed() -> None:
    raise NotLeaderError("not any more")


def keeping_by(store: Script, check: Callable[[], None] = lambda: None) -> Keeping:
    return Keeping(store, whole(1).body, 64 * 1024 * 1024, check)


async def kept_by(store: Script, run: Whole, check: Callable[[], None] = lambda: None) -> EvidenceStatus:
    keeps = keeping_by(store, check)
    return await keeps.keep(run, (await keeps.pack(run)).digest)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(keeping, "LONGEST_PAUSE", 0.001)


async def test_passing_trouble_is_waited_for_and_refusals_are_not() -> None:
    trouble = (KubeError(500, "", "etcd"), TimeoutError(), KubeError(429, "", "slow down"))
    store = Script(*trouble)
    told = await kept_by(store, whole(10))
    assert (told.state, store.asked) == (EvidenceState.KEPT, 4)
    assert "older evidence could not be looked through" in told.message
    store = Script(Refusing("QuotaExceeded", "no more"))
    told = await kept_by(store, whole(10))
    assert (told.state, told.reason, store.asked) == (EvidenceState.NOT_KEPT, "QuotaExceeded", 1)


async def test_a_store_is_looked_through_only_where_there_may_be_too_much() -> None:
    """Thousands of runs in one namespace would list thousands of objects each."""
    run, store, known = whole(10), Script(), {"elsewhere": 10**9}
    size = bundle_of(run).bytes
    for _ in range(3):
        keeps = Keeping(store, run.body, 64 * 1024 * 1024, lambda: None, known)
        await keeps.keep(run, (await keeps.pack(run)).digest)
    assert (store.looked_through, known["shop"]) == (1, 1000 + 2 * size)
    store.most = 1000 + 2 * size
    keeps = Keeping(store, run.body, 64 * 1024 * 1024, lambda: None, known)
    store.asked = 10
    await keeps.keep(run, (await keeps.pack(run)).digest)
    assert (store.looked_through, known["shop"]) == (2, 1000)


async def test_a_store_that_never_answers_ends_in_a_word_and_not_in_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "KEEP_SECONDS", 0.05)
    told = await kept_by(Script(*(KubeError(503, "", "not now") for _ in range(2_000))), whole(10))
    assert (told.state, told.reason) == (EvidenceState.NOT_KEPT, "StoreUnreachable")
    assert "not now" in told.message


async def test_who_does_not_lead_any_more_writes_nothing() -> None:
    store = Script()
    with pytest.raises(NotLeaderError):
        await kept_by(store, whole(10), deposed)
    assert store.asked == 0


async def test_an_operator_after_another_takes_what_that_has_kept_and_nothing_else() -> None:
    """The one before it wrote the digest down, and then was killed: before, or after it had reached the store."""
    run, other = whole(10), bundle_of(whole(300))
    told = await keeping_by(Script(there=other)).keep(run, other.digest)
    assert (told.state, told.digest) == (EvidenceState.KEPT, other.digest)
    for there in (None, bundle_of(whole(7))):
        keeps = keeping_by(Script(there=there))
        anew = await keeps.keep(run, other.digest)
        assert (anew.state, anew.digest) == (EvidenceState.WRITING, bundle_of(run).digest), (
            "its own, written down first"
        )
        assert (await keeps.keep(run, anew.digest)).state is EvidenceState.KEPT


async def test_a_defect_of_ours_costs_the_evidence_and_not_the_run() -> None:
    run = whole(10)
    told = await keeping_by(Script()).pack(replace(run, body={**run.body, "metadata": {}}))
    assert (told.state, told.reason) == (EvidenceState.NOT_KEPT, "Defect")


async def test_doubt_is_told_before_anything_is_touched_and_trouble_of_the_server_is_no_doubt() -> None:
    told = await keeping_by(Script(Refusing("Forbidden", "may not"))).doubt("run-1")
    assert told is not None
    assert (told.state, told.reason) == (EvidenceState.DOUBTFUL, "Forbidden")
    assert await keeping_by(Script()).doubt("run-1") is None
    assert await keeping_by(Script(KubeError(500, "", "etcd"))).doubt("run-1") is None
