"""What a step of the run is a function of, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bounceback.accounting.seconds import Second
from bounceback.api.evidence_status import EvidenceStatus
from bounceback.api.status import FaultExperimentStatus, InjectionStatus, InvariantResult
from bounceback.engine.health import NOTHING_SEEN, Health
from bounceback.engine.planning import NOTHING_FOUND, Preparation
from bounceback.types.instants import Instant, Interval, Span
from bounceback.types.outcome import RepairState, Verdict
from bounceback.types.prober import LoadEnd


class Duty(StrEnum):
    """Something that the operator is to see to, in this state, until its result is seen."""

    PREPARE = "prepare"  # find targets, rights, vehicles, rungs, peers; touches nothing
    CLAIM = "claim"  # mark the experiment as started, hold its deletion
    LOOK = "look"  # sample the probes
    OBSERVE_BEFORE = "observe before"
    CARRY = "carry"  # start agents or make requests, follow the evidence
    STOP = "stop"  # end what is in force
    MAKE_REPAIR = "make repair"  # the Job that repairs, suspended
    REPAIR = "repair"  # let it go, and see it through
    WORK = "work"  # the probers that carry workloads out, and what they tell
    END_WORK = "end work"  # no more operations: what was written is read back, and accounted for
    FOLLOW = "follow"  # what comes and goes among the objects that a reference run compares
    READ_END = "read end"  # of these objects; it is written down, or compared with what is
    VERIFY = "verify"  # look for what was left where the agent could not
    OBSERVE_CLEAR = "observe at clear"  # once all is cleared, beside whatever else is done
    OBSERVE_AFTER = "observe after"
    PACK = "pack"  # the evidence, whose digest is written down before it is kept
    KEEP = "keep"  # the evidence, in its store
    RELEASE = "release"  # remove what is ours, let the experiment go


@dataclass(frozen=True)
class Refusal:
    """Why a run cannot begin: which field, and the way out."""

    field: str
    reason: str
    message: str
    verdict: Verdict = Verdict.ABORTED
    final: bool = False  # trying again cannot help


@dataclass(frozen=True)
class State:
    """The status, and all injections (the status lists the first hundred)."""

    status: FaultExperimentStatus
    injections: tuple[InjectionStatus, ...] = ()


@dataclass(frozen=True)
class Task:
    """What is seen of the Job that repairs."""

    uid: str = ""  # once it is there
    refused: str = ""  # why it cannot be made
    begun: Interval | None = None  # when it was let go
    ended: RepairState | None = None  # Done, Failed, NotRun or Unknown
    ended_at: Interval | None = None  # when its end stood in the API
    reason: str = ""
    message: str = ""
    log: str = ""  # the end of what it wrote


NO_TASK: Final = Task()


@dataclass(frozen=True)
class Work:
    """What is seen of the prober that carries out a check's workload."""

    check: str
    waits: str = ""  # why operations have not begun
    began: Instant | None = None  # when they did, on its own clock
    offset: Span | None = None  # seconds that its clock is ahead of ours; None: not measured
    seconds: tuple[Second, ...] = ()  # of the load, as they passed
    load_end: LoadEnd | None = None
    account: Mapping[str, Any] | None = None
    refused: str = ""  # why it never began
    lost: str = ""  # why nobody will hear of it again

    @property
    def loading(self) -> bool:
        """Operations have begun."""
        return self.began is not None

    @property
    def over(self) -> bool:
        return self.account is not None or bool(self.refused or self.lost)


@dataclass(frozen=True)
class End:
    """What the objects that a reference run compares came to in a run, or why nobody knows."""

    objects: tuple[int, ...] = ()  # by entry, those that are there
    seen: tuple[bool, ...] = ()  # by entry, whether there ever was one
    changed: int = 0  # how many came or went
    digest: str = ""  # of the reference run: of what is written down
    results: tuple[InvariantResult, ...] = ()  # of a run with faults: compared with that
    unknown: tuple[str, ...] = ()  # why what came and went is not known


@dataclass(frozen=True)
class Snapshot:
    """What was observed at clear or after the recovery, by check and name; or why not."""

    read: Interval  # from when the first was asked until the last had answered
    values: Mapping[str, Mapping[str, Any]]
    problems: Mapping[str, Mapping[str, str]]
    gone: frozenset[tuple[str, str]] = frozenset()  # by check and name: objects that are not there


@dataclass(frozen=True)
class Seen:
    """What is known beside the state."""

    cancel: bool = False
    deleted: bool = False
    freeze: str | None = None
    withdrawn: str | None = None  # what policies no longer allow, in words
    preparation: Preparation | Refusal | None = None
    claimed: bool = False
    health: Health = NOTHING_SEEN
    before: dict[str, Any] | str | None = None  # observations, or why they could not be made
    clear: Snapshot | None = None
    after: Mapping[str, Any] | None = None
    after_problems: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unchanged: tuple[InvariantResult, ...] = ()  # what became of what must be the same before and after
    more: Preparation = NOTHING_FOUND  # for faults that repeat or follow: who is next
    missed: tuple[str, ...] = ()  # for faults that follow: who took a target's place and cannot be hit, and why
    task: Task = NO_TASK
    work: tuple[Work, ...] = ()  # one for each check with a workload, as far as they were looked at
    followed: bool | str = False  # what comes and goes is being watched, or why it cannot be
    end: End | None = None
    said_repaired: str = ""  # the name of the repair that a person said is done
    keeps: bool = False  # there is a store for evidence, and the run began
    evidence: EvidenceStatus | None = None  # what became of it
    released: bool = False


@dataclass(frozen=True)
class Decision:
    """The next state, and what is wanted there. `again` is in how many seconds to look again at the latest."""

    state: State
    duties: frozenset[Duty] = frozenset()
    again: float = 1.0
    plan: Preparation | None = None  # in a step that plans: to be journaled before the state is written
