"""Object fault: a Kubernetes object is changed, removed, or kept as it is, and restored at the end."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.base import Fault
from bounceback.faults.object_kinds.base import ByWhom, ObjectKind, named, said, speaks_for
from bounceback.faults.object_kinds.data import DataDrift
from bounceback.faults.object_kinds.fields import FieldChanged, FieldRemoved, Frozen
from bounceback.faults.object_kinds.leases import LeaseDeleted, LeaseTaken
from bounceback.faults.object_kinds.limits import BlockingBudget, QuotaExhausted
from bounceback.faults.object_kinds.metadata import LabelsChanged, OwnerReferencesRemoved, StuckFinalizer
from bounceback.faults.object_kinds.removal import Deleted
from bounceback.faults.object_kinds.rights import SubjectsCleared, WebhookFailurePolicyChanged
from bounceback.faults.object_kinds.traffic import DenyAllTraffic, ServiceDown
from bounceback.faults.object_kinds.workloads import BadImage, CrashLoop, ScaledToZero
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.objects import OF_CLUSTER, Change, Json
from bounceback.types.outcome import Healing
from bounceback.types.plan import Rung
from bounceback.types.rules import Rule, exactly_one, one_of, refuse

FIELDS: Final = (
    "scaledToZero",
    "crashLoop",
    "badImage",
    "deleted",
    "fieldChanged",
    "fieldRemoved",
    "dataDrift",
    "labelsChanged",
    "ownerReferencesRemoved",
    "stuckFinalizer",
    "blockingBudget",
    "quotaExhausted",
    "subjectsCleared",
    "denyAllTraffic",
    "serviceDown",
    "leaseTaken",
    "leaseDeleted",
    "frozen",
    "webhookFailurePolicyChanged",
)
KEEPING: Final = ("leaseTaken", "frozen")
NO_HEALING: Final = f"healing must not be Required with {' and '.join(KEEPING)}: what others change is set back"
NOT_OURS: Final = "it belongs to Bounceback, whose way back may depend on it"


class ObjectFault(Fault):
    """An object of the target is changed through the API, in the account's name, for as long as the fault lasts.

    At the end what was changed is as it was before, and what others changed meanwhile stays theirs. Where the system
    puts it right before that, the fault is over: that is timed, and `healing` says whether it must. Proof is the
    number of objects that were changed.
    """

    kind: ClassVar[str] = "objectFault"
    hit_words: ClassVar[str] = "objects changed"
    rules: ClassVar[tuple[Rule, ...]] = (
        one_of(FIELDS),
        Rule(
            f"self.healing != 'Required' || !({' || '.join(f'has(self.{field})' for field in KEEPING)})",
            NO_HEALING,
            ".healing",
        ),
    )

    scaled_to_zero: ScaledToZero | None = Field(None, description=said(ScaledToZero))
    crash_loop: CrashLoop | None = Field(None, description=said(CrashLoop))
    bad_image: BadImage | None = Field(None, description=said(BadImage))
    deleted: Deleted | None = Field(None, description=said(Deleted))
    field_changed: FieldChanged | None = Field(None, description=said(FieldChanged))
    field_removed: FieldRemoved | None = Field(None, description=said(FieldRemoved))
    data_drift: DataDrift | None = Field(None, description=said(DataDrift))
    labels_changed: LabelsChanged | None = Field(None, description=said(LabelsChanged))
    owner_references_removed: OwnerReferencesRemoved | None = Field(None, description=said(OwnerReferencesRemoved))
    stuck_finalizer: StuckFinalizer | None = Field(None, description=said(StuckFinalizer))
    blocking_budget: BlockingBudget | None = Field(None, description=said(BlockingBudget))
    quota_exhausted: QuotaExhausted | None = Field(None, description=said(QuotaExhausted))
    subjects_cleared: SubjectsCleared | None = Field(None, description=said(SubjectsCleared))
    deny_all_traffic: DenyAllTraffic | None = Field(None, description=said(DenyAllTraffic))
    service_down: ServiceDown | None = Field(None, description=said(ServiceDown))
    lease_taken: LeaseTaken | None = Field(None, description=said(LeaseTaken))
    lease_deleted: LeaseDeleted | None = Field(None, description=said(LeaseDeleted))
    frozen: Frozen | None = Field(None, description=said(Frozen))
    webhook_failure_policy_changed: WebhookFailurePolicyChanged | None = Field(
        None, description=said(WebhookFailurePolicyChanged)
    )
    healing: Healing = Field(
        Healing.ALLOWED,
        description="Whether the system puts it right by itself while the fault lasts. Required: it must, or the "
        "recovery has failed. Allowed: it may. Forbidden: it must not.",
    )

    @property
    def field(self) -> str:
        """The field that says what is done to the object."""
        return next(field for field, value in self._given().items() if value is not None)

    @property
    def done(self) -> ObjectKind:
        """What is done to the object."""
        return next(kind for kind in self._given().values() if kind is not None)

    def _given(self) -> dict[str, ObjectKind | None]:
        names = {str(field.alias): name for name, field in type(self).model_fields.items()}
        return {field: getattr(self, names[field]) for field in FIELDS}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = [field for field, value in self._given().items() if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(FIELDS, given))
        if self.healing is Healing.REQUIRED and self.done.keeps:
            raise refuse(NO_HEALING, "healing")
        return self

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.API,)

    def unfit(self, api_version: str, kind: str) -> str:
        """Why nothing of that kind can be its target, whatever it looks like; "" where it can."""
        if api_version.startswith("bounceback.dev/"):
            return f"a {kind} must not be a target: {NOT_OURS}"
        if (targets := self.done.targets) and kind not in targets:
            return f"{self.field} is for {' and '.join(targets)}, not for a {kind}"
        if (only := OF_CLUSTER.get((api_version, kind))) is not None and self.field != only:
            return f"a {kind} has no namespace: of the objectFaults it can be hit by {only} only"
        return ""

    def changes(self, target: Json, run: str, account: str = "") -> list[Change]:
        """What it takes to do it to that object, which is as the API server has it, with its apiVersion and kind.

        Raises ValueError, with words for the user, where the object does not fit.
        """
        if words := self.unfit(target["apiVersion"], target["kind"]) or _untouchable(target, account):
            raise ValueError(words)
        return self.done.changes(target, ByWhom(run, account))

    def verbs(self, resource: str) -> frozenset[str]:
        """What the account must be allowed to, for a target of that resource, written as kubectl does."""
        return self.done.verbs(resource)


def _untouchable(target: Json, account: str) -> str:
    """Why the fault must leave this very object alone: the way back would be lost, or there is none."""
    metadata = target["metadata"]
    if metadata.get("deletionTimestamp"):
        return f"{named(target)} is being deleted"
    if (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by") == "bounceback":
        return f"{named(target)} must not be a target: {NOT_OURS}"
    if account and target["kind"] == "ServiceAccount" and metadata["name"] == account:
        return f"{named(target)} must not be a target: the experiment itself acts in its name"
    subjects = (target.get("subjects") or []) if target["kind"].endswith("RoleBinding") else []
    if account and any(speaks_for(subject, metadata.get("namespace", ""), account) for subject in subjects):
        return f"{named(target)} must not be a target: the experiment's own account {account} has rights by it"
    return ""
