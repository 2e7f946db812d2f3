"""What becomes of workloads: none of it runs, or what runs cannot start."""

from __future__ import annotations

from bounceback.faults.object_kinds.base import ByWhom, ObjectKind, changed, named
from bounceback.types.objects import Change, Json


class ScaledToZero(ObjectKind):
    """`spec.replicas` is 0: of a Deployment, StatefulSet, ReplicaSet, or any other object that has the field."""

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        replicas = (target.get("spec") or {}).get("replicas")
        if not isinstance(replicas, int):
            raise ValueError(f"{named(target)} has no spec.replicas; scaledToZero is for what has replicas")
        if not replicas:
            raise ValueError(f"{named(target)} has no replicas already: spec.replicas is 0")
        return [changed(target, spec={**target["spec"], "replicas": 0})]
