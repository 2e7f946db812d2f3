"""To whom a relay in a target's network carries UDP: one listener for each address and port of the peers.

A datagram does not say where it was going once it is redirected, as an accepted connection does: so the listener says
it, and there are no more listeners than a target can bear. Standard library only: the agent imports this.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from bounceback.types.plan import Flow

MOST_PAIRS: Final = 64
Pair = tuple[str, int]
"""Address and port of a peer."""


def named(pair: Pair) -> str:
    """As nftables writes an address and a port together."""
    return f"{pair[0]} . {pair[1]}"


def pairs(flows: Iterable[Flow]) -> tuple[Pair, ...]:
    """Those of UDP, in order. Raises ValueError, with the reason, for flows that a relay cannot carry."""
    found: set[Pair] = set()
    for flow in flows:
        if flow.protocol != "UDP":
            continue
        network = ipaddress.ip_network(flow.cidr, strict=False)
        if network.num_addresses > 1:
            raise ValueError(f"Relay carries UDP to single addresses, and {flow.cidr} has many")
        if not flow.ports:
            raise ValueError(f"Relay carries UDP to ports that are named, and {flow.cidr} has none")
        found |= {(str(network.network_address), port) for port in flow.ports}
    if len(found) > MOST_PAIRS:
        raise ValueError(f"Relay carries UDP to {MOST_PAIRS} addresses and ports, and the peers have {len(found)}")
    return tuple(sorted(found))
