"""The journal's record of a run: what was planned, so that anyone can undo or resume it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from bounceback.api.status import InjectionStatus
from bounceback.engine.changing import Originals
from bounceback.engine.model import AgentRef
from bounceback.engine.planning import Carried
from bounceback.kube.client import Json
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Plan


def journal_record(
    injections: Sequence[InjectionStatus], carried: Sequence[Carried], originals: Originals | None = None
) -> Json:
    record: Json = {
        "injections": [injection.to_json() for injection in injections],
        "agents": [{"ref": asdict(c.ref), "plan": json.loads(c.plan.to_json())} for c in carried],
    }
    return record if originals is None else {**record, "objects": originals.to_json()}


def originals_in(record: Json | None) -> Originals | None:
    """What objects were like before the run changed them; None where it changes none."""
    return Originals.from_json(record["objects"]) if record and "objects" in record else None


def restored(
    record: Json | None, listed: Sequence[InjectionStatus]
) -> tuple[tuple[InjectionStatus, ...], tuple[Carried, ...]]:
    """All injections, as far as the status knows them better, and their agents."""
    if record is None:
        return tuple(listed), ()
    known = {injection.name: injection for injection in listed}
    planned = [InjectionStatus.model_validate(entry) for entry in record["injections"]]
    names = {injection.name for injection in planned}
    later = [injection for injection in listed if injection.name not in names]
    agents = tuple(Carried(agent_ref(a["ref"]), Plan.from_json(json.dumps(a["plan"]))) for a in record["agents"])
    return (*(known.get(injection.name, injection) for injection in planned), *later), agents


def agent_ref(data: Json) -> AgentRef:
    return AgentRef(**{**data, "vehicle": VehicleKind(data["vehicle"])})
