"""The journal's record of a run: what was planned, so that anyone can undo or resume it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from bounceback.api.status import InjectionStatus
from bounceback.engine.model import AgentRef
from bounceback.engine.originals import Originals
from bounceback.engine.planning import Carried
from bounceback.kube.client import Json
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Plan


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned, beside the injections."""

    carried: tuple[Carried, ...] = ()
    originals: Originals | None = None  # what objects were like before the run changed them; None: it changes none
    bystanders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by target: UIDs of pods not chosen


def journal_record(injections: Sequence[InjectionStatus], planned: Planned) -> Json:
    record: Json = {
        "injections": [injection.to_json() for injection in injections],
        "agents": [{"ref": asdict(c.ref), "plan": json.loads(c.plan.to_json())} for c in planned.carried],
        "bystanders": {target: list(uids) for target, uids in planned.bystanders.items()},
    }
    return record if planned.originals is None else {**record, "objects": planned.originals.to_json()}


def restored(record: Json | None, listed: Sequence[InjectionStatus]) -> tuple[tuple[InjectionStatus, ...], Planned]:
    """All injections, as far as the status knows them better, and what else was planned."""
    if record is None:
        return tuple(listed), Planned()
    known = {injection.name: injection for injection in listed}
    planned = [InjectionStatus.model_validate(entry) for entry in record["injections"]]
    names = {injection.name for injection in planned}
    later = [injection for injection in listed if injection.name not in names]
    agents = tuple(Carried(agent_ref(a["ref"]), Plan.from_json(json.dumps(a["plan"]))) for a in record["agents"])
    originals = Originals.from_json(record["objects"]) if "objects" in record else None
    bystanders = {target: tuple(uids) for target, uids in record.get("bystanders", {}).items()}
    all_of_them = (*(known.get(injection.name, injection) for injection in planned), *later)
    return all_of_them, Planned(agents, originals, bystanders)


def agent_ref(data: Json) -> AgentRef:
    return AgentRef(**{**data, "vehicle": VehicleKind(data["vehicle"])})
