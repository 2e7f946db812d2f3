"""What a vehicle answers when it cannot do as asked."""

from __future__ import annotations

from collections.abc import Sequence

from bounceback.engine.model import PodInfo
from bounceback.kube import KubeError
from bounceback.types.instants import Instant


class Refused(Exception):  # noqa: N818 - a word of the design
    """It cannot be done, and nothing was touched.

    `field` is the part of the spec that is to be changed ("" where the caller knows better), `reason` one CamelCase
    word, `message` says what is wrong and the way out.
    """

    def __init__(self, field: str, reason: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.reason = reason
        self.message = message

    def at(self, field: str) -> Refused:
        """The same, said of another field."""
        return Refused(field, self.reason, self.message)


class DeletionRefused(Refused):
    """Some pods could not be deleted; `deleted` are those that were."""

    def __init__(self, reason: str, message: str, deleted: Sequence[tuple[PodInfo, Instant]]) -> None:
        super().__init__("", reason, message)
        self.deleted = list(deleted)


class Overtaken(Exception):  # noqa: N818 - a state, not a defect
    """Somebody wrote the record after we last saw it: another operator is in charge now."""


POD_SECURITY = "PodSecurity"
FORBIDDEN = "Forbidden"
ADMISSION_DENIED = "AdmissionDenied"
UNSUPPORTED = "Unsupported"
BUDGET = "BudgetForbids"
TARGET_GONE = "TargetGone"


def refusal(error: KubeError, account: str, what: str) -> Refused | None:
    """What the API server's answer means for the user, or None where asking again may help.

    `account` is who asked, `what` is what for: "an agent in pod web-0".
    """
    message = error.message
    if "violates PodSecurity" in message or "security context constraint" in message:
        return Refused("", POD_SECURITY, f"Pod Security does not allow {what}: {message}")
    if error.status == 403 and "cannot impersonate" in message:
        return Refused("spec.serviceAccountName", FORBIDDEN, f"the operator may not act as {account}: {message}")
    if "admission webhook" in message or "ValidatingAdmissionPolicy" in message:
        return Refused("", ADMISSION_DENIED, f"an admission policy does not allow {what}: {message}")
    if error.status in (401, 403):
        return Refused("spec.serviceAccountName", FORBIDDEN, f"{account} may not make {what}: {message}")
    if error.gone:
        return Refused("", TARGET_GONE, f"{what} has nowhere to go: {message}")
    if error.status == 422:
        return Refused("", UNSUPPORTED, f"the API server does not take {what}: {message}")
    return None
