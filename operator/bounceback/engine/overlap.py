"""Faults on the same packets of a pod at the same time: those that cannot be together, and delays that add up."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Final

from bounceback.api.experiment import FaultTiming
from bounceback.engine.planning import Chosen, act_of
from bounceback.engine.starting import never_together
from bounceback.faults.base import NetworkFault
from bounceback.faults.network_delay import NetworkDelay
from bounceback.types.plan import Direction, Flow, Queued
from bounceback.types.selectors import Peer

BY_THE_RELAY: Final = "where the relay carries one of them out, and are refused where netem does both (Overlap)"
MOST_NAMED: Final = 3
"""Pods that are told by name; of more it is told how many."""


def overlapping(chosen: Iterable[Chosen]) -> tuple[Chosen, Chosen] | None:
    """The first two whose packets a qdisc cannot share: each packet goes through one band. None: all can be together.

    Tables of nftables and relays do compose: a packet passes all of them.
    """
    return next(_meeting(chosen, _is_queued), None)


def adding_up(chosen: Iterable[Chosen]) -> Iterator[str]:
    """Of delays that a packet gets one after the other, what they come to, and on which pods."""
    entries: dict[str, FaultTiming] = {}
    pods: dict[tuple[str, str], list[str]] = {}
    for one, other in _meeting(chosen, lambda choice: isinstance(choice.fault.fault, NetworkDelay)):
        entries |= {each.fault.name: each.fault for each in (one, other)}
        pods.setdefault((one.fault.name, other.fault.name), []).append(one.pod.name)
    for (first, second), names in pods.items():
        yield summed(entries[first], entries[second], names)


def delays_that_meet(faults: Iterable[FaultTiming]) -> Iterator[tuple[FaultTiming, FaultTiming]]:
    """Those on the same packets, as far as the spec tells: peers of different kinds may be the same for all that."""
    entries = {entry.name: entry for entry in faults}  # all: one that is no delay may keep two of them apart
    for one, other in combinations([each for each in entries.values() if isinstance(each.fault, NetworkDelay)], 2):
        peers = [entry.fault.peers for entry in (one, other) if isinstance(entry.fault, NetworkFault)]
        if _at_one_time(entries, one, other) and _one_way(one, other) and _peers_meet(*peers):
            yield one, other


def summed(one: FaultTiming, other: FaultTiming, pods: Iterable[str]) -> str:
    """In words; how much it comes to must not be cut off behind the names of many pods."""
    names = list(pods)
    on = ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} pods"
    times = [entry.fault.delay_milliseconds for entry in (one, other) if isinstance(entry.fault, NetworkDelay)]
    told = " and ".join(f"{time} ms" for time in times)
    return f"{one.name} and {other.name} delay the same packets of {on}: {told} add up to {sum(times)} ms"


def _is_queued(choice: Chosen) -> bool:
    return isinstance(choice.fault.fault, NetworkFault) and isinstance(act_of(choice.fault, choice.rung), Queued)


def _meeting(chosen: Iterable[Chosen], kept: Callable[[Chosen], bool]) -> Iterator[tuple[Chosen, Chosen]]:
    """Those on the same packets of one pod, of the ones that are kept; any other may keep two of them apart."""
    entries: dict[str, FaultTiming] = {}
    by_pod: dict[str, list[Chosen]] = {}
    for choice in chosen:
        entries[choice.fault.name] = choice.fault
        if kept(choice):
            by_pod.setdefault(choice.pod.uid, []).append(choice)
    pairs = (pair for listed in by_pod.values() for pair in combinations(listed, 2))
    yield from ((one, other) for one, other in pairs if _meet(entries, one, other))


def _meet(entries: Mapping[str, FaultTiming], one: Chosen, other: Chosen) -> bool:
    together = _at_one_time(entries, one.fault, other.fault) and _one_way(one.fault, other.fault)
    return together and _one_peer(one.flows, other.flows)


def _at_one_time(entries: Mapping[str, FaultTiming], one: FaultTiming, other: FaultTiming) -> bool:
    if one.start_when or other.start_when:
        return not never_together(entries, one, other)
    first, second = sorted((one, other), key=lambda fault: fault.start_after_seconds)
    return second.start_after_seconds < first.start_after_seconds + first.duration_seconds


def _one_way(one: FaultTiming, other: FaultTiming) -> bool:
    ways = {entry.fault.ways() for entry in (one, other) if isinstance(entry.fault, NetworkFault)}
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


def _peers_meet(some: Iterable[Peer], others: Iterable[Peer]) -> bool:
    mine, its = list(some), list(others)
    return not mine or not its or any(_same_peer(one, other) for one in mine for other in its)


def _same_peer(one: Peer, other: Peer) -> bool:
    ports, others = ({(each.port, each.protocol) for each in peer.ports} for peer in (one, other))
    if ports and others and not ports & others:
        return False
    if one.cidr and other.cidr:
        return _same(Flow(one.cidr), Flow(other.cidr))
    return (one.pods, one.service, one.cidr, one.host) == (other.pods, other.service, other.cidr, other.host)
