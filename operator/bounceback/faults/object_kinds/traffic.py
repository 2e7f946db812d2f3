"""What becomes of the traffic with a target: refused by policy, or nobody is behind a Service."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from bounceback.faults.object_kinds.base import MAKING, ByWhom, ObjectKind, changed, created, named, needs, pod_selector
from bounceback.types.objects import Change, Json
from bounceback.types.plan import Direction
from bounceback.types.pointers import value_at

POLICIES: Final = "networkpolicies.networking.k8s.io"
NOBODY: Final = "bounceback.dev/nobody"
TYPES: Final = {
    Direction.BOTH: ["Ingress", "Egress"],
    Direction.INGRESS: ["Ingress"],
    Direction.EGRESS: ["Egress"],
}


class DenyAllTraffic(ObjectKind):
    """A NetworkPolicy of ours allows the target's pods nothing.

    Policies add up: what another one allows these pods stays allowed. Where the cluster's network ignores policies
    nothing happens, so let a probe feel it (`impact: Required`); networkPartition needs neither.
    """

    direction: Direction = Field(Direction.BOTH, description="Egress, Ingress or Both, as seen from the pods.")

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        spec = {"podSelector": pod_selector(target), "policyTypes": TYPES[self.direction]}
        return [created(target, by, "networking.k8s.io/v1", "NetworkPolicy", spec)]

    def verbs(self, resource: str) -> frozenset[str]:
        return needs(resource, "get", "list", "watch") | needs(POLICIES, *MAKING)


class ServiceDown(ObjectKind):
    """Nobody is behind the Service: its selector is replaced by one that matches no pod, and its endpoints go."""

    targets: ClassVar[tuple[str, ...]] = ("Service",)

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        way = ("spec", "selector")
        if value_at(target, ("spec", "type")) == "ExternalName" or not value_at(target, way):
            raise ValueError(f"{named(target)} has no spec.selector: its endpoints are not Kubernetes' own")
        return [changed(target, {way: {NOBODY: by.run}}, whole=[way])]
