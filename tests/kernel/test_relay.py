"""The relay in a target's network: what it does to connections, to whom, and that it goes without a trace."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from bounceback.types.choice import Choice
from bounceback.types.pattern import OnOff
from bounceback.types.plan import Direction, Feature, Order, Redirect
from bounceback.types.relay import Act, Hold, LimitData, Refuse, Reset, Rule, Silence
from bounceback.types.told import Told
from tests.kernel.lab import (
    NODE,
    ONE,
    ONE6,
    PORT,
    TARGET,
    TWO,
    Lab,
    ask,
    connect,
    echo,
    order,
    peer,
    plan,
    reach,
    round_trip,
)


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_REDIRECT, Feature.NFT_OWNER)


def relayed(
    act: Act,
    choice: Choice | None = None,
    existing: str = "Keep",
    drain: float = 0.5,
    direction: Direction = Direction.BOTH,
) -> Redirect:
    rule = Rule("it", act, direction, choice or Choice())
    return Redirect("tcp", json.dumps([asdict(rule)]), existing, drain)


def slow(milliseconds: int = 100, **more: object) -> Redirect:
    return relayed(Hold(delay_us=milliseconds * 1000), **more)  # type: ignore[arg-type]


def quickest(connection: socket.socket, times: int = 5, below: float = math.inf) -> float:
    """Of so many round trips; of up to thirty where a machine that stands still lets none be that quick."""
    trips = [round_trip(connection) for _ in range(times)]
    while min(trips) >= below and len(trips) < 30:
        trips.append(round_trip(connection))
    return min(trips)


def children(of: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


def test_relays_that_are_due_together_come_up_together(lab: Lab) -> None:
    orders = [order(slow(), peer(ONE, "TCP", PORT + n)) for n in range(4)]
    agent = lab.start(plan(*orders))
    agent.until(Told.IN_FORCE)  # the first one; started one after the other, hardly another one would be there
    assert len(children(agent.process.pid)) == len(orders)
    for _ in orders[1:]:
        agent.until(Told.IN_FORCE)
    agent.signal(signal.SIGTERM)
    agent.end()
    assert [agent.of(each.injection)[-2:] for each in orders] == [[Told.CLEARED, Told.VERIFIED]] * len(orders)
    assert lab.left() == []


@pytest.mark.parametrize(
    ("direction", "there", "back"), [(Direction.EGRESS, 1, 1), (Direction.INGRESS, 1, 1), (Direction.BOTH, 2, 2)]
)
def test_connections_with_the_peer_are_slow_both_those_made_and_those_taken(
    lab: Lab, direction: Direction, there: int, back: int
) -> None:
    held = order(slow(direction=direction), peer(ONE), direction=direction)
    with echo(lab.one, ONE), echo(lab.two, TWO), echo(lab.target, TARGET):
        agent = lab.start(plan(held))
        agent.until(Told.IN_FORCE)
        with connect(lab.target, ONE, seconds=3) as made, connect(lab.one, TARGET, seconds=3) as taken:
            assert quickest(made, below=0.1 * there + 0.03) == pytest.approx(0.1 * there, abs=0.03)
            assert quickest(taken, below=0.1 * back + 0.03) == pytest.approx(0.1 * back, abs=0.03)
        with connect(lab.target, TWO) as other:
            assert quickest(other) < 0.05
        agent.until(Told.HITS)
        assert agent.control({"stop": True})[0] == 0
        agent.end()
        with connect(lab.target, ONE) as made:
            assert quickest(made) < 0.05
    assert agent.hits(held.injection) >= 10 * there
    assert lab.left() == []


def test_what_the_target_sends_is_told_from_what_it_gets(lab: Lab) -> None:
    """Five bytes may go out, any number may come in; on connections that the target made and on those it took."""
    cut = order(relayed(LimitData(size=5), direction=Direction.EGRESS), peer(ONE))
    with echo(lab.one, ONE), echo(lab.target, TARGET):
        agent = lab.start(plan(cut))
        agent.until(Told.IN_FORCE)
        for client, address in ((lab.target, ONE), (lab.one, TARGET)):
            with connect(client, address, seconds=3) as connection:
                answers = []
                for _ in range(8):
                    try:
                        answers.append(ask(connection, 2))
                    except OSError:
                        break
                assert answers.count("ok") in (4, 5), answers
        agent.control({"stop": True})
        agent.end()
    assert lab.left() == []


def test_ipv6_and_exempt_peers(lab: Lab) -> None:
    everybody = order(slow())
    with echo(lab.one, ONE6), echo(lab.two, TWO), echo(lab.node, NODE):
        agent = lab.start(plan(everybody, exempt=(f"{TWO}/32",)))
        agent.until(Told.IN_FORCE)
        with connect(lab.target, ONE6, seconds=3) as connection:
            assert quickest(connection) > 0.19
        with connect(lab.target, TWO) as spared, connect(lab.target, NODE) as gateway:
            assert quickest(spared) < 0.05
            assert quickest(gateway) < 0.05
        agent.control({"stop": True})
        agent.end()
    assert lab.left() == []


def test_two_relays_and_the_connection_goes_through_both(lab: Lab) -> None:
    one, two = order(slow(50), peer(ONE)), order(slow(80), peer(ONE), duration=10.0)
    with echo(lab.one, ONE):
        agent = lab.start(plan(one, two))
        for each in (one, two):
            agent.until(Told.IN_FORCE, each.injection)
        with connect(lab.target, ONE, seconds=3) as connection:
            assert quickest(connection) > 0.25  # what is due within half a millisecond goes at once
        agent.until(Told.VERIFIED, two.injection)
        with connect(lab.target, ONE, seconds=3) as connection:
            assert 0.095 < quickest(connection) < 0.25
        agent.control({"stop": True})
        agent.end()
    assert lab.left() == []


def test_live_connections_are_reset_where_that_is_asked_for_and_kept_otherwise(lab: Lab) -> None:
    with echo(lab.one, ONE), connect(lab.target, ONE) as kept:
        assert ask(kept, 5.0) == "ok"
        agent = lab.start(plan(order(slow(), peer(ONE))))
        agent.until(Told.IN_FORCE)
        assert quickest(kept) < 0.05
        agent.control({"stop": True})
        agent.end()
        agent = lab.start(plan(order(slow(existing="Reset"), peer(ONE))))
        line = agent.until(Told.IN_FORCE)
        assert line.detail["reset"] == "1"
        with pytest.raises(ConnectionError):  # ECONNABORTED here, where the socket is destroyed; its peer gets the RST
            ask(kept)
        agent.control({"stop": True})
        agent.end()


def test_what_will_not_end_is_reset_when_the_relay_goes_and_that_is_told(lab: Lab) -> None:
    with echo(lab.one, ONE):
        held = order(slow(drain=2), peer(ONE), duration=8.0)
        agent = lab.start(plan(held))
        in_force = agent.until(Told.IN_FORCE)
        with connect(lab.target, ONE, seconds=3) as stays:
            assert ask(stays, 3) == "ok"
            cleared = agent.until(Told.CLEARED)
            assert cleared.detail == {"why": "Duration", "cutOff": 1}
            assert 7.9 < cleared.at.since(in_force.at) < 9.5  # when the fault was over, not when the last one had gone
            with pytest.raises(ConnectionResetError):
                ask(stays)
        agent.end()
    assert lab.left() == []


def test_who_is_in_the_relay_at_the_end_may_finish_in_peace(lab: Lab) -> None:
    """The kernel must go on translating its addresses, though nobody else's table asks for that."""
    with echo(lab.one, ONE):
        agent = lab.start(plan(order(slow(drain=10), peer(ONE), duration=3.0)))
        agent.until(Told.IN_FORCE)
        with connect(lab.target, ONE, seconds=3) as stays:
            assert quickest(stays, 1) > 0.19
            end = time.monotonic() + 10
            while round_trip(stays) > 0.05:
                assert time.monotonic() < end
            for _ in range(10):  # also once the redirect is gone
                assert ask(stays, 3) == "ok"
                time.sleep(0.05)
            assert quickest(stays) < 0.05
        assert agent.until(Told.CLEARED).detail == {"why": "Duration"}
        agent.end()
    assert lab.left() == []


@pytest.mark.parametrize(("act", "seen"), [(Refuse(), "refused"), (Silence(), "silence")], ids=["refuse", "silence"])
def test_down_and_silent(lab: Lab, act: Act, seen: str) -> None:
    fault = order(relayed(act), peer(ONE, "TCP", PORT))
    with echo(lab.one, ONE), echo(lab.one, ONE, PORT + 1):
        agent = lab.start(plan(fault))
        agent.until(Told.IN_FORCE)
        assert reach(lab.target, ONE) == seen
        assert reach(lab.target, ONE, PORT + 1) == "ok"
        agent.control({"stop": True})
        agent.end()
        assert reach(lab.target, ONE) == "ok"
    assert lab.left() == []


def test_every_third_connection_is_reset(lab: Lab) -> None:
    fault = order(relayed(Reset(), Choice(nth=3)), peer(ONE), direction=Direction.BOTH)
    with echo(lab.one, ONE):
        agent = lab.start(plan(fault))
        agent.until(Told.IN_FORCE)
        seen = []
        for _ in range(9):
            try:
                with connect(lab.target, ONE) as connection:
                    seen.append(ask(connection))
            except ConnectionResetError:
                seen.append("reset")
        assert seen == ["ok", "ok", "reset"] * 3
        agent.control({"stop": True})
        agent.end()
    assert agent.hits(fault.injection) == 3


def test_turns_reach_live_connections(lab: Lab) -> None:
    held: Order = order(slow(), peer(ONE), duration=12, pattern=OnOff(3.0, 3.0))
    with echo(lab.one, ONE):
        agent = lab.start(plan(held))
        agent.until(Told.IN_FORCE)
        with connect(lab.target, ONE, seconds=3) as connection:
            assert quickest(connection, 2) > 0.19
            assert agent.until(Told.STEP).detail == {"percent": 0}
            assert quickest(connection, 3) < 0.05
            assert agent.until(Told.STEP).detail == {"percent": 100}
            assert quickest(connection, 2) > 0.19
        agent.control({"stop": True})
        agent.end()


def test_other_peers_while_it_runs(lab: Lab) -> None:
    held = order(slow(), peer(ONE))
    with echo(lab.one, ONE), echo(lab.two, TWO):
        agent = lab.start(plan(held))
        agent.until(Told.IN_FORCE)
        code, _ = agent.control({"amend": {held.injection: [asdict(peer(TWO))]}})
        assert code == 0
        with connect(lab.target, ONE) as before, connect(lab.target, TWO, seconds=3) as after:
            assert quickest(before) < 0.05
            assert quickest(after) > 0.19
        agent.control({"stop": True})
        agent.end()
    assert lab.left() == []


def test_a_killed_agent_leaves_neither_redirect_nor_relay(lab: Lab) -> None:
    with echo(lab.one, ONE):
        agent = lab.start(plan(order(slow(), peer(ONE))))
        agent.until(Told.IN_FORCE)
        (child,) = children(agent.process.pid)
        with connect(lab.target, ONE, seconds=3) as connection:
            assert ask(connection, 3) == "ok"
            agent.signal(signal.SIGKILL)
            killed = time.monotonic()
            while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text():
                assert time.monotonic() < killed + 2
                time.sleep(0.01)
            while reach(lab.target, ONE) != "ok":
                assert time.monotonic() < killed + 2
            with pytest.raises(ConnectionResetError):
                ask(connection)
    assert lab.left() == []


def test_a_killed_relay_is_told_and_undone_while_other_orders_go_on(lab: Lab) -> None:
    fault, other = order(slow(), peer(ONE)), order(slow(), peer(TWO))
    with echo(lab.one, ONE), echo(lab.two, TWO):
        agent = lab.start(plan(fault, other))
        agent.until(Told.IN_FORCE, fault.injection)
        child, *_ = children(agent.process.pid)  # of the first order
        agent.until(Told.IN_FORCE, other.injection)
        os.kill(child, signal.SIGKILL)
        assert "the relay ended" in agent.until(Told.FAILED, fault.injection).detail["message"]
        assert agent.until(Told.VERIFIED, fault.injection).detail == {"leftovers": []}
        assert reach(lab.target, ONE) == "ok"
        with connect(lab.target, TWO, seconds=3) as connection:
            assert quickest(connection) > 0.19
        agent.control({"stop": True})
        agent.end()
    assert lab.left() == []


def test_who_comes_to_the_relay_on_purpose_is_not_led_round_in_circles(lab: Lab) -> None:
    with echo(lab.one, ONE):
        agent = lab.start(plan(order(slow(), peer(ONE))))
        agent.until(Told.IN_FORCE)
        (child,) = children(agent.process.pid)
        with connect(lab.target, ONE, seconds=3) as through:  # conntrack is at work
            assert ask(through, 3) == "ok"
            before = len(list(Path(f"/proc/{child}/fd").iterdir()))
            for port in listening(child, lab):
                with pytest.raises(ConnectionError), connect(lab.two, TARGET, port, 3) as stranger:
                    stranger.sendall(b"x")
                    if not stranger.recv(10):
                        raise ConnectionResetError
            assert len(list(Path(f"/proc/{child}/fd").iterdir())) <= before + 2
        agent.control({"stop": True})
        agent.end()


def listening(child: int, lab: Lab) -> list[int]:
    """Ports on which a relay takes connections from outside."""
    with lab.target.entered():
        told = subprocess.run(["ss", "-4Htlnp"], capture_output=True, text=True, check=True).stdout
    ours = [line.split()[3] for line in told.splitlines() if f"pid={child}," in line]
    return [int(address.rpartition(":")[2]) for address in ours if not address.startswith("127.")]


def test_who_stops_a_fault_does_not_wait_for_its_connections(lab: Lab) -> None:
    with echo(lab.one, ONE):
        agent = lab.start(plan(order(slow(drain=60), peer(ONE))))
        agent.until(Told.IN_FORCE)
        with connect(lab.target, ONE, seconds=3) as stays:
            assert ask(stays, 3) == "ok"
            began = time.monotonic()
            assert agent.control({"stop": True})[0] == 0
            assert time.monotonic() - began < 10
        agent.end()
    assert lab.left() == []
