"""Datagrams through the relay in a target's network: whose, and what it makes of them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from bounceback.drivers.libnft import Nft
from bounceback.drivers.netns import Netns
from bounceback.types.choice import Choice
from bounceback.types.datagrams import MOST_PAIRS
from bounceback.types.plan import Direction, Feature, Flow
from bounceback.types.relay import Act, Corrupt, Drawn, Duplicate, Lose, Reorder, Silence, Throttle
from bounceback.types.told import Told
from tests.kernel.lab import (
    ONE,
    ONE6,
    PORT,
    TWO,
    Agent,
    Lab,
    connect,
    echo,
    order,
    peer,
    plan,
    round_trip,
)
from tests.kernel.pods import until
from tests.kernel.udp_lab import (
    EGRESS,
    INGRESS,
    answering,
    asked,
    client,
    in_force,
    post,
    quickest,
    relayed,
    slow,
    stop,
)


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_REDIRECT, Feature.NFT_OWNER, Feature.NFT_ZONE)


@pytest.mark.parametrize("address", [ONE, ONE6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("direction", "ways"), [(EGRESS, 1), (INGRESS, 1), (Direction.BOTH, 2)])
def test_what_is_said_by_udp_is_slow(lab: Lab, address: str, direction: Direction, ways: int) -> None:
    held = order(slow(direction=direction), post(address))
    with answering(lab.one, address) as came, client(lab.target, address) as asks:
        assert quickest(asks) < 0.05
        agent = in_force(lab, held)
        there, back = [], []
        for number in range(3):
            began = time.monotonic()
            took = asked(asks, b"held %d" % number)
            assert took is not None
            there.append(came[-1][1] - began)
            back.append(took)
        assert min(back) == pytest.approx(0.1 * ways, abs=0.04)
        assert (min(there) > 0.09) is (direction is not INGRESS)
        agent.until(Told.HITS)
        stop(agent)
        assert quickest(asks) < 0.05
    assert agent.hits(held.injection) == 3 * ways
    assert lab.left() == []


def test_tcp_and_other_peers_and_other_ports_are_not_touched(lab: Lab) -> None:
    held = order(slow(), post())
    with (
        echo(lab.one, ONE),
        answering(lab.one, ONE),
        answering(lab.one, ONE, PORT + 1),
        answering(lab.two, TWO),
        client(lab.target) as hit,
        client(lab.target, ONE, PORT + 1) as other_port,
        client(lab.target, TWO) as other_peer,
    ):
        agent = in_force(lab, held)
        assert quickest(hit) > 0.09
        assert quickest(other_port) < 0.05
        assert quickest(other_peer) < 0.05
        with connect(lab.target, ONE) as tcp:
            assert min(round_trip(tcp) for _ in range(5)) < 0.05
        stop(agent)


def test_tcp_and_udp_of_one_fault(lab: Lab) -> None:
    held = order(slow(), post(), peer(ONE, "TCP", PORT))
    with echo(lab.one, ONE), answering(lab.one, ONE), client(lab.target) as asks:
        agent = in_force(lab, held)
        assert quickest(asks) > 0.09
        with connect(lab.target, ONE, seconds=3) as tcp:
            assert round_trip(tcp) > 0.09
        stop(agent)
    assert lab.left() == []


def test_many_peers_each_answer_for_themselves(lab: Lab) -> None:
    ports = range(PORT, PORT + MOST_PAIRS)
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(answering(lab.one, ONE, port))
        asking = [stack.enter_context(client(lab.target, ONE, port)) for port in ports]
        agent = in_force(lab, order(slow(), post(ONE, *ports), duration=60.0))
        for port, asks in zip(ports, asking, strict=True):
            assert (asked(asks, b"%d" % port) or 0) > 0.09
        stop(agent)
    assert lab.left() == []


ALL_OF_THEM = 200


@pytest.mark.parametrize(
    ("act", "choice", "least", "most"),
    [
        (Silence(), Choice(), 0, 0),
        (Lose(1.0), Choice(), 0, 0),
        (Lose(0.3), Choice(), 110, 170),
        (Lose(1.0), Choice(nth=4), 150, 150),
        (Duplicate(1.0), Choice(), 400, 400),
        (Corrupt(1.0), Choice(), 200, 200),
    ],
    ids=["silence", "all lost", "some lost", "every fourth lost", "twice", "corrupt"],
)
def test_what_each_act_makes_of_datagrams(lab: Lab, act: Act, choice: Choice, least: int, most: int) -> None:
    fault = order(relayed(act, choice=choice, per=Drawn.SEGMENT if isinstance(act, Lose) else None), post())
    texts = [b"%03d" % n + b"." * 97 for n in range(ALL_OF_THEM)]
    with answering(lab.one, ONE) as came, client(lab.target) as asks:
        agent = in_force(lab, fault)
        for text in texts:
            asks.send(text)
            time.sleep(0.0005)
        until(lambda: len(came) >= least)
        time.sleep(0.6)  # and no more than may
        found = [data for data, _, _ in came]
        assert least <= len(found) <= most
        if isinstance(act, Corrupt):
            assert all(data != text and len(data) == 100 for data, text in zip(found, texts, strict=True))
        else:
            assert set(found) <= set(texts)
        stop(agent)
    assert agent.hits(fault.injection) >= ALL_OF_THEM - most
    assert lab.left() == []


def test_a_line_that_is_too_slow(lab: Lab) -> None:
    """A burst, and what the rate carries in as long as it took: the rest would have to wait for too long."""
    fault = order(relayed(Throttle(10_000, 2_000, True, 100_000)), post())
    with answering(lab.one, ONE) as came, client(lab.target) as asks:
        agent = in_force(lab, fault)
        began = time.monotonic()
        for number in range(ALL_OF_THEM):
            asks.send(b"%03d" % number + b"." * 97)
            time.sleep(0.0005)
        until(lambda: len(came) >= 20)
        time.sleep(1.0)  # and no more than may
        took = came[-1][1] - began
        assert 20 <= len(came) <= 20 + 100 * took + 5  # less, where this machine was busy with others
        stop(agent)
    assert agent.hits(fault.injection) >= ALL_OF_THEM - len(came)
    assert lab.left() == []


def test_some_overtake_others(lab: Lab) -> None:
    with answering(lab.one, ONE) as came, client(lab.target) as asks:
        agent = in_force(lab, order(relayed(Reorder(0.2, delay_us=50_000)), post()))
        for number in range(100):
            asks.send(b"%d" % number)
            time.sleep(0.001)
        until(lambda: len(came) >= 100)
        numbers = [int(data) for data, _, _ in came]
        stop(agent)
    assert sorted(numbers) == list(range(100))
    assert numbers != sorted(numbers)


def test_a_large_datagram_and_an_empty_one(lab: Lab) -> None:
    with answering(lab.one, ONE), client(lab.target) as asks:
        agent = in_force(lab, order(slow(10), post()))
        for text in (b"", b"y" * 1472, b"z" * 60_000):
            assert asked(asks, text) is not None, len(text)
        stop(agent)


def test_two_relays_and_a_datagram_goes_through_both(lab: Lab) -> None:
    one, two = order(slow(60), post()), order(slow(90), post(), duration=8.0)
    with answering(lab.one, ONE), client(lab.target) as asks:
        agent = in_force(lab, one, two)
        assert quickest(asks) > 0.145  # what is due within half a millisecond goes at once
        agent.until(Told.VERIFIED, two.injection)
        assert 0.055 < quickest(asks) < 0.145
        stop(agent)
        assert quickest(asks) < 0.05
    assert lab.left() == []


def test_other_peers_while_it_runs(lab: Lab) -> None:
    held = order(slow(), post())
    with (
        answering(lab.one, ONE),
        answering(lab.two, TWO),
        client(lab.target) as first,
        client(lab.target, TWO) as second,
    ):
        agent = in_force(lab, held)
        assert quickest(first) > 0.09
        assert quickest(second) < 0.05
        for flows, hit, spared in (((post(TWO),), second, first), ((post(),), first, second)):
            code, answer = agent.control({"amend": {held.injection: [asdict(flow) for flow in flows]}})
            assert code == 0, answer
            assert quickest(hit) > 0.09
            assert asked(spared) is not None
            assert quickest(spared) < 0.05
            assert len(listeners(agent, lab.target)) == 1
        stop(agent)
    assert lab.left() == []


def listeners(agent: Agent, where: Netns) -> list[str]:
    """Of the relay, for datagrams."""
    pid = agent.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    with where.entered():
        told = subprocess.run(["ss", "-4Hulnp"], capture_output=True, text=True, check=True).stdout
    return [line for line in told.splitlines() if f"pid={child}," in line]


def test_who_is_exempt_is_spared(lab: Lab) -> None:
    held = order(slow(), post(), post(TWO))
    with (
        answering(lab.one, ONE),
        answering(lab.two, TWO),
        client(lab.target) as hit,
        client(lab.target, TWO) as spared,
    ):
        agent = lab.start(plan(held, exempt=(f"{TWO}/32",)))
        agent.until(Told.IN_FORCE)
        assert quickest(hit) > 0.09
        assert quickest(spared) < 0.05
        stop(agent)


def test_peers_of_udp_may_come_when_there_were_none(lab: Lab) -> None:
    held = order(slow(), peer(ONE, "TCP", PORT))
    with answering(lab.one, ONE), client(lab.target) as asks:
        agent = in_force(lab, held)
        assert quickest(asks) < 0.05
        assert agent.control({"amend": {held.injection: [asdict(post())]}})[0] == 0
        assert quickest(asks) > 0.09
        stop(agent)


def test_peers_that_cannot_be_relayed_leave_those_before_in_force(lab: Lab) -> None:
    held = order(slow(), post())
    with answering(lab.one, ONE), client(lab.target) as asks:
        agent = in_force(lab, held)
        code, answer = agent.control({"amend": {held.injection: [asdict(Flow("10.77.2.0/24", "UDP", (PORT,)))]}})
        assert code != 0
        assert "10.77.2.0/24 has many" in json.dumps(answer)
        assert quickest(asks) > 0.09
        stop(agent)
    assert lab.left() == []


@pytest.mark.parametrize(
    ("flows", "why"),
    [
        ((Flow("10.77.1.0/24", "UDP", (PORT,)),), "10.77.1.0/24 has many"),
        ((Flow(f"{ONE}/32", "UDP"),), "has none"),
        (tuple(post(ONE, port) for port in range(PORT, PORT + MOST_PAIRS + 1)), "the peers have 65"),
    ],
    ids=["a network", "no port", "too many"],
)
def test_what_cannot_be_relayed_is_refused_before_anything_is_touched(
    lab: Lab, flows: tuple[Flow, ...], why: str
) -> None:
    fault = order(slow(), *flows)
    agent = lab.start(plan(fault))
    refused = agent.until(Told.REFUSED, fault.injection)
    assert refused.detail["reason"] == "CannotRelay"
    assert why in refused.detail["message"]
    agent.end()
    assert lab.left() == []


def test_without_zones_it_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a kernel that does not know them."""
    from bounceback.drivers import KernelError, Refused, Site, relay

    def run(self: Nft, rules: str, whole: Callable[[Nft, str], None] = Nft.run) -> None:
        if "ct zone" in rules:
            raise KernelError("nft: Error: Could not process rule: Operation not supported")
        whole(self, rules)

    monkeypatch.setattr(Nft, "run", run)
    with pytest.raises(Refused, match="nft-ct-zone"):
        relay.apply(order(slow(), post()), Site(lab.target))
    assert lab.left() == []
    only_tcp = relay.apply(order(slow(), peer(ONE)), Site(lab.target))
    only_tcp.revert()


def test_without_family_inet_each_version_of_ip_has_its_table(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on kernels that have not got it: for connections as well as for datagrams."""
    from bounceback.drivers import KernelError, Site, relay

    def run(self: Nft, rules: str, whole: Callable[[Nft, str], None] = Nft.run) -> None:
        if "table inet" in rules:
            raise KernelError("nft: Error: Could not process rule: Operation not supported")
        whole(self, rules)

    monkeypatch.setattr(Nft, "run", run)
    peers = [(lab.one, ONE), (lab.one, ONE6)]
    with contextlib.ExitStack() as stack:
        for where, address in peers:
            stack.enter_context(echo(where, address))
            stack.enter_context(answering(where, address))
        asking = [stack.enter_context(client(lab.target, address)) for _, address in peers]
        flows = [flow for _, address in peers for flow in (post(address), peer(address, "TCP", PORT))]
        in_force = relay.apply(order(slow(), *flows), Site(lab.target))
        try:
            assert in_force.detail["with"] == "relay by nft ip and ip6"
            assert min(map(quickest, asking)) > 0.09
            for _, address in peers:
                with connect(lab.target, address, seconds=3) as tcp:
                    assert round_trip(tcp) > 0.09
            in_force.amend((post(ONE6),))
            assert quickest(asking[0]) < 0.05
            assert quickest(asking[1]) > 0.09
            in_force.lift()
            assert asked(asking[1]) is not None
            assert max(map(quickest, asking)) < 0.05
        finally:
            in_force.revert()
    assert lab.left() == []
