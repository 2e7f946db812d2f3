"""Who takes the place of a target that is gone: values from values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.status import InjectionStatus
from bounceback.engine.evidence import on_our_clock
from bounceback.engine.model import PodInfo
from bounceback.faults import PodRemoval
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.inside import InsideFault
from bounceback.types.instants import Instant

MOST_FOLLOWED: Final = 100
"""Injections of one fault that take the place of others."""


def watched(entry: FaultTiming) -> bool:
    """Whether pods that come and go, and restarts, are looked at: this fault makes them happen, or has to follow."""
    return entry.follow_replacements or isinstance(entry.fault, InsideFault | PodRemoval | ClientFault)


def ends_at(spec: FaultExperimentSpec, entry: FaultTiming, planned: Iterable[InjectionStatus]) -> float:
    """UTC seconds: when the time of that fault is over, for whoever comes late, too."""
    first = min((i.start_at for i in planned if i.fault == entry.name), default=0.0)
    return first + entry.duration_seconds


def replacements(
    mine: Sequence[InjectionStatus], pods: Sequence[PodInfo], roots: Mapping[str, str], bystanders: Collection[str]
) -> list[tuple[InjectionStatus, PodInfo]]:
    """For each of one fault's targets that is gone, the pod that took its place: of the same owner, and new.

    `roots` are owners by the pods' UIDs. A pod of the same name goes before others (StatefulSets).
    """
    there = {pod.uid for pod in pods if pod.running}
    known = {i.pod_uid for i in mine} | set(bystanders)
    free = [pod for pod in pods if pod.running and pod.uid not in known]
    taken_before = {i.replaced_by for i in mine}
    found = []
    for gone in mine:
        if gone.pod_uid in there or gone.replaced_by or not gone.owner:
            continue
        fits = [
            p for p in free if roots.get(p.uid) == gone.owner and (p.name == gone.pod or p.name not in taken_before)
        ]
        if fits:
            taken = next((pod for pod in fits if pod.name == gone.pod), fits[0])
            free.remove(taken)
            found.append((gone, taken))
    return found


def gap(injection: InjectionStatus, before: InjectionStatus, now: Instant) -> int | None:
    """Milliseconds from the end of what was in force on the pod that is gone until this was; None: not known yet."""
    began = on_our_clock(injection, injection.in_force_at, now)
    ended = on_our_clock(before, before.cleared_at, now)
    if began is None or ended is None:
        return None
    return max(0, round(began.latest.since(ended.earliest) * 1000))
