"""Faults that want the same packets of a pod at the same time, by a mechanism that gives a packet to one only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from itertools import combinations

from bounceback.api.experiment import FaultTiming
from bounceback.engine.planning import Chosen, act_of
from bounceback.engine.starting import never_together
from bounceback.faults.base import NetworkFault
from bounceback.types.plan import Direction, Flow, Queued


def overlapping(chosen: Iterable[Chosen]) -> tuple[Chosen, Chosen] | None:
    """The first two whose packets a qdisc cannot share: each packet goes through one band. None: all can be together.

    Tables of nftables and relays do compose: a packet passes all of them.
    """
    by_pod: dict[str, list[Chosen]] = {}
    entries: dict[str, FaultTiming] = {}
    for choice in chosen:
        entries[choice.fault.name] = choice.fault
        if isinstance(choice.fault.fault, NetworkFault) and isinstance(act_of(choice.fault, choice.rung), Queued):
            by_pod.setdefault(choice.pod.uid, []).append(choice)
    pairs = (pair for listed in by_pod.values() for pair in combinations(listed, 2))
    return next(((one, other) for one, other in pairs if _meet(entries, one, other)), None)


def _meet(entries: Mapping[str, FaultTiming], one: Chosen, other: Chosen) -> bool:
    return _at_one_time(entries, one, other) and _one_way(one, other) and _one_peer(one.flows, other.flows)


def _at_one_time(entries: Mapping[str, FaultTiming], one: Chosen, other: Chosen) -> bool:
    if one.fault.start_when or other.fault.start_when:
        return not never_together(entries, one.fault, other.fault)
    first, second = sorted((one.fault, other.fault), key=lambda fault: fault.start_after_seconds)
    return second.start_after_seconds < first.start_after_seconds + first.duration_seconds


def _one_way(one: Chosen, other: Chosen) -> bool:
    ways = {fault.ways() for fault in (one.fault.fault, other.fault.fault) if isinstance(fault, NetworkFault)}
    return Direction.BOTH in ways or len(ways) == 1


def _one_peer(some: tuple[Flow, ...], others: tuple[Flow, ...]) -> bool:
    if not some or not others:
        return True
    return any(_same(one, other) for one in some for other in others)


def _same(one: Flow, other: Flow) -> bool:
    if one.protocol and other.protocol and one.protocol != other.protocol:
        return False
    if one.ports and other.ports and not set(one.ports) & set(other.ports):
        return False
    mine, its = ipaddress.ip_network(one.cidr, strict=False), ipaddress.ip_network(other.cidr, strict=False)
    return mine.version == its.version and mine.overlaps(its)
