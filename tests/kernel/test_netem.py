"""Delay and loss by netem: measured from outside, filtered by peer, composed, and gone afterwards."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from bounceback.types.plan import Direction, Drop, Feature, Netem, Order
from bounceback.types.told import Told
from tests.kernel.lab import (
    GONE_SECONDS,
    NODE,
    ONE,
    ONE6,
    PORT,
    TARGET,
    TWO,
    TWO6,
    Agent,
    Lab,
    connect,
    datagrams,
    echo,
    order,
    peer,
    plan,
    reach,
    round_trip,
)

DELAY = Netem(delay_us=100_000)


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NETEM, Feature.PRIO, Feature.U32)


@pytest.fixture
def ingress(needs: Callable[..., None]) -> None:
    needs(Feature.INGRESS, Feature.MIRRED, Feature.IFB)


def guarded(lab: Lab, *orders: Order, **fields: Any) -> tuple[Agent, Agent]:
    agent = lab.start(plan(*orders, guarded=True, **fields))
    return agent, lab.start(agent.plan, "guard")


def quickest(connection: socket.socket, times: int = 30) -> float:
    """The shortest of so many round trips. A busy machine makes them longer, nothing makes them shorter."""
    return min(round_trip(connection) for _ in range(times))


def stop(agent: Agent, guard: Agent) -> None:
    code, answer = agent.control({"stop": True})
    assert code == 0, answer
    agent.end()
    assert [line.told for line in guard.end()] == [Told.STARTED, Told.FINISHED]


@pytest.mark.parametrize("direction", list(Direction))
def test_a_delay_is_within_2_ms_of_what_was_asked(
    lab: Lab, ingress: None, direction: Direction, record_property: Callable[[str, object], None]
) -> None:
    ways = 2 if direction is Direction.BOTH else 1
    slow = order(DELAY, peer(ONE), direction=direction)
    with (
        echo(lab.one, ONE),
        echo(lab.two, TWO),
        connect(lab.target, ONE) as connection,
        connect(lab.target, TWO) as other,
    ):
        before = quickest(connection)
        agent, guard = guarded(lab, slow)
        agent.until(Told.IN_FORCE)
        during, elsewhere = quickest(connection), quickest(other)
        agent.until(Told.HITS)
        stop(agent, guard)
        after = quickest(connection)
    record_property("milliseconds added", (during - before) * 1000)
    assert during - before == pytest.approx(0.1 * ways, abs=0.002 * ways)
    assert elsewhere < 0.02
    assert after < 0.02
    assert agent.hits(slow.injection) >= 30 * ways
    assert lab.left() == []


def test_nothing_is_lost_when_a_delay_ends(lab: Lab) -> None:
    """Packets that are held are let go: the end of a delay is no fault of its own."""
    slow = order(Netem(delay_us=300_000), peer(ONE), direction=Direction.EGRESS, duration=0.5)
    with lab.one.entered():
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind((ONE, PORT))
    with lab.target.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sink, sender:
        agent, guard = guarded(lab, slow)
        agent.until(Told.IN_FORCE)
        sent = 0
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            sender.sendto(b"x", (ONE, PORT))
            sent += 1
            time.sleep(0.005)
        sink.settimeout(1)
        for _ in range(sent):
            sink.recv(10)
        agent.end()
        guard.end()
    assert lab.left() == []


def test_a_loss_is_within_binomial_bounds_and_counts_what_it_lost(lab: Lab) -> None:
    count, share = 2000, 0.3
    lossy = order(Netem(loss_percent=share * 100), peer(ONE), direction=Direction.EGRESS)
    agent, guard = guarded(lab, lossy)
    agent.until(Told.IN_FORCE)
    arrived = datagrams(lab.target, lab.one, ONE, count)
    assert datagrams(lab.target, lab.two, TWO, 100) == 100
    stop(agent, guard)
    assert abs(count - arrived - count * share) < 4 * math.sqrt(count * share * (1 - share))  # once in 16,000 times
    assert agent.hits(lossy.injection) == count - arrived


def test_what_was_asked_for_is_what_tc_shows(lab: Lab) -> None:
    act = Netem(
        20_000,
        5_000,
        delay_correlation=25.0,
        distribution="normal",
        loss_percent=1.5,
        duplicate_percent=2.5,
        corrupt_percent=3.5,
        limit=50_000,
    )
    agent, guard = guarded(lab, order(act, peer(ONE)))
    agent.until(Told.IN_FORCE)
    with lab.target.entered():
        shown = subprocess.run(
            ["tc", "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True
        ).stdout
    stop(agent, guard)
    netem = next(line for line in shown.splitlines() if "netem" in line)
    for words in ("limit 50000", "delay 20ms", "5ms 25%", "loss 1.5%", "duplicate 2.5%", "corrupt 3.5%"):
        assert words in netem


def test_ports_ipv6_exemptions_and_the_gateway(lab: Lab) -> None:
    first = order(DELAY, peer(ONE, "TCP", PORT), peer(ONE6), direction=Direction.EGRESS)
    everybody = order(Netem(loss_percent=100.0), direction=Direction.EGRESS)
    with echo(lab.one, ONE), echo(lab.one, ONE, PORT + 1), echo(lab.one, ONE6), echo(lab.two, TWO6):
        agent, guard = guarded(lab, first)
        agent.until(Told.IN_FORCE)
        with connect(lab.target, ONE) as slow, connect(lab.target, ONE, PORT + 1) as fast:
            assert quickest(slow, 5) > 0.1
            assert quickest(fast, 5) < 0.02
        with connect(lab.target, ONE6) as slow, connect(lab.target, TWO6) as fast:
            assert quickest(slow, 5) > 0.1
            assert quickest(fast, 5) < 0.02
        stop(agent, guard)
        agent, guard = guarded(lab, everybody, exempt=(f"{ONE}/32",))
        agent.until(Told.IN_FORCE)
        with echo(lab.node, NODE):
            assert reach(lab.target, TWO6) == "silence"
            assert reach(lab.target, ONE) == reach(lab.target, NODE) == "ok"
        stop(agent, guard)


def test_two_delays_compose_and_end_apart(lab: Lab, ingress: None) -> None:
    short = order(DELAY, peer(ONE), duration=6.0)
    long = order(Netem(delay_us=50_000), peer(TWO), duration=20)
    with (
        echo(lab.one, ONE),
        echo(lab.two, TWO),
        connect(lab.target, ONE) as one,
        connect(lab.target, TWO) as two,
    ):
        agent, guard = guarded(lab, short, long)
        agent.until(Told.IN_FORCE, long.injection)
        assert quickest(one, 5) == pytest.approx(0.2, abs=0.01)
        assert quickest(two, 5) == pytest.approx(0.1, abs=0.01)
        assert agent.until(Told.VERIFIED, short.injection).detail == {"leftovers": []}
        assert quickest(one, 5) < 0.02
        assert quickest(two, 5) == pytest.approx(0.1, abs=0.01)
        stop(agent, guard)
        assert quickest(two, 5) < 0.02
    assert lab.left() == []


def test_a_delay_and_a_partition_on_one_target(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP)
    slow, cut = order(DELAY, peer(ONE), direction=Direction.EGRESS), order(Drop(), peer(TWO))
    with echo(lab.one, ONE), echo(lab.two, TWO), connect(lab.target, ONE) as one:
        agent, guard = guarded(lab, slow, cut)
        agent.until(Told.IN_FORCE, cut.injection)
        assert quickest(one, 5) > 0.1
        assert reach(lab.target, TWO) == "silence"
        stop(agent, guard)
    assert lab.left() == []


def test_an_amended_delay_moves_to_the_new_peer(lab: Lab, ingress: None) -> None:
    slow = order(DELAY, peer(ONE))
    with (
        echo(lab.one, ONE),
        echo(lab.two, TWO),
        connect(lab.target, ONE) as one,
        connect(lab.target, TWO) as two,
    ):
        agent, guard = guarded(lab, slow)
        agent.until(Told.IN_FORCE)
        for address, slowed, free in [(TWO, two, one), (ONE, one, two), (TWO, two, one)]:
            flow = {"cidr": f"{address}/32", "protocol": "TCP", "ports": [PORT]}
            assert agent.control({"amend": {slow.injection: [flow]}})[0] == 0
            assert quickest(slowed, 5) > 0.19
            assert quickest(free, 5) < 0.02
        stop(agent, guard)
    assert lab.left() == []


def test_a_killed_agents_delay_is_undone_by_its_guard(
    lab: Lab, ingress: None, record_property: Callable[[str, object], None]
) -> None:
    slow = order(DELAY, peer(ONE))
    with echo(lab.one, ONE), connect(lab.target, ONE) as connection:
        agent, guard = guarded(lab, slow)
        agent.until(Told.IN_FORCE)
        assert quickest(connection, 3) > 0.19
        killed = agent.signal(signal.SIGKILL)
        while lab.left():
            assert time.monotonic() - killed < GONE_SECONDS
            time.sleep(0.005)
        record_property("seconds until gone", time.monotonic() - killed)
        guard.end()
        told = {line.told: line.detail for line in guard.told if line.injection == slow.injection}
        assert told == {Told.CLEARED: {"why": "AgentLost"}, Told.VERIFIED: {"leftovers": []}}
        assert quickest(connection, 3) < 0.02


def test_a_hanging_agents_delay_is_undone_in_time(lab: Lab) -> None:
    slow = order(DELAY, peer(ONE), not_after=10.0)
    agent, guard = guarded(lab, slow)
    agent.until(Told.IN_FORCE)
    agent.signal(signal.SIGSTOP)
    cleared = guard.until(Told.CLEARED)
    assert cleared.detail == {"why": "NotAfter"}
    assert cleared.at.utc - slow.not_after < GONE_SECONDS
    assert guard.until(Told.VERIFIED).detail == {"leftovers": []}
    agent.signal(signal.SIGCONT)
    agent.end()
    guard.end()
    assert lab.left() == []


def test_everything_terminated_at_once_leaves_nothing(lab: Lab, ingress: None) -> None:
    """A pod's end: agent and guard are told at the same moment and undo the same things."""
    agent, guard = guarded(lab, order(DELAY, peer(ONE)), order(DELAY, peer(TWO)))
    agent.until(Told.IN_FORCE)
    agent.signal(signal.SIGTERM)
    guard.signal(signal.SIGTERM)
    agent.end()
    guard.end()
    assert lab.left() == []


def test_the_interfaces_are_as_before(lab: Lab, ingress: None) -> None:
    def state() -> str:
        with lab.target.entered():
            command = "ip -o link; tc qdisc show; tc filter show dev eth0"
            return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout

    before = state()
    agent, guard = guarded(lab, order(DELAY, peer(ONE)))
    agent.until(Told.IN_FORCE)
    assert state() != before
    stop(agent, guard)
    assert state() == before


def test_a_foreign_root_qdisc_is_left_alone(lab: Lab) -> None:
    with lab.target.entered():
        subprocess.run(["tc", "qdisc", "add", "dev", "eth0", "root", "handle", "5:", "prio"], check=True)
    agent, guard = guarded(lab, order(DELAY, peer(ONE)))
    refused = agent.until(Told.REFUSED)
    assert refused.detail["reason"] == "Conflict"
    assert "eth0 already has a qdisc prio 5:" in refused.detail["message"]
    agent.end()
    guard.end()
    with lab.target.entered():
        shown = subprocess.run(
            ["tc", "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True
        ).stdout
    assert shown.startswith("qdisc prio 5: root")


def test_a_qdisc_that_nobody_took_away_is_told(lab: Lab) -> None:
    """The broken variant of undoing."""
    slow = order(DELAY, peer(ONE))
    agent, guard = guarded(lab, slow)
    agent.until(Told.IN_FORCE)
    guard.signal(signal.SIGSTOP)
    agent.signal(signal.SIGKILL)
    verifier = lab.start(agent.plan, "verify")
    left = verifier.until(Told.VERIFIED).detail["leftovers"]
    assert any("netem" in each for each in left), left
    verifier.end()
    guard.signal(signal.SIGCONT)
    guard.end()
    assert lab.left() == []


def test_what_arrives_is_slowed_for_connections_from_outside_too(lab: Lab, ingress: None) -> None:
    slow = order(DELAY, peer(ONE), direction=Direction.INGRESS)
    with echo(lab.target, TARGET), connect(lab.one, TARGET) as one, connect(lab.two, TARGET) as two:
        agent, guard = guarded(lab, slow)
        agent.until(Told.IN_FORCE)
        assert quickest(one, 5) == pytest.approx(0.1, abs=0.01)
        assert quickest(two, 5) < 0.02
        stop(agent, guard)
