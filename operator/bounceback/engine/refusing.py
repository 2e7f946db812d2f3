"""What an agent refuses: what is wrong with the input, and could be seen only where it was to be carried out."""

from __future__ import annotations

from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import Finding, InjectionStatus
from bounceback.faults.inside import InsideFault
from bounceback.types.outcome import InjectionState, VehicleKind, Verdict

BY_AGENTS: Final = (VehicleKind.SIDECAR, VehicleKind.NODE_POD)
REFUSALS: Final = frozenset(
    {"AlreadySkewed", "AlreadyStopped", "Ambiguous", "CannotRelay", "Conflict", "HostNetwork", "MissingFeature"}
    | {"NoController", "NoDescriptors", "NoExchange", "NoKubelet", "NoLimit", "NoListener", "NoPath", "NoProcess"}
    | {"NoRoom", "NoService", "NoSpace", "NoSystemd", "NodeAtRisk", "NodeFileSystem", "NodeMemory", "NotAFile"}
    | {"NotAVolume", "NotArmed", "NotPermitted", "NotStartable", "NothingToFill", "NothingToHit", "NothingToLower"}
    | {"NothingToTake", "OthersDepend", "ReadOnly", "TargetUnsupported", "TooFewProcessors", "TooLarge", "TooMany"}
)
"""What drivers say before they touch anything; any other reason of a failure is trouble, and an error of ours."""
OF_PATHS: Final = frozenset({"NoPath", "NotAVolume", "NotAFile", "ReadOnly", "Ambiguous", "NodeFileSystem"})


def is_refused(injection: InjectionStatus) -> bool:
    """Its agent touched nothing, because it saw that it must not or cannot."""
    failed = injection.state is InjectionState.FAILED and injection.vehicle in BY_AGENTS
    return failed and injection.in_force_at is None and injection.reason in REFUSALS


def refused_by_agent(spec: FaultExperimentSpec, injection: InjectionStatus) -> Finding:
    """With the field, as what is refused before any agent begins."""
    index, entry = next((n, each) for n, each in enumerate(spec.faults) if each.name == injection.fault)
    path = ".path" if injection.reason in OF_PATHS and isinstance(entry.fault, InsideFault) else ""
    field = f"spec.faults[{index}].{entry.fault.kind}{path}"
    told = f"{field}: {injection.on}: {injection.message or injection.reason}"
    return Finding(verdict=Verdict.ABORTED, reason=injection.reason[:64], message=told[:1024])
