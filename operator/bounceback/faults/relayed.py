"""Faults as rules of the relay: those of the kernel by what they ask of it, so that both rungs do the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from bounceback.faults.base import Fault, NetworkFault
from bounceback.faults.connection_data_limit import ConnectionDataLimit
from bounceback.faults.connection_fault import ConnectionFault
from bounceback.faults.connection_refusal import ConnectionRefusal
from bounceback.faults.connection_reset import ConnectionReset
from bounceback.faults.connection_slicing import ConnectionSlicing
from bounceback.faults.connection_slow_close import ConnectionSlowClose
from bounceback.faults.connection_timeout import ConnectionTimeout
from bounceback.faults.name_fault import NameFault
from bounceback.types import relay
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.datagrams import pairs
from bounceback.types.plan import Act, Drop, Flow, Netem, Rate, Rung
from bounceback.types.selectors import Peer, Protocol

CONNECTION_KINDS: Final[tuple[type[ConnectionFault], ...]] = (
    ConnectionTimeout,
    ConnectionReset,
    ConnectionRefusal,
    ConnectionSlowClose,
    ConnectionSlicing,
    ConnectionDataLimit,
)
KERNEL_RUNGS: Final = frozenset({Rung.NETEM, Rung.TBF, Rung.NFT})

_Part = tuple[relay.Act, relay.Connections]


def can_be_relayed(fault: type[Fault]) -> bool:
    """Whether `rules` knows what to make of this kind."""
    if not issubclass(fault, NetworkFault):
        return False
    return issubclass(fault, ConnectionFault) or bool(KERNEL_RUNGS & set(fault.model_construct().rungs()))


def rules(
    fault: NetworkFault, name: str, choice: Choice = ALWAYS, listener: str = "", per: relay.Drawn | None = None
) -> tuple[relay.Rule, ...]:
    """What a relay does for this fault.

    The choice is among connections for faults on these, among segments and datagrams for faults on packets, or among
    what `per` says. The first rule has the fault's name; those beside it have that name with a number.
    Raises ValueError for a fault that no relay can carry out.
    """
    if isinstance(fault, ConnectionFault):
        parts = fault.does()
    else:
        rung = next((rung for rung in fault.rungs() if rung in KERNEL_RUNGS), None)
        if rung is None:
            raise ValueError(f"{fault.kind} cannot be carried out by a relay")
        parts = _of_the_kernel(fault.act(rung), choice if per is not relay.Drawn.CONNECTION else ALWAYS)
        if per is relay.Drawn.CONNECTION:
            parts = tuple((_each(act), which) for act, which in parts)
        per = per or relay.Drawn.SEGMENT
    return tuple(
        relay.Rule(
            name if n == 0 else f"{name}.{n + 1}",
            act,
            fault.ways(),
            choice,
            per if isinstance(act, relay.OF_SEGMENTS) else None,
            which,
            listener,
        )
        for n, (act, which) in enumerate(parts)
    )


def not_relayed(fault: NetworkFault, flows: Iterable[Flow] = ()) -> str:
    """Why no relay can carry out this fault, of a kind that one can; empty: it can. `flows`: its peers' that are known.

    Datagrams are relayed to peers that are named with an address and a port; faults of names have ways of their own.
    """
    if isinstance(fault, NameFault) or not fault.speaks_udp:
        return ""
    for_streams = all(isinstance(rule.act, relay.STREAM_ONLY) for rule in rules(fault, fault.kind))
    if for_streams and isinstance(fault, ConnectionFault):
        tcp = any(not peer.ports or any(each.protocol is Protocol.TCP for each in peer.ports) for peer in fault.peers)
        return "" if tcp else f"Relay does {fault.kind} to TCP, and the peers' ports are of UDP"
    if for_streams:
        return f"Relay does not refuse UDP, as this {fault.kind} asks"
    named = [Flow(peer.cidr, "UDP", _udp_ports(peer)) for peer in fault.peers if peer.cidr and _udp_ports(peer)]
    try:
        pairs([*named, *flows])
    except ValueError as error:
        return str(error)
    return ""


def _udp_ports(peer: Peer) -> tuple[int, ...]:
    return tuple(each.port for each in peer.ports if each.protocol is Protocol.UDP)


def _each(act: relay.Act) -> relay.Act:
    """A rate is one of all packets together, unless connections are what it is about."""
    return replace(act, shared=False) if isinstance(act, relay.Throttle) else act


def _of_the_kernel(act: Act, choice: Choice) -> tuple[_Part, ...]:
    every = relay.Connections.ALL
    match act:
        case Netem():
            return tuple((part, every) for part in _of_netem(act))
        case Rate():
            return ((relay.Throttle(act.bytes_per_second, act.burst_bytes, True, act.latency_us), every),)
        case Drop(reject=True):
            return ((relay.Reset(), relay.Connections.EXISTING), (relay.Refuse(), relay.Connections.NEW))
        case Drop() if choice.everything:
            return ((relay.Silence(), every),)
        case Drop():
            return ((relay.Lose(1.0), every),)
        case _:
            raise ValueError(f"a relay cannot do {act}")


def _of_netem(act: Netem) -> list[relay.Act]:
    found: list[relay.Act] = []
    if act.reorder_percent:
        found.append(relay.Reorder(act.reorder_percent / 100, act.reorder_correlation, act.delay_us))
    elif act.delay_us:
        found.append(
            relay.Hold(
                act.delay_us,
                act.jitter_us,
                act.delay_correlation,
                act.distribution,
                act.spike_percent / 100,
                act.spike_factor,
            )
        )
    if act.burst_begins_percent:
        found.append(
            relay.Lose(
                burst_begins=act.burst_begins_percent / 100,
                burst_ends=act.burst_ends_percent / 100,
                lost_in_burst=act.burst_loss_percent / 100,
                lost_outside=act.calm_loss_percent / 100,
            )
        )
    elif act.loss_percent:
        found.append(relay.Lose(act.loss_percent / 100, act.loss_correlation))
    if act.duplicate_percent:
        found.append(relay.Duplicate(act.duplicate_percent / 100, act.duplicate_correlation))
    if act.corrupt_percent:
        found.append(relay.Corrupt(act.corrupt_percent / 100, act.corrupt_correlation))
    return found
