"""What becomes of injections that change objects, and what of it stands in the journal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.status import InjectionStatus, Moment, ObjectStatus
from bounceback.controller.records import Planned, journal_record, restored
from bounceback.engine import changing
from bounceback.engine.changing import originals_of, still_needed
from bounceback.engine.judge import judge
from bounceback.engine.model import ObjectInfo
from bounceback.engine.originals import Guarded, Originals, copy_of, guarded_in, rebased, to_be_undone
from bounceback.engine.planning import Chosen, injections
from bounceback.engine.restoring import Create, Delete, Nothing, Patch
from bounceback.types.objects import Change, Json, ObjectKey
from bounceback.types.outcome import Cleanup, InjectionState, Phase, VehicleKind, Verdict
from bounceback.types.plan import Rung
from tests.unit.engine_values import at, experiment, finished, health, injection

KEY = ObjectKey("apps/v1", "Deployment", "shop", "web")
TARGET = ObjectStatus.of(KEY, "uid-1")


def web(version: str = "1", **spec: Any) -> Json:
    metadata = {"name": "web", "namespace": "shop", "uid": "uid-1", "resourceVersion": version}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 3, **spec}}


ZERO = Change(KEY, web(), web(replicas=0))
GONE = Change(KEY, web(), None)


def spec(**fault: Any) -> Any:
    return experiment(
        targets=[{"name": "web", "objects": {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["web"]}}],
        faults=[{"name": "cut", "target": "web", "objectFault": {"scaledToZero": {}, **fault}, "durationSeconds": 10}],
    )


def planned() -> InjectionStatus:
    chosen = Chosen(spec().faults[0], ObjectInfo(KEY, "uid-1", web()), VehicleKind.OBJECT_PATCH, "", Rung.API)
    (made,) = injections("run-1", [chosen], at(0).utc)
    return made


def test_a_change_is_brought_about_on_the_object_as_it_is_now() -> None:
    """The version that was looked at has passed: the pin is the new one's, and nothing else of others is written."""
    wanted = rebased(ZERO, web("7", paused=True))
    assert isinstance(wanted, Patch)
    version, change = wanted.ops
    assert (version["path"], version["value"]) == ("/metadata/resourceVersion", "7")
    assert change == {"op": "replace", "path": "/spec/replicas", "value": 0}


@pytest.mark.parametrize(
    ("change", "now"),
    [(ZERO, web("7", replicas=0)), (GONE, None)],
    ids=["changed already", "deleted already"],
)
def test_done_already_is_not_done_again(change: Change, now: Json | None) -> None:
    assert rebased(change, now) == Nothing()


@pytest.mark.parametrize("now", [web("7", replicas=5), None], ids=["another value", "gone"])
def test_where_others_were_first_nothing_is_changed(now: Json | None) -> None:
    assert rebased(ZERO, now) is None


def test_only_what_would_be_made_again_is_deleted() -> None:
    assert rebased(GONE, web("7")) == Delete("uid-1", version="7")
    assert rebased(GONE, web("7", replicas=5)) is None
    assert rebased(replace(GONE, whole=("/spec",)), web("7", replicas=5)) == Delete("uid-1")
    assert rebased(replace(GONE, along=True), web("7")) == Nothing(), "its namespace is deleted"


def test_creations_need_no_pin() -> None:
    made = Change(KEY, None, web())
    assert rebased(made, None) == Create(web())


def test_a_trial_copy_claims_nothing_that_only_one_can_have() -> None:
    spec = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "nodePort": 30080}]}
    metadata = {"name": "s" * 63, "namespace": "shop", "uid": "u", "resourceVersion": "1"}
    copy = copy_of({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    assert copy["spec"] == {"ports": [{"port": 80}]}
    assert copy["metadata"]["name"] != "s" * 63
    assert len(copy["metadata"]["name"]) <= 63
    assert "uid" not in copy["metadata"]


def test_from_planned_to_healed() -> None:
    active = changing.changed(planned(), at(2), 1)
    assert (active.state, active.hits, active.on) == (InjectionState.ACTIVE, 1, "Deployment web")
    over = changing.healed(active, at(5.2))
    assert (over.state, over.reason, over.cleanup) == (InjectionState.CLEARED, "Healed", Cleanup.CLEAN)
    assert over.healed is not None
    assert (over.healed.by, over.healed.milliseconds) == ("System", 3200)
    assert changing.undone(over, at(9), "Duration") == over, "it is over once"


def test_what_others_changed_too_is_named() -> None:
    over = changing.undone(changing.changed(planned(), at(2), 1), at(12), "Duration", ["/spec/replicas"])
    assert "/spec/replicas" in over.message
    assert over.healed is not None
    assert over.healed.by == "Undo"


@pytest.mark.parametrize(("healing", "told"), [("Required", ["NotHealed"]), ("Allowed", []), ("Forbidden", [])])
def test_what_was_deleted_by_others_was_healed_by_nobody(healing: str, told: list[str]) -> None:
    made = spec(healing=healing)
    over = changing.target_gone(changing.changed(planned(), at(2), 1), at(12))
    assert (over.reason, over.healed) == ("TargetGone", None)
    assert [reason for reason, _ in changing.against_healing(made, [over])] == told
    never = changing.target_gone(planned(), at(12))
    assert not list(changing.against_healing(made, [never])), "nothing was changed"


def test_what_never_began_has_nobody_who_healed_it() -> None:
    over = changing.never_begun(planned(), at(3))
    assert (over.state, over.healed, over.hits, over.cleanup) == (InjectionState.CLEARED, None, 0, Cleanup.CLEAN)


def test_what_could_not_be_put_right_is_left_and_its_originals_are_kept() -> None:
    over = changing.left(changing.changed(planned(), at(2), 1), at(40), ["Deployment web"], "forbidden")
    assert (over.cleanup, over.leftovers) == (Cleanup.LEFTOVER, ["Deployment web"])
    assert still_needed([over])
    assert not still_needed([changing.healed(changing.changed(planned(), at(2), 1), at(3))])


def test_the_journal_brings_back_what_it_was_given() -> None:
    chosen = Chosen(
        spec().faults[0], ObjectInfo(KEY, "uid-1", web()), VehicleKind.OBJECT_PATCH, "", Rung.API, changes=(ZERO, GONE)
    )
    originals = originals_of(spec(), "shop", "web-zero", "run-1", [chosen])
    assert originals is not None
    record = journal_record([planned()], Planned((), originals))
    assert restored(record, ())[1].originals == originals
    assert guarded_in(record) == (originals, (Guarded(planned().name, planned().start_at, planned().not_after),))
    assert guarded_in(journal_record([planned()], Planned())) is None
    assert originals.seconds == {planned().name: 10.0}
    assert restored(record, ())[0] == (planned(),)
    assert restored(journal_record([], Planned()), ())[1].originals is None


def test_contents_are_in_no_representation() -> None:
    secret = {**web(), "data": {"password": "hush"}}
    chosen = Chosen(
        spec().faults[0],
        ObjectInfo(KEY, "uid-1", secret),
        VehicleKind.OBJECT_PATCH,
        "",
        Rung.API,
        changes=(Change(KEY, secret, None),),
    )
    originals = Originals("shop", "x", "bounceback", {"cut": chosen.changes}, {"cut": 1.0})
    assert "hush" not in f"{chosen!r} {originals!r}"


ACTIVE = {"state": "Active", "inForceAt": Moment.of(at(4)).to_json()}


@pytest.mark.parametrize(
    ("status", "ends"),
    [
        ({}, "notAfter"),
        ({"injections": [{}]}, "notAfter"),
        ({"injections": [{"waiting": True}]}, 10),
        ({"injections": [{"notAfter": at(50).utc}]}, 50),
        ({"injections": [ACTIVE]}, 14),
        ({"injections": [{"state": "Cleared", "cleanup": "Clean"}]}, None),
        ({"injections": [{"state": "Cleared", "cleanup": "Leftover", "inForceAt": ACTIVE["inForceAt"]}]}, 14),
        ({"phase": "Active"}, "notAfter"),
        ({"phase": "Finished"}, None),
    ],
    ids=[
        "no status",
        "planned",
        "waits yet",
        "told when to begin",
        "in force",
        "put right",
        "not put right",
        "not listed",
        "not listed, over",
    ],
)
def test_the_rollback_pod_reads_off_the_status_when_it_is_due(status: Json, ends: float | str | None) -> None:
    listed = [{**planned().to_json(), **each} for each in status.get("injections", ())]
    its = Guarded(planned().name, planned().start_at, planned().not_after)
    due = to_be_undone({"phase": str(Phase.ACTIVE), **status, "injections": listed}, its, 10.0, at(0).utc)
    assert due == (planned().not_after if ends == "notAfter" else ends and at(float(ends)).utc)


def verdict(healing: str, over: InjectionStatus) -> tuple[Verdict | None, list[str]]:
    judged = judge(spec(healing=healing), finished(), [over], health())
    return judged.verdict, [finding.reason for finding in judged.findings]


def over(by: str, milliseconds: int) -> InjectionStatus:
    healed = {"by": by, "milliseconds": milliseconds}
    cleared = Moment.of(at(1 + milliseconds / 1000))
    return injection(
        pod="", pod_uid="", object=TARGET, rung=Rung.API, hits=1, healed=healed, cleared_at=cleared, reason=""
    )


@pytest.mark.parametrize(
    ("healing", "by", "milliseconds", "reasons"),
    [
        ("Required", "System", 800, []),
        ("Required", "Undo", 10_000, ["NotHealed"]),
        ("Allowed", "System", 800, []),
        ("Allowed", "Undo", 10_000, []),
        ("Forbidden", "System", 800, ["HealedThoughForbidden"]),
        ("Forbidden", "Undo", 10_000, []),
    ],
)
def test_who_healed_it_is_part_of_the_verdict(healing: str, by: str, milliseconds: int, reasons: list[str]) -> None:
    expected = Verdict.FAILED if reasons else Verdict.PASSED
    assert verdict(healing, over(by, milliseconds)) == (expected, reasons)


def test_an_undo_before_its_time_proves_nothing() -> None:
    assert verdict("Allowed", over("Undo", 2_000)) == (Verdict.INCONCLUSIVE, ["FaultTooShort"])


def test_what_is_kept_is_hit_when_it_is_set_back() -> None:
    active = changing.changed(planned(), at(2), 0)
    assert (active.hits, active.first_hit_at) == (0, None)
    once = changing.set_back(active, at(4))
    assert (once.hits, once.first_hit_at) == (1, Moment.of(at(4)))
    twice = changing.set_back(once, at(5))
    assert (twice.hits, twice.first_hit_at) == (2, Moment.of(at(4)))
