"""What of a status is news."""

from __future__ import annotations

from bounceback.api.status import FaultExperimentStatus


def loud(status: FaultExperimentStatus) -> tuple[object, ...]:
    """What must be written at once when it changes; all else may wait for the next write."""
    states = tuple((i.name, i.state, i.cleanup) for i in status.injections)
    return (
        status.phase,
        status.reason,
        status.ending,
        status.marks and len(status.marks),
        status.repair and (status.repair.state, status.repair.uid),
        states,
        tuple((start.fault, start.state) for start in status.starts),
        tuple((each.fault, each.counting, each.state) for each in status.collapses),
        len(status.timeline),
        status.evidence,
    )
