"""Bandwidth: no more than so many bytes a second pass, by tc-tbf(8)."""

from __future__ import annotations

from typing import Final

from bounceback.drivers import Site, bands
from bounceback.drivers.bands import Counts, Leaf, QueueInForce
from bounceback.types.plan import Act, Order, Rate

_UNLIMITED: Final = "tbf rate 100gbit burst 64mb limit 256mb"

undo = bands.undo


def apply(order: Order, site: Site) -> QueueInForce:
    return bands.apply(_Rate(), order, site)


class _Rate:
    name = "tbf"

    def leaf(self, act: Act | None) -> Leaf:
        assert act is None or isinstance(act, Rate)
        return Leaf(_UNLIMITED if act is None else words(act))

    def hits(self, act: Act, counts: Counts) -> int:
        """Packets that had to wait or did not fit: tbf counts waits, of which a packet may have several."""
        return counts.lost + min(counts.waited, counts.taken)


def words(act: Rate) -> str:
    """The queue holds what takes `latency_us` to send, and the burst; tbf lets no packet through that is larger."""
    limit = act.burst_bytes + act.bytes_per_second * act.latency_us // 1_000_000
    return f"tbf rate {act.bytes_per_second}bps burst {act.burst_bytes}b limit {limit}b"
