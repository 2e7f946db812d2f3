"""Bandwidth by tbf, below prio or htb: as much as was asked for and no more, each way, beside other faults."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from bounceback.drivers import Site, rate
from bounceback.drivers.bands import QueueInForce
from bounceback.drivers.netns import Netns
from bounceback.types.plan import Direction, Feature, Netem, Order, Rate
from bounceback.types.told import Told
from tests.kernel.lab import (
    GONE_SECONDS,
    ONE,
    ONE6,
    TARGET,
    TWO,
    Agent,
    Lab,
    connect,
    deliveries,
    echo,
    flood,
    order,
    peer,
    plan,
    round_trip,
)

SIZE = 958  # bytes of a datagram that makes a frame of 1000
RATE = Rate(500_000, 10_000, 200_000)  # 500 frames a second
PACE = 0.001
# A busy machine sends late and makes it less, nothing makes it more. What it is at best is measured in benchmarks/.
LEAST, MOST = 0.7, 1.05
WINDOW = 100


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.TBF, Feature.U32, Feature.INGRESS, Feature.MIRRED, Feature.IFB)


@contextlib.contextmanager
def force(lab: Lab, act: Rate, *peers: str, direction: Direction = Direction.EGRESS) -> Iterator[QueueInForce]:
    flows = [peer(each) for each in peers or (ONE,)]
    in_force = rate.apply(order(act, *flows, direction=direction), Site(lab.target))
    yield in_force
    in_force.revert()
    assert lab.left() == []


class Rates(NamedTuple):
    """Bytes a second: as a whole, and at best, for so many frames that nobody had to wait meanwhile."""

    whole: float
    best: float


def bytes_per_second(source: Netns, receiver: Netns, address: str, seconds: float = 2.5) -> Rates:
    """Of whole frames, once the burst is over."""
    moments = flood(source, receiver, address, seconds, PACE, SIZE - 20 * (":" in address))
    steady = [moment for moment in moments if moment > moments[0] + 0.3 * seconds]
    windows = [steady[n : n + WINDOW + 1] for n in range(0, max(1, len(steady) - WINDOW), WINDOW // 4)]
    whole, *rates = [1000 * (len(each) - 1) / (each[-1] - each[0]) for each in (steady, *windows)]
    return Rates(whole, max(rates))


def is_rate(measured: Rates, asked: float) -> bool:
    return LEAST * asked < measured.best and measured.whole < MOST * asked


def guarded(lab: Lab, *orders: Order, **fields: Any) -> tuple[Agent, Agent]:
    agent = lab.start(plan(*orders, guarded=True, **fields))
    return agent, lab.start(agent.plan, "guard")


@pytest.mark.parametrize("address", [ONE, ONE6])
def test_no_more_and_no_less_than_the_rate_leaves(lab: Lab, address: str) -> None:
    with force(lab, RATE, address) as in_force:
        assert is_rate(bytes_per_second(lab.target, lab.one, address), RATE.bytes_per_second)
        assert in_force.hits() > 500
    assert bytes_per_second(lab.target, lab.one, address, 0.5).best > MOST * RATE.bytes_per_second


def test_no_more_and_no_less_than_the_rate_arrives(lab: Lab) -> None:
    with force(lab, RATE, direction=Direction.INGRESS) as in_force:
        assert is_rate(bytes_per_second(lab.one, lab.target, TARGET), RATE.bytes_per_second)
        assert in_force.hits() > 500
        assert bytes_per_second(lab.target, lab.one, ONE, 0.5).best > MOST * RATE.bytes_per_second


def test_each_way_has_the_rate_for_itself(lab: Lab) -> None:
    with force(lab, RATE, direction=Direction.BOTH):
        assert is_rate(bytes_per_second(lab.target, lab.one, ONE), RATE.bytes_per_second)
        assert is_rate(bytes_per_second(lab.one, lab.target, TARGET), RATE.bytes_per_second)


def test_what_is_below_the_rate_is_not_touched(lab: Lab) -> None:
    with force(lab, RATE) as in_force:
        arrived = deliveries(lab.target, lab.one, ONE, 100, pace=0.004, size=SIZE)
        assert len(arrived) == 100
        assert in_force.hits() < 50  # none, where nothing makes this process send late and then all at once
        assert len(deliveries(lab.target, lab.two, TWO, 500, size=SIZE)) == 500


def test_a_burst_passes_at_once_and_no_packet_waits_longer_than_the_latency(lab: Lab) -> None:
    with force(lab, Rate(100_000, 20_000, 300_000)) as in_force:
        moments: list[float] = []

        def numbers() -> Iterator[int]:
            for number in range(200):
                moments.append(time.monotonic())
                yield number

        held_up: set[int] = set()
        arrived = deliveries(lab.target, lab.one, ONE, numbers(), size=SIZE, held_up=held_up)
        passed = 100 * (moments[-1] - moments[0])  # while they were sent
        assert 60 < len(arrived) <= 75 + passed  # and the queue of fifty, and the burst of twenty
        assert 15 < sum(took < 0.01 for _, took in arrived) < 50 + passed
        assert 0.3 < max(took for number, took in arrived if number not in held_up) < 1.0
        assert in_force.hits() >= 200 - len(arrived)


def test_a_rate_is_changed_while_it_is_in_force(lab: Lab) -> None:
    with force(lab, RATE) as in_force:
        seen = [in_force.hits()]
        for act in (RATE.scaled(0.5), RATE):
            in_force.change(act)
            measured = bytes_per_second(lab.target, lab.one, ONE, 2.0)
            expected = min(act.bytes_per_second, 1000 / PACE)
            assert is_rate(measured, expected)
            seen.append(in_force.hits())
        in_force.change(None)
        idle = in_force.hits()
        assert len(deliveries(lab.target, lab.one, ONE, 1000, size=SIZE)) == 1000
        assert in_force.hits() == idle
    assert seen == sorted(seen)
    assert seen[-1] > 300


def test_packets_that_wait_are_not_lost_when_a_limit_is_lifted(lab: Lab) -> None:
    slow = order(Rate(20_000, 3_000, 5_000_000), peer(ONE), direction=Direction.EGRESS)
    in_force = rate.apply(slow, Site(lab.target))
    with lab.target.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with lab.one.entered():
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, sink:
        sink.bind((ONE, 7000))
        for _ in range(40):
            sender.sendto(bytes(SIZE), (ONE, 7000))
        assert in_force.held() > 20
        in_force.change(None)
        sink.settimeout(1)
        assert sum(bool(sink.recv(2000)) for _ in range(40)) == 40
    assert in_force.held() == 0
    in_force.revert()
    assert lab.left() == []


def test_two_limits_on_different_peers_compose_and_end_apart(lab: Lab) -> None:
    short = order(RATE, peer(ONE), duration=5.0, direction=Direction.EGRESS)
    long = order(Rate(250_000, 10_000), peer(TWO), direction=Direction.EGRESS)
    agent, guard = guarded(lab, short, long)
    agent.until(Told.IN_FORCE, long.injection)
    assert is_rate(bytes_per_second(lab.target, lab.one, ONE, 1.5), 500_000)
    assert is_rate(bytes_per_second(lab.target, lab.two, TWO, 1.5), 250_000)
    assert agent.until(Told.VERIFIED, short.injection).detail == {"leftovers": []}
    assert bytes_per_second(lab.target, lab.one, ONE, 0.5).best > MOST * 500_000
    assert is_rate(bytes_per_second(lab.target, lab.two, TWO, 1.5), 250_000)
    assert agent.control({"stop": True})[0] == 0
    agent.end()
    guard.end()
    assert agent.hits(short.injection) > 100
    assert lab.left() == []


def test_a_limit_and_a_delay_on_different_peers_compose(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.NETEM)
    limit, slow = order(RATE, peer(ONE)), order(Netem(50_000), peer(TWO), direction=Direction.EGRESS)
    with echo(lab.two, TWO), connect(lab.target, TWO) as connection:
        agent, guard = guarded(lab, limit, slow)
        agent.until(Told.IN_FORCE, slow.injection)
        assert is_rate(bytes_per_second(lab.target, lab.one, ONE), 500_000)
        assert 0.05 <= min(round_trip(connection) for _ in range(5)) < 0.08
        assert agent.control({"stop": True})[0] == 0
        assert min(round_trip(connection) for _ in range(5)) < 0.03
        agent.end()
        guard.end()
    assert lab.left() == []


def test_an_amended_limit_moves_to_the_new_peer(lab: Lab) -> None:
    with force(lab, RATE) as in_force:
        for address, receiver, other, elsewhere in [(TWO, lab.two, ONE, lab.one), (ONE, lab.one, TWO, lab.two)]:
            in_force.amend((peer(address),))
            assert is_rate(bytes_per_second(lab.target, receiver, address, 1.5), 500_000)
            assert bytes_per_second(lab.target, elsewhere, other, 0.5).best > MOST * 500_000


def test_a_killed_agents_limit_is_undone_by_its_guard(lab: Lab) -> None:
    limit = order(RATE, peer(ONE))
    agent, guard = guarded(lab, limit)
    agent.until(Told.IN_FORCE)
    killed = agent.signal(signal.SIGKILL)
    while lab.left():
        assert time.monotonic() - killed < GONE_SECONDS
        time.sleep(0.005)
    guard.end()
    told = {line.told: line.detail for line in guard.told if line.injection == limit.injection}
    assert told == {Told.CLEARED: {"why": "AgentLost"}, Told.VERIFIED: {"leftovers": []}}


def test_a_limit_that_nobody_took_away_is_told(lab: Lab) -> None:
    """The broken variant of undoing."""
    agent, guard = guarded(lab, order(RATE, peer(ONE)))
    agent.until(Told.IN_FORCE)
    guard.signal(signal.SIGSTOP)
    agent.signal(signal.SIGKILL)
    verifier = lab.start(agent.plan, "verify")
    left = verifier.until(Told.VERIFIED).detail["leftovers"]
    assert any("tbf" in each for each in left), left
    verifier.end()
    guard.signal(signal.SIGCONT)
    guard.end()
    assert lab.left() == []


def test_the_interfaces_are_as_before(lab: Lab) -> None:
    def state() -> str:
        with lab.target.entered():
            command = "ip -o link; tc qdisc show; tc class show dev eth0; tc filter show dev eth0"
            return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout

    before = state()
    with force(lab, RATE, direction=Direction.BOTH):
        assert state() != before
    assert state() == before
