"""What this node's kernel can do: each feature is tried for a moment in the network namespace of the one who asks.

Tried on the loopback of a namespace that carries no traffic of anybody, and taken away again.
"""

from __future__ import annotations

from typing import Final

from bounceback.drivers import PREFIX, KernelError, nft, sockets, tc
from bounceback.drivers.libnft import Nft
from bounceback.drivers.netns import Netns
from bounceback.types.plan import Feature

_SCRATCH: Final = f"{PREFIX}probe"
_U32: Final = "protocol ip pref 1 u32 match ip dst 203.0.113.1/32"

# tool, what to try, and what takes it away again.
_TRIALS: Final[dict[Feature, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    Feature.NETEM: ("tc", ("qdisc add dev lo root netem delay 1ms",), ("qdisc del dev lo root",)),
    Feature.TBF: ("tc", ("qdisc add dev lo root tbf rate 1gbit burst 1mb limit 1mb",), ("qdisc del dev lo root",)),
    Feature.PRIO: ("tc", ("qdisc add dev lo root handle bb00: prio bands 16",), ("qdisc del dev lo root",)),
    Feature.HTB: (
        "tc",
        ("qdisc add dev lo root handle bb00: htb", "class add dev lo parent bb00: classid bb00:2 htb rate 1gbit"),
        ("qdisc del dev lo root",),
    ),
    Feature.INGRESS: ("tc", ("qdisc add dev lo ingress",), ("qdisc del dev lo ingress",)),
    Feature.U32: (
        "tc",
        ("qdisc add dev lo ingress", f"filter add dev lo parent ffff: {_U32} flowid :1"),
        ("qdisc del dev lo ingress",),
    ),
    Feature.MIRRED: (
        "tc",
        ("qdisc add dev lo ingress", f"filter add dev lo parent ffff: {_U32} action mirred egress redirect dev lo"),
        ("qdisc del dev lo ingress",),
    ),
    Feature.IFB: ("ip", (f"link add name {_SCRATCH} type ifb",), (f"link del dev {_SCRATCH}",)),
}


def features(netns: Netns) -> list[Feature]:
    """In the order of `Feature`; of a namespace whose loopback nobody else changes."""
    found = {feature for feature, trial in _TRIALS.items() if _works(netns, *trial)}
    found |= _tables(netns)
    found |= {Feature.SOCK_DESTROY} if _ends_connections(netns) else set()
    return [feature for feature in Feature if feature in found]


def _ends_connections(netns: Netns) -> bool:
    try:
        return sockets.can(netns)
    except KernelError:  # a kernel that does not tell of its sockets either
        return False


def _works(netns: Netns, tool: str, attempt: tuple[str, ...], removal: tuple[str, ...]) -> bool:
    try:
        tc.run(netns, tool, attempt)
    except KernelError:
        return False
    else:
        return True
    finally:
        tc.run(netns, tool, removal, anyway=True)


def _tables(netns: Netns) -> set[Feature]:
    try:
        kernel = Nft(netns)
    except KernelError:
        return set()
    try:
        return {feature for feature, rules in nft.probes().items() if kernel.can(rules)}
    finally:
        kernel.close()
