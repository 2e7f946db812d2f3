"""What becomes of a namespace's limits: nothing may be evicted any more, or nothing more may be made."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from bounceback.faults.object_kinds.base import (
    MAKING,
    ByWhom,
    ObjectKind,
    changed,
    created,
    named,
    needs,
    pod_selector,
)
from bounceback.types.objects import Change, Json
from bounceback.types.pointers import MISSING, value_at

BUDGETS: Final = "poddisruptionbudgets.policy"
QUOTAS: Final = "resourcequotas"
CountedResource = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9./]*[a-z0-9])?$")]


class BlockingBudget(ObjectKind):
    """No pod of the target can be evicted: drains wait, and so does whoever evicts.

    Of a PodDisruptionBudget `maxUnavailable` is 0; for a target that selects pods a budget of ours is made. The API
    server refuses evictions of pods with two budgets with an error of its own: where there is one, name it.
    """

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        if target["kind"] != "PodDisruptionBudget":
            spec = {"maxUnavailable": 0, "selector": pod_selector(target)}
            return [created(target, by, "policy/v1", "PodDisruptionBudget", spec)]
        if value_at(target, ("spec", "maxUnavailable")) in (0, "0%"):
            raise ValueError(f"{named(target)} allows no eviction already: spec.maxUnavailable is 0")
        return [changed(target, {("spec", "minAvailable"): MISSING, ("spec", "maxUnavailable"): 0})]

    def verbs(self, resource: str) -> frozenset[str]:
        return super().verbs(resource) if resource == BUDGETS else _beside(resource, BUDGETS)


class QuotaExhausted(ObjectKind):
    """The namespace's quota is used up: whoever makes one more object is refused (403, exceeded quota).

    Of a ResourceQuota the limits become what is used now, so that what goes can be replaced. For a target of another
    kind a ResourceQuota of ours is made, which allows none at all: what there is stays, nothing is replaced.
    """

    resources: list[CountedResource] = Field(
        default_factory=list,
        max_length=20,
        description="What is used up: pods, requests.cpu, count/jobs.batch. Empty: all that the target limits; pods, "
        "where it is of another kind.",
    )

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        if target["kind"] != "ResourceQuota":
            hard = dict.fromkeys(self.resources or ("pods",), "0")
            return [created(target, by, "v1", "ResourceQuota", {"hard": hard})]
        limits, used = (target["spec"].get("hard") or {}), ((target.get("status") or {}).get("used") or {})
        wanted = self.resources or list(limits)
        if unknown := [each for each in wanted if each not in used]:
            raise ValueError(f"status.used of {named(target)} does not say how much of {', '.join(unknown)} is used")
        if all(limits.get(each) == used[each] for each in wanted):
            raise ValueError(f"{named(target)} is used up already")
        return [changed(target, {("spec", "hard"): limits | {each: used[each] for each in wanted}})]

    def verbs(self, resource: str) -> frozenset[str]:
        return super().verbs(resource) if resource == QUOTAS else _beside(resource, QUOTAS)


def _beside(resource: str, made: str) -> frozenset[str]:
    """What it takes to make something of ours for a target."""
    return needs(resource, "get", "list", "watch") | needs(made, *MAKING)
