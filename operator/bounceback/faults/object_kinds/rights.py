"""What becomes of rights: a binding without subjects, a webhook that fails the other way."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from bounceback.faults.object_kinds.base import ByWhom, ObjectKind, changed, named
from bounceback.types.objects import Change, Json
from bounceback.types.pointers import Parts

SubjectName = Annotated[str, Field(min_length=1, max_length=253)]


class SubjectsCleared(ObjectKind):
    """A RoleBinding binds nobody: who had rights by it gets the API server's own 403."""

    targets: ClassVar[tuple[str, ...]] = ("RoleBinding", "ClusterRoleBinding")

    names: list[SubjectName] = Field(
        default_factory=list, max_length=50, description="Only subjects of these names; empty: all of them."
    )

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        subjects = target.get("subjects") or []
        cleared = [subject for subject in subjects if not self.names or subject["name"] in self.names]
        if not cleared:
            known = ", ".join(subject["name"] for subject in subjects) or "none"
            raise ValueError(f"{named(target)} has no subject {', '.join(self.names) or 'at all'}; it has {known}")
        return [changed(target, {("subjects",): [subject for subject in subjects if subject not in cleared]})]


class FailurePolicy(StrEnum):
    """What becomes of requests while an admission webhook cannot be asked."""

    FAIL = "Fail"
    IGNORE = "Ignore"


class WebhookFailurePolicyChanged(ObjectKind):
    """What the API server does while an admission webhook does not answer: refuse the request, or let it pass."""

    targets: ClassVar[tuple[str, ...]] = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")

    failure_policy: FailurePolicy = Field(description="Fail: requests are refused. Ignore: they pass unseen.")
    names: list[SubjectName] = Field(
        default_factory=list, max_length=50, description="Only webhooks of these names; empty: all of them."
    )

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        values: dict[Parts, str] = {
            ("webhooks", str(index), "failurePolicy"): str(self.failure_policy)
            for index, webhook in enumerate(target.get("webhooks") or [])
            if (not self.names or webhook["name"] in self.names) and webhook["failurePolicy"] != self.failure_policy
        }
        if not values:
            which = ", ".join(self.names) or "at all"
            raise ValueError(f"{named(target)} has no webhook {which} whose failurePolicy is not {self.failure_policy}")
        return [changed(target, values)]
