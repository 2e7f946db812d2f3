"""A fault that comes and goes, or grows, by a real agent in a real kernel: seen from outside, counted, and gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

import pytest

from bounceback.types.choice import Choice
from bounceback.types.pattern import OnOff, Pattern, Ramp
from bounceback.types.plan import Act, Direction, Drop, Feature, Netem, Order, Rate, Reset
from bounceback.types.told import Told
from tests.kernel.lab import ONE, PORT, Agent, Lab, connect, deliveries, echo, order, peer, plan, reach, round_trip

SECONDS = 4.0
TURN = 4.0
"""Seconds of one that nobody is to sleep through, however busy the machine is."""


def patterned(act: Act, pattern: Pattern, seconds: float = SECONDS) -> Order:
    made = order(act, peer(ONE), direction=Direction.EGRESS, duration=seconds)
    return replace(made, pattern=pattern)


def start(lab: Lab, made: Order) -> Agent:
    agent = lab.start(plan(made, guarded=True))
    lab.start(agent.plan, "guard")
    agent.until(Told.IN_FORCE)
    return agent


def steps(agent: Agent) -> list[float]:
    return [line.detail["percent"] for line in agent.told if line.told is Told.STEP]


def test_a_partition_comes_and_goes(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER)
    cut = patterned(Drop(), OnOff(TURN, TURN), seconds=4 * TURN)
    lost = 0
    fates = []
    with lab.target.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        agent = start(lab, cut)
        end = time.monotonic() + 4 * TURN + 0.5
        while time.monotonic() < end:
            try:
                sender.sendto(b"x", (ONE, PORT))
                fates.append(False)
            except PermissionError:
                fates.append(True)
                lost += 1
            except ConnectionRefusedError:  # what the one before was answered
                continue
            time.sleep(0.005)
    agent.end()
    turns = [fate for fate, _ in groupby(fates)]
    assert turns == [True, False] * 2
    assert 0.3 < lost / len(fates) < 0.6
    assert agent.hits(cut.injection) == lost
    assert steps(agent) == [0, 100, 0]
    assert lab.left() == []


def test_a_delay_comes_and_goes_and_loses_nothing(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.NETEM, Feature.PRIO, Feature.U32)
    slow = patterned(Netem(100_000), OnOff(1.0, 1.0), seconds=2 * SECONDS)
    agent = start(lab, slow)
    arrived = deliveries(lab.target, lab.one, ONE, 1000, pace=0.005)
    agent.end()
    assert sorted(number for number, _ in arrived) == list(range(1000))
    held = [took > 0.09 for _, took in sorted(arrived)]
    assert 100 < sum(held) < 900
    assert len([turn for turn, group in groupby(held) if len(list(group)) > 20]) >= 4
    assert sum(held) - 50 < agent.hits(slow.injection) < sum(held) + 50  # but for those at the very turns
    assert lab.left() == []


def test_a_loss_grows_by_steps(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER, Feature.NFT_NUMGEN)
    lossy = patterned(Drop(choice=Choice(0.8)), Ramp(0.25, 1.0, 4), seconds=6.0)
    agent = start(lab, lossy)
    arrived = {number for number, _ in deliveries(lab.target, lab.one, ONE, 1400, pace=0.004)}
    agent.end()
    lost = [number not in arrived for number in range(1400)]
    shares = [sum(lost[n : n + 100]) / 100 for n in range(0, 1400, 100)]
    assert shares[0] < 0.45
    assert max(shares) > 0.6
    assert agent.hits(lossy.injection) == sum(lost)
    assert steps(agent) == [25, 50, 75, 100]
    assert lab.left() == []


def test_a_limit_comes_and_goes(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.TBF, Feature.U32)
    roomy = Rate(20_000, 3_000, 60_000_000)  # its queue holds them all, however late a turn is
    slow = patterned(roomy, OnOff(1.0, 1.0))
    agent = start(lab, slow)
    arrived = deliveries(lab.target, lab.one, ONE, 700, pace=0.005, size=458)
    agent.end()
    assert len(arrived) == 700  # what waits when the limit goes is let through
    waited = [took > 0.05 for _, took in sorted(arrived)]
    assert 100 < sum(waited) < 650
    assert agent.hits(slow.injection) > 50
    assert lab.left() == []


def test_connections_are_reset_each_time_that_the_fault_comes_back(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.SOCK_DESTROY, Feature.NFT_IP, Feature.NFT_OWNER, Feature.NFT_REJECT)
    reset = patterned(Reset(refuse_new=True), OnOff(TURN, TURN), seconds=3 * TURN)
    with echo(lab.one, ONE), connect(lab.target, ONE) as first:
        agent = start(lab, reset)
        with pytest.raises(ConnectionAbortedError):
            first.recv(1)
        assert reach(lab.target, ONE) == "refused"
        while steps(agent)[-1:] != [0]:
            agent.until(Told.STEP)
        with connect(lab.target, ONE) as second:
            round_trip(second)
            agent.until(Told.STEP)
            second.settimeout(20)
            with pytest.raises(ConnectionAbortedError):
                second.recv(1)
        agent.end()
        assert agent.hits(reset.injection) >= 3
        assert reach(lab.target, ONE) == "ok"
    assert lab.left() == []
