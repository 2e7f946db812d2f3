"""How long, how fast, which: decisions of the relay, from seeds and times alone."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import mean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.proxy.shaping import WIDEST, Bucket, Correlated, Delays, Dice, Losses, flipped, pieces
from bounceback.types.relay import Hold, Lose, Slice

MANY = 20_000


def dice(seed: int = 1) -> Dice:
    return Dice(seed, "rule", 7, "Egress")


def test_dice_follow_from_what_they_are_for() -> None:
    def draws(*purpose: object) -> list[float]:
        made = Dice(1, *purpose)
        return [made.uniform() for _ in range(10)]

    assert draws("a", 1) == draws("a", 1)
    assert draws("a", 1) != draws("a", 2)
    assert draws("a", 1) != draws("b", 1)


@pytest.mark.parametrize("correlation", [0.0, 25.0, 90.0])
def test_correlated_numbers_are_still_evenly_spread(correlation: float) -> None:
    numbers = Correlated(correlation, dice())
    drawn = [numbers.next() for _ in range(MANY * 4)]
    assert mean(drawn) == pytest.approx(0.5, abs=0.02)
    assert sum(x < 0.1 for x in drawn) / len(drawn) == pytest.approx(0.1, abs=0.012)
    repeats = sum(a == b for a, b in pairwise(drawn)) / len(drawn)
    assert repeats == pytest.approx(correlation / 100, abs=0.01)


@pytest.mark.parametrize(
    ("distribution", "deviation"), [("", 1 / math.sqrt(3)), ("normal", 1.0), ("pareto", 0.72), ("paretonormal", 0.6)]
)
def test_delays_are_spread_as_they_are_named(distribution: str, deviation: float) -> None:
    delays = Delays(Hold(100_000, 10_000, distribution=distribution), dice())
    drawn = [delays.next() for _ in range(MANY)]
    assert mean(drawn) == pytest.approx(0.1, abs=0.001)
    assert pstdev(drawn) == pytest.approx(0.01 * deviation, rel=0.1)
    assert max(drawn) <= 0.1 + 0.01 * WIDEST + 1e-9
    if not distribution:
        assert 0.09 <= min(drawn) < max(drawn) <= 0.11


def test_no_delay_is_below_nothing() -> None:
    delays = Delays(Hold(1000, 1000, distribution="normal"), dice())
    assert min(delays.next() for _ in range(MANY)) == 0.0


def test_spikes_come_with_their_chance() -> None:
    delays = Delays(Hold(10_000, spike_probability=0.05, spike_multiplier=10), dice())
    drawn = [delays.next() for _ in range(MANY)]
    assert set(drawn) == {0.01, 0.1}
    assert drawn.count(0.1) / MANY == pytest.approx(0.05, abs=0.006)


@pytest.mark.parametrize("correlation", [0.0, 50.0])
def test_the_share_asked_for_is_lost(correlation: float) -> None:
    losses = Losses(Lose(0.1, correlation), dice())
    assert sum(losses.next() for _ in range(MANY * 4)) / (MANY * 4) == pytest.approx(0.1, abs=0.012)


def test_losses_come_in_bursts() -> None:
    """Gilbert-Elliott: the share of time in the bad state is p / (p + r), a burst lasts 1 / r on average."""
    losses = Losses(Lose(burst_begins=0.01, burst_ends=0.2), dice())
    drawn = [losses.next() for _ in range(MANY * 5)]
    assert mean(drawn) == pytest.approx(0.01 / 0.21, rel=0.15)
    bursts = sum(b and not a for a, b in pairwise(drawn))
    assert sum(drawn) / bursts == pytest.approx(5, rel=0.1)


def test_a_lost_segment_is_sent_again_ever_later() -> None:
    assert Losses(Lose(0.0), dice()).recovery() == 0
    assert Losses(Lose(1.0), dice()).recovery() == 60.0
    found = {Losses(Lose(0.5), dice(seed)).recovery() for seed in range(200)}
    assert {0.0, 0.2, 0.6000000000000001} <= found


@given(st.integers(100, 10_000_000), st.lists(st.integers(1, 5000), min_size=1, max_size=200))
def test_no_more_than_the_rate_passes_after_the_burst(rate: int, sizes: list[int]) -> None:
    bucket = Bucket(rate, 2000)
    gone = [bucket.take(size, 0.0) for size in sizes]
    assert gone == sorted(gone)
    assert gone[-1] == pytest.approx((sum(sizes) - 2000) / rate)


def test_a_late_look_at_the_clock_loses_nothing_of_the_rate() -> None:
    bucket = Bucket(1000, 100)
    assert bucket.take(1000, 0.0) == pytest.approx(0.9)
    assert bucket.take(1000, 0.0) == pytest.approx(1.9)  # asked at any time: what counts is when the data was there


def test_a_rate_that_was_not_used_is_saved_up_to_the_burst() -> None:
    bucket = Bucket(1000, 100)
    bucket.take(1000, 0.0)
    assert bucket.take(100, 50.0) == pytest.approx(50.0)
    assert bucket.take(100, 50.0) == pytest.approx(50.1)
    assert bucket.queue(50.0) == pytest.approx(0.1)


@given(st.integers(1, 5000), st.integers(0, 100_000), st.data())
def test_slices_are_the_whole(size: int, length: int, data: st.DataObject) -> None:
    variation = data.draw(st.integers(0, size - 1))
    found = pieces(Slice(size, variation), length, dice())
    assert sum(found) == length
    assert all(1 <= piece <= size + variation for piece in found)
    assert all(piece >= size - variation for piece in found[:-1])


@given(st.binary(min_size=1, max_size=100))
def test_one_bit_is_flipped(data: bytes) -> None:
    changed = flipped(data, dice())
    assert sum((a ^ b).bit_count() for a, b in zip(data, changed, strict=True)) == 1
