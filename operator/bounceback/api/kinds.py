"""The kinds of objects that are ours: their names, models, columns, and rules over whole objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.check_status import RecoveryCheckStatus
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.policy import FaultPolicySpec
from bounceback.api.rules import once_started
from bounceback.api.status import FaultExperimentStatus
from bounceback.types.rules import Rule

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; `wide` ones show with -o wide only."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def to_json(self) -> Json:
        column: Json = {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.path,
            "description": self.description,
        }
        return column | ({"priority": 1} if self.wide else {})


AGE: Final = Column("Age", ".metadata.creationTimestamp", "Time since it was made.", type="date")


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of ours. Without a status it is only read."""

    kind: str
    plural: str
    short: str
    description: str
    spec: type[BaseModel]
    status: type[BaseModel] | None
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    namespaced: bool = True


FAULT_EXPERIMENT: Final = Kind(
    "FaultExperiment",
    "faultexperiments",
    "fe",
    "A FaultExperiment breaks something on purpose and proves that it comes back: it waits until the system is "
    "steady, injects the faults, proves that they bit, clears them, times the recovery and judges it. It runs once, "
    "like a Job, or as often as spec.runs asks.",
    FaultExperimentSpec,
    FaultExperimentStatus,
    (
        Column("Verdict", ".status.verdict", "Passed, Failed, Inconclusive, Aborted or Error."),
        Column("Phase", ".status.phase", "Where the run is."),
        Column("Detected", ".status.detected", "Time from active to detected."),
        Column("Recovered", ".status.recovered", "Time from cleared to recovered."),
        Column("Injection", ".status.axes.injection", "Proven, Unproven or Failed."),
        AGE,
        Column("Runs", ".status.runs.told", "Of repeated runs: which one, of how many.", wide=True),
        Column("Reason", ".status.reason", "Why it is in that phase.", wide=True),
    ),
    tuple(once_started()),
)
RECOVERY_CHECK: Final = Kind(
    "RecoveryCheck",
    "recoverychecks",
    "rck",
    "A RecoveryCheck says what healthy, recovered and consistent mean for a system: probes, budgets and invariants. "
    "FaultExperiments name the checks that judge them; with mode: Continuous it watches by itself and records outages.",
    RecoveryCheckSpec,
    RecoveryCheckStatus,
    (
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "True where experiments can use it."),
        Column("State", ".status.continuous.state", "mode: Continuous: Up, Down or Unknown."),
        Column("Availability", ".status.continuous.availability", "Over the window, of the time that is known."),
        Column("Outages", ".status.continuous.totals.outages", "All that were ever seen.", type="integer"),
        Column("Longest", ".status.continuous.longest", "The longest of them."),
        Column("Last", ".status.lastVerdict", "The verdict of the newest experiment that used it."),
        Column("Recovered", ".status.lastRecovered", "The recovery time of that experiment."),
        AGE,
    ),
)
FAULT_POLICY: Final = Kind(
    "FaultPolicy",
    "faultpolicies",
    "fp",
    "A FaultPolicy allows experiments of some namespaces what goes beyond their own namespace: faults on nodes, and "
    "on objects without one. Policies add up; without one that allows it, such an experiment is refused before "
    "anything is touched.",
    FaultPolicySpec,
    None,
    (
        Column("Faults", ".spec.allow.nodes.faults", "What may be done to nodes."),
        AGE,
    ),
    namespaced=False,
)
KINDS: Final = (FAULT_EXPERIMENT, RECOVERY_CHECK, FAULT_POLICY)
