"""Latencies of millions of operations in little memory: percentiles that are never too low."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bounceback.accounting.latencies import Latencies


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200))
def test_percentiles_are_never_too_low_and_at_most_one_percent_too_high(taken: Sequence[int]) -> None:
    latencies = Latencies()
    for nanoseconds in taken:
        latencies.add(nanoseconds)
    ordered = sorted(taken)
    shares = (1, 50, 90, 99, 99.9, 100)
    for share, found in zip(shares, latencies.percentiles(shares), strict=True):
        true = ordered[max(1, -int(-len(ordered) * share // 100)) - 1]
        assert true / 1000 - 1 <= found * 1e6 <= true / 1000 * 1.01 + 1


def test_merged_latencies_are_those_of_both() -> None:
    one, other, both = Latencies(), Latencies(), Latencies()
    for n in range(1000):
        (one if n % 2 else other).add(n * n * 1000)
        both.add(n * n * 1000)
    one.merge(other)
    assert (one.count, one.longest) == (both.count, both.longest)
    assert one.percentiles((50, 99)) == both.percentiles((50, 99))
