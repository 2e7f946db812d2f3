"""Packets delayed, lost, duplicated, corrupted or reordered by tc-netem(8)."""

from __future__ import annotations

from typing import Final

from bounceback.drivers import KernelError, Site, bands, dice, spread
from bounceback.drivers.bands import Counts, Leaf, QueueInForce
from bounceback.types.plan import Act, Netem, Order

_TABLE: Final = "bounceback"

undo = bands.undo


def apply(order: Order, site: Site) -> QueueInForce:
    return bands.apply(_Netem(), order, site)


class _Netem:
    name = "netem"

    def leaf(self, act: Act | None) -> Leaf:
        assert act is None or isinstance(act, Netem)
        return leaf(act or Netem())

    def hits(self, act: Act, counts: Counts) -> int:
        """Of a delay the packets held, and lost; of all else what was lost and reordered.

        netem does not count what it duplicates, corrupts, or delays by dice: of these it is what is sure.
        """
        assert isinstance(act, Netem)
        hits = counts.lost + counts.reordered
        if act.delay_us and not act.reorder_percent:
            hits += dice.sure(counts.taken, act.delayed_percent)
        if act.duplicate_percent:
            hits += dice.sure(int(counts.taken / (1 + act.duplicate_percent / 100)), act.duplicate_percent)
        if act.corrupt_percent:
            hits += dice.sure(counts.taken, act.corrupt_percent)
        return hits


def leaf(act: Netem) -> Leaf:
    """Every parameter that has stayed from an earlier act is said again. Raises KernelError for what netem cannot."""
    words, tables = [f"netem limit {act.limit}"], {}
    if act.delay_us:
        try:
            delays = spread.of(act)
        except ValueError as error:
            raise KernelError(str(error)) from error
        words.append(f"delay {_microseconds(delays.mu)}")
        if delays.entries:
            words.append(f"{_microseconds(delays.sigma)} {_percent(act.delay_correlation)} distribution {_TABLE}")
            tables[_TABLE] = delays.text()
    if act.burst_begins_percent:
        shares = (act.burst_begins_percent, act.burst_ends_percent, act.burst_loss_percent, act.calm_loss_percent)
        words.append("loss gemodel " + " ".join(_percent(share) for share in shares))
    else:
        words.append(f"loss random {_dice(act.loss_percent, act.loss_correlation)}")
    words.append(f"duplicate {_dice(act.duplicate_percent, act.duplicate_correlation)}")
    words.append(f"corrupt {_dice(act.corrupt_percent, act.corrupt_correlation)}")
    words.append(f"reorder {_dice(act.reorder_percent, act.reorder_correlation)}")
    if act.reorder_percent:
        words.append(f"gap {act.reorder_gap}")
    return Leaf(" ".join(words), tables)


def _dice(percent: float, correlation: float) -> str:
    return f"{_percent(dice.asked(percent, correlation))} {_percent(correlation)}"


def _microseconds(nanoseconds: int) -> str:
    """tc knows no shorter unit, but fractions."""
    return f"{nanoseconds / 1000:.3f}".rstrip("0").rstrip(".") + "us"


def _percent(share: float) -> str:
    return f"{share:.10g}%"
