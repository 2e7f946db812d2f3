"""What netem does to packets beyond a plain delay, held against the shares and moments that were asked for.

Bounds are those of chance, at four standard deviations: a right one is outside of them once in 16,000 times.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

import pytest

from bounceback.drivers import Site, netem
from bounceback.drivers.bands import QueueInForce
from bounceback.types.plan import Direction, Feature, Netem
from tests.kernel.lab import ONE, TWO, Lab, connect, deliveries, echo, order, peer, round_trip

SURE = 4.0


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NETEM, Feature.PRIO, Feature.U32)


@contextlib.contextmanager
def force(lab: Lab, act: Netem, direction: Direction = Direction.EGRESS) -> Iterator[QueueInForce]:
    in_force = netem.apply(order(act, peer(ONE), direction=direction), Site(lab.target))
    yield in_force
    in_force.revert()
    assert lab.left() == []


def is_share(found: int, count: int, share: float, memory: float = 1.0) -> bool:
    """`memory`: how many times further the count may be off where one packet's fate depends on another's."""
    deviation: float = memory * (count * share * (1 - share)) ** 0.5
    return abs(found - count * share) <= SURE * deviation


@pytest.mark.parametrize(
    ("distribution", "deciles"),
    [("", (240, 400, 560)), ("normal", (143.7, 400, 656.3)), ("pareto", (293, 345, 551))],
)
def test_a_jitter_has_the_distribution_that_was_asked_for(
    lab: Lab, distribution: str, deciles: tuple[float, ...]
) -> None:
    """At a tenth, a half and nine tenths of the packets (Pareto: shape 3, moved and scaled)."""
    with force(lab, Netem(400_000, 200_000, distribution=distribution)) as in_force:
        arrived = [took * 1000 for _, took in deliveries(lab.target, lab.one, ONE, 3000)]
        assert in_force.hits() == len(arrived) == 3000
    found = statistics.quantiles(arrived, n=10)
    assert [found[n] for n in (0, 4, 8)] == [pytest.approx(decile, abs=35) for decile in deciles]
    if not distribution:
        assert min(arrived) > 199.9


def test_only_the_asked_share_is_delayed_and_spikes_are_longer(lab: Lab) -> None:
    count, delayed, spiked = 3000, 0.6, 0.2
    act = Netem(100_000, delayed_percent=delayed * 100, spike_percent=spiked * 100, spike_factor=4.0)
    with force(lab, act) as in_force:
        arrived = [took for _, took in deliveries(lab.target, lab.one, ONE, count)]
        hits = in_force.hits()
    assert len(arrived) == count
    plain = sum(0.0999 < took < 0.39 for took in arrived)
    spikes = sum(took >= 0.3999 for took in arrived)
    assert is_share(plain, count, delayed * (1 - spiked))
    assert is_share(spikes, count, delayed * spiked)
    assert is_share(count - plain - spikes, count, 1 - delayed)
    assert plain + spikes >= hits > 0.8 * (plain + spikes)


def test_a_spike_of_a_round_trip_is_measured_on_a_connection(lab: Lab) -> None:
    with echo(lab.one, ONE), connect(lab.target, ONE) as connection:
        with force(lab, Netem(20_000, spike_percent=50.0, spike_factor=5.0)):
            taken = [round_trip(connection) for _ in range(30)]
        assert 0.02 <= min(taken) < 0.05
        assert any(each >= 0.1 for each in taken)


def test_loss_in_bursts_has_their_length_and_their_share(lab: Lab) -> None:
    """Gilbert-Elliott; random loss of the same share has runs of hardly more than one."""
    count, begins, length = 20_000, 0.01, 8
    act = Netem(burst_begins_percent=begins * 100, burst_ends_percent=100 / length, burst_loss_percent=100.0)
    with force(lab, act) as in_force:
        arrived = {number for number, _ in deliveries(lab.target, lab.one, ONE, count, size=20)}
        assert in_force.hits() == count - len(arrived)
    runs = [len(list(run)) for lost, run in groupby(range(count), lambda n: n not in arrived) if lost]
    share = begins / (begins + 1 / length)
    assert is_share(count - len(arrived), count, share, memory=(2 * length) ** 0.5)
    assert statistics.mean(runs) == pytest.approx(length, rel=SURE / len(runs) ** 0.5)


def test_correlated_loss_is_of_the_share_that_was_asked_for(lab: Lab) -> None:
    """As netem takes it, 10 % with a correlation of 50 % would be less than 1 %."""
    count = 20_000
    with force(lab, Netem(loss_percent=10.0, loss_correlation=50.0)) as in_force:
        arrived = {number for number, _ in deliveries(lab.target, lab.one, ONE, count, size=20)}
        assert in_force.hits() == count - len(arrived)
    assert is_share(count - len(arrived), count, 0.1, memory=3**0.5)
    lost_together = sum(n not in arrived and n + 1 not in arrived for n in range(count - 1))
    assert lost_together > 2 * 0.1 * (count - len(arrived))


@pytest.mark.parametrize("direction", [Direction.EGRESS, Direction.INGRESS])
def test_packets_come_twice(lab: Lab, needs: Callable[..., None], direction: Direction) -> None:
    needs(Feature.INGRESS, Feature.MIRRED, Feature.IFB)
    count, share = 5000, 0.2
    there = (lab.target, lab.one, ONE) if direction is Direction.EGRESS else (lab.one, lab.target, "10.77.0.2")
    with force(lab, Netem(duplicate_percent=share * 100), direction) as in_force:
        arrived = [number for number, _ in deliveries(*there, count, size=20)]
        hits = in_force.hits()
    assert len(set(arrived)) == count
    copies = len(arrived) - count
    assert is_share(copies, count, share)
    assert copies >= hits > 0.7 * copies


def test_corrupted_packets_are_known_by_their_checksum(lab: Lab) -> None:
    count, share = 5000, 0.2
    with force(lab, Netem(corrupt_percent=share * 100)) as in_force:
        arrived = [number for number, _ in deliveries(lab.target, lab.one, ONE, count, size=1000)]
        hits = in_force.hits()
    spoiled = count - len(arrived)
    # One bit of the frame: of 1042 bytes the 6 of the sender's address are nobody's business.
    assert is_share(spoiled, count, share * (1 - 6 / 1042))
    assert spoiled * 1.1 >= hits > 0.7 * spoiled


def test_reordered_packets_overtake_those_that_are_delayed(lab: Lab) -> None:
    count, share = 2000, 0.3
    with force(lab, Netem(50_000, reorder_percent=share * 100)) as in_force:
        held_up: set[int] = set()
        arrived = deliveries(lab.target, lab.one, ONE, count, pace=0.0005, held_up=held_up)
        hits = in_force.hits()
    assert len(arrived) == count
    early = sum(took < 0.0499 for _, took in arrived)
    assert early <= hits <= early + len(held_up)
    assert is_share(hits, count, share)
    assert [number for number, _ in arrived] != sorted(number for number, _ in arrived)


def test_only_every_so_manyth_packet_is_reordered_with_a_gap(lab: Lab) -> None:
    with force(lab, Netem(50_000, reorder_percent=100.0, reorder_gap=5)) as in_force:
        held_up: set[int] = set()
        arrived = deliveries(lab.target, lab.one, ONE, 1000, pace=0.0005, held_up=held_up)
        assert in_force.hits() == 200
    early = {number for number, took in arrived if took < 0.0499}
    assert len({number % 5 for number in early}) == 1
    assert 200 - len(held_up) <= len(early) <= 200


# Changes in place


def test_a_delay_is_changed_while_it_is_in_force_and_nothing_is_lost(lab: Lab) -> None:
    """Packets are sent all the while: every one arrives once, each with the delay of its time."""
    act = Netem(100_000)
    arrived: list[tuple[int, float]] = []
    with force(lab, act) as in_force:
        sending = threading.Thread(
            target=lambda: arrived.extend(deliveries(lab.target, lab.one, ONE, 1500, pace=0.002)), daemon=True
        )
        sending.start()
        seen = []
        for following in (act.scaled(0.5), None, replace(act, jitter_us=10_000), act.scaled(0.2)):
            time.sleep(0.5)
            in_force.change(following)
            seen.append(in_force.hits())
        sending.join()
        seen.append(in_force.hits())
    assert sorted(number for number, _ in arrived) == list(range(1500))
    assert seen == sorted(seen)
    assert 0 < seen[-1] < 1500  # those that passed while nothing was hit are not counted
    took = [took for _, took in sorted(arrived)]
    assert min(took) < 0.01
    for delay in (0.1, 0.05, 0.02):
        assert sum(abs(each - delay) < 0.005 for each in took) > 20, delay


def test_hits_do_not_grow_while_nothing_is_hit(lab: Lab) -> None:
    with force(lab, Netem(loss_percent=50.0)) as in_force:
        deliveries(lab.target, lab.one, ONE, 200)
        in_force.change(None)
        idle = in_force.hits()
        assert 60 < idle < 140
        assert len(deliveries(lab.target, lab.one, ONE, 200)) == 200
        assert in_force.hits() == idle
        in_force.change(Netem(loss_percent=100.0))
        assert deliveries(lab.target, lab.one, ONE, 50) == []
        assert in_force.hits() == idle + 50


def test_every_parameter_is_taken_back_by_a_change(lab: Lab) -> None:
    everything = Netem(
        20_000,
        10_000,
        burst_begins_percent=10.0,
        burst_ends_percent=50.0,
        burst_loss_percent=100.0,
        duplicate_percent=10.0,
        corrupt_percent=10.0,
        reorder_percent=10.0,
    )
    with force(lab, everything) as in_force:
        in_force.change(None)
        arrived = deliveries(lab.target, lab.one, ONE, 500, pace=0.0005)
        assert [number for number, _ in arrived] == list(range(500))
        assert statistics.median(took for _, took in arrived) < 0.005
        in_force.change(Netem(30_000))
        assert all(took > 0.0299 for _, took in deliveries(lab.target, lab.one, ONE, 100))


def test_an_amended_order_can_be_changed_and_a_changed_one_amended(lab: Lab) -> None:
    with force(lab, Netem(loss_percent=100.0)) as in_force:
        in_force.amend((peer(TWO),))
        in_force.change(Netem(delay_us=50_000))
        assert all(took > 0.0499 for _, took in deliveries(lab.target, lab.two, TWO, 20))
        in_force.change(None)
        in_force.amend((peer(ONE),))
        in_force.change(Netem(delay_us=50_000))
        assert statistics.median(took for _, took in deliveries(lab.target, lab.two, TWO, 20)) < 0.02
        assert all(took > 0.0499 for _, took in deliveries(lab.target, lab.one, ONE, 20))


def test_a_delay_that_has_no_table_is_an_error_before_anything_is_changed(lab: Lab) -> None:
    from bounceback.drivers import KernelError

    with pytest.raises(KernelError, match=r"17\.1 s apart"):
        netem.apply(order(Netem(20_000_000, delayed_percent=50.0), peer(ONE)), Site(lab.target))
    assert lab.left() == []
