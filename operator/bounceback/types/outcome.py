"""The words of a verdict. Standard library only."""

from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ABORTED = "Aborted"
    ERROR = "Error"


class InjectionAxis(StrEnum):
    PROVEN = "Proven"
    UNPROVEN = "Unproven"
    FAILED = "Failed"


class Judgement(StrEnum):
    """The recovery and the consistency axis."""

    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


class Cleanup(StrEnum):
    CLEAN = "Clean"
    LEFTOVER = "Leftover"
    UNVERIFIED = "Unverified"


class Aspect(StrEnum):
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    NOT_CHECKED = "NotChecked"


class Phase(StrEnum):
    """Where a run is; the order is that of the run."""

    PENDING = "Pending"
    STEADY = "Steady"
    INJECTING = "Injecting"
    ACTIVE = "Active"
    CLEARING = "Clearing"
    REPAIRING = "Repairing"  # only with expect: Manual
    RECOVERING = "Recovering"
    VERIFYING = "Verifying"
    REPEATING = "Repeating"  # one of several runs is over; what is left of it is taken away, and the next one follows
    FINISHED = "Finished"


class InjectionState(StrEnum):
    PLANNED = "Planned"
    ACTIVE = "Active"
    CLEARED = "Cleared"
    FAILED = "Failed"


class StartState(StrEnum):
    """Where a fault with startWhen is before it begins."""

    WAITING = "Waiting"
    REACHED = "Reached"
    NOT_STARTED = "NotStarted"  # what it waited for did not come: it never begins


NOT_STARTED: Final = str(StartState.NOT_STARTED)
"""Why an injection is over that never began, and by its experiment's own rule was not to."""


class CollapseState(StrEnum):
    """What is known of a system under a fault that grows."""

    COLLAPSED = "Collapsed"
    HELD = "Held"  # at the last level that was seen, and at all before
    UNDECIDED = "Undecided"


class Mark(StrEnum):
    """A moment of the timeline."""

    PLANNED = "Planned"
    ACTIVE = "Active"
    FIRST_SYMPTOM = "FirstSymptom"
    DETECTED = "Detected"
    CLEARED = "Cleared"
    REPAIR_BEGAN = "RepairBegan"  # the declared task was let go, or a person asked
    REPAIRED = "Repaired"  # it was over, as far as it told
    RECOVERED = "Recovered"
    STABLE = "Stable"
    CONSISTENT = "Consistent"


class Expect(StrEnum):
    RECOVER = "Recover"
    FAIL_SAFE = "FailSafe"
    MANUAL = "Manual"


class RepairState(StrEnum):
    """Where the declared repair of expect: Manual is; the last four are its ends."""

    PLANNED = "Planned"  # not begun: is the system still in trouble when its time has come?
    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"  # it ran, and failed or was not over in time
    NOT_RUN = "NotRun"
    UNKNOWN = "Unknown"  # it began, and nobody knows how it ended


class Impact(StrEnum):
    REQUIRED = "Required"
    ALLOWED = "Allowed"
    FORBIDDEN = "Forbidden"


class VehicleKind(StrEnum):
    AUTO = "Auto"
    SIDECAR = "Sidecar"
    NODE_POD = "NodePod"
    POD_DELETE = "PodDelete"
    ADMISSION = "Admission"
    OBJECT_PATCH = "ObjectPatch"


class Healing(StrEnum):
    """What the hypothesis says of a changed object: does the system itself put it right while the fault lasts?"""

    REQUIRED = "Required"
    ALLOWED = "Allowed"
    FORBIDDEN = "Forbidden"


class HealedBy(StrEnum):
    """Who put a changed object right."""

    SYSTEM = "System"
    UNDO = "Undo"


class EvidenceKind(StrEnum):
    """What a run's evidence is made of."""

    INJECTION = "injection"
    SYSTEM_RESPONSE = "systemResponse"
    RECOVERY_PROCESS = "recoveryProcess"
    FINAL_STATE = "finalState"
    CONSISTENCY = "consistency"


class EvidenceState(StrEnum):
    """What became of a run's evidence."""

    DOUBTFUL = "Doubtful"
    WRITING = "Writing"
    KEPT = "Kept"
    PARTIAL = "Partial"
    NOT_KEPT = "NotKept"
