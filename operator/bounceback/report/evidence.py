"""The evidence of a run as lines of JSON, in five kinds; docs/evidence.md says what each line holds.

Nothing is decided here, and nothing is shown that may be a secret: each line has gone through `redacted`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import FaultExperimentStatus, InjectionStatus
from bounceback.engine.recording import AgentLines, Recorded
from bounceback.engine.samples import MOST_RUNS
from bounceback.report.redact import redact, redacted
from bounceback.types.outcome import EvidenceKind

Json = dict[str, Any]
CHUNK: Final = 2_000
"""Samples of a line."""
NOT_REPEATED: Final = {"observed", "histories", "evidence", "injections"}
"""Parts of the status that stand in other kinds."""


@dataclass(frozen=True)
class Whole:
    """All that is known of a run that is over."""

    body: Json  # the experiment, for its metadata
    spec: FaultExperimentSpec
    status: FaultExperimentStatus
    injections: Sequence[InjectionStatus]
    told: AgentLines
    recorded: Sequence[Recorded]

    def about(self) -> Json:
        """Whose evidence it is."""
        metadata = self.body["metadata"]
        return {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "run": self.status.run,
            "verdict": str(self.status.verdict or ""),
            "finishedAt": self.status.finished_at or "",
            "samplesMissing": self.not_recorded,
        }

    @property
    def not_recorded(self) -> int:
        """Samples that were taken, and are known in short only."""
        here = {f"{each.check}/{each.section}/{each.name}" for each in self.recorded}
        others = (int(stored["samples"][0]) for key, stored in self.status.histories.items() if key not in here)
        return sum(others) + sum(each.history.samples - len(each.recording) for each in self.recorded)

    def lines(self, kind: EvidenceKind, brief: bool) -> Iterator[Json]:
        """`brief`: without single samples and agents' lines, by far the most of it."""
        match kind:
            case EvidenceKind.INJECTION:
                yield from map(redacted, _injection(self, brief))
            case EvidenceKind.SYSTEM_RESPONSE:
                yield from _system_response(self, brief)
            case EvidenceKind.RECOVERY_PROCESS:
                yield from map(redacted, _recovery_process(self.status))
            case EvidenceKind.FINAL_STATE:
                yield from map(redacted, _final_state(self))
            case EvidenceKind.CONSISTENCY:
                yield from map(redacted, _consistency(self.status))


def _injection(whole: Whole, brief: bool) -> Iterator[Json]:
    for entry in whole.spec.faults:
        yield {"type": "fault", "fault": entry.to_json()}
    for injection in whole.injections:
        yield {"type": "injection", "injection": injection.to_json()}
    left_out = whole.told.left_out
    for agent, guard, line in whole.told:
        if brief:
            left_out += 1
            continue
        yield {"type": "line", "agent": agent, "guard": guard, **json.loads(line)}
    if left_out:
        yield {"type": "leftOut", "what": "lines of agents", "count": left_out}


def _system_response(whole: Whole, brief: bool) -> Iterator[Json]:
    started = whole.status.started_at
    for view in whole.status.views:
        yield redacted({"type": "view", "view": view.to_json()})
    known = set()
    for each in whole.recorded:
        known.add(f"{each.check}/{each.section}/{each.name}")
        seen, recording = each.history, each.recording
        yield redacted(_probe(each.check, each.section, each.name, each.history.to_json(MOST_RUNS))) | {
            "kind": each.kind,
            "samples": seen.samples,
            "healthySamples": seen.healthy_samples,
            "recorded": 0 if brief else len(recording),
            "messages": [redact(message) for message in recording.messages],
        }
        since = started.instant() if started else None
        for columns in () if brief else recording.chunks(since, CHUNK):
            yield {"type": "samples", "check": each.check, "section": each.section, "probe": each.name, **columns}
    for key, stored in whole.status.histories.items():
        if key not in known:  # of an operator before this one, which took the samples along
            check, section, name = key.split("/", 2)
            yield redacted(_probe(check, section, name, stored)) | {"recorded": 0}


def _probe(check: str, section: str, name: str, history: Json) -> Json:
    return {"type": "probe", "check": check, "section": section, "probe": name, "history": history}


def _recovery_process(status: FaultExperimentStatus) -> Iterator[Json]:
    for mark in status.marks:
        yield {"type": "mark", "mark": mark.to_json()}
    yield {"type": "figures", "figures": status.figures.to_json()}
    for gap in status.gaps:
        yield {"type": "gap", "from": gap[0].to_json(), "to": gap[-1].to_json()}
    if status.repair is not None:
        yield {"type": "repair", "repair": status.repair.to_json()}
    for line in status.timeline:
        yield {"type": "happening", "happening": line.to_json()}
    if status.timeline_dropped:
        yield {"type": "leftOut", "what": "lines of the timeline", "count": status.timeline_dropped}


def _final_state(whole: Whole) -> Iterator[Json]:
    metadata, status = whole.body["metadata"], whole.status
    told = {key: value for key, value in status.to_json().items() if key not in NOT_REPEATED}
    yield {
        "type": "experiment",
        "experiment": {
            "apiVersion": whole.body.get("apiVersion", ""),
            "kind": whole.body.get("kind", ""),
            "metadata": {key: metadata[key] for key in ("namespace", "name", "uid", "generation") if key in metadata},
            "spec": whole.spec.to_json(),
            "status": told,
        },
    }
    for each in whole.recorded:
        if each.history.runs:
            last = each.history.runs[-1]
            state = {"healthy": last.healthy, "since": last.first.start.rfc3339(), "seen": last.last.start.rfc3339()}
            yield {"type": "probe", "check": each.check, "section": each.section, "probe": each.name, **state}
    for injection in whole.injections:
        found = {"cleanup": str(injection.cleanup), "leftovers": injection.leftovers, "restarts": injection.restarts}
        yield {"type": "target", "injection": injection.name, "on": injection.on, **found}


def _consistency(status: FaultExperimentStatus) -> Iterator[Json]:
    for check in status.checks:
        for invariant in check.spec.invariants:
            yield {"type": "invariant", "check": check.name, "invariant": invariant.to_json()}
    for each in status.workloads:
        yield {"type": "workload", "workload": each.to_json()}
    for when in ("before", "clear", "after"):
        for check_name, values in (status.observed.get(when) or {}).items():
            for name, value in values.items():
                yield {"type": "observed", "when": when, "check": check_name, "name": name, "value": value}
        for check_name, problems in (status.observed.get(f"{when}Problems") or {}).items():
            for name, message in problems.items():
                told = {"check": check_name, "name": name, "message": message}
                yield {"type": "notObserved", "when": when, **told}
    if seconds := status.observed.get("clearSeconds"):
        yield {"type": "observedAtClear", "leastSeconds": seconds[0], "mostSeconds": seconds[1]}
    for result in status.invariants:
        yield {"type": "result", "result": result.to_json()}
