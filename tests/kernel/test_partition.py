"""A partition hits the peers that it names, counts what it hit, and leaves nothing."""

from __future__ import annotations

import contextlib
import math
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bounceback.types.choice import Choice
from bounceback.types.plan import Act, Direction, Drop, Feature, Flow
from bounceback.types.told import Told
from tests.kernel.lab import (
    NODE,
    ONE,
    ONE6,
    PORT,
    TARGET,
    TARGET6,
    TWO,
    TWO6,
    Lab,
    ask,
    connect,
    datagrams,
    deliveries,
    echo,
    order,
    peer,
    plan,
    reach,
)

SILENT, REJECTING = Drop(), Drop(reject=True)


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER)


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(("act", "seen"), [(SILENT, "silence"), (REJECTING, "refused")], ids=["drop", "reject"])
def test_only_the_named_peer_is_cut_off(lab: Lab, act: Act, seen: str, direction: Direction) -> None:
    cut = order(act, peer(ONE), direction=direction)
    with echo(lab.one, ONE), echo(lab.two, TWO), echo(lab.target, TARGET):
        agent = lab.start(plan(cut))
        agent.until(Told.IN_FORCE)
        outward, inward = reach(lab.target, ONE), reach(lab.one, TARGET)
        assert (reach(lab.target, TWO), reach(lab.two, TARGET)) == ("ok", "ok")
        agent.until(Told.HITS)
        assert agent.control({"stop": True})[0] == 0
        assert reach(lab.target, ONE) == reach(lab.one, TARGET) == "ok"
    # Who is rejected learns it; whose answers are rejected waits, as the answer's sender is told.
    if direction != Direction.INGRESS:
        assert outward == seen
    if direction != Direction.EGRESS:
        assert inward == seen
    assert "ok" not in (outward, inward)
    assert lab.left() == []


@pytest.mark.parametrize(
    ("direction", "outward"), [(Direction.EGRESS, True), (Direction.INGRESS, False), (Direction.BOTH, True)]
)
def test_the_counters_equal_what_was_sent(lab: Lab, direction: Direction, outward: bool) -> None:
    cut = order(SILENT, peer(ONE), direction=direction)
    agent = lab.start(plan(cut))
    agent.until(Told.IN_FORCE)
    source, receiver, address = (lab.target, lab.one, ONE) if outward else (lab.one, lab.target, TARGET)
    assert datagrams(source, receiver, address, 137) == 0
    assert datagrams(lab.target, lab.two, TWO, 50) == 50
    agent.control({"stop": True})
    agent.end()
    assert agent.hits(cut.injection) == 137


def test_what_is_lost_while_it_ends_is_counted(lab: Lab) -> None:
    cut = order(SILENT, peer(ONE))
    agent = lab.start(plan(cut))
    agent.until(Told.IN_FORCE)
    ended = threading.Event()
    sent = 0

    def stop() -> None:
        try:
            agent.control({"stop": True})
        finally:
            ended.set()

    def numbers() -> Iterator[int]:
        """Until it has ended, and a thousand more."""
        nonlocal sent
        most = math.inf
        while sent < most:
            if most == math.inf and ended.is_set():
                most = sent + 1000
            if not sent % 100:
                time.sleep(0.001)  # or so many would arrive until the stop is answered that the sink has no room
            yield sent
            sent += 1

    stopping = threading.Timer(0.1, stop)
    stopping.start()
    arrived = deliveries(lab.target, lab.one, ONE, numbers())
    stopping.join()
    agent.end()
    assert 0 < len(arrived) < sent, "it ended meanwhile"
    assert agent.hits(cut.injection) == sent - len(arrived)


def test_the_first_hit_is_told_within_50_ms(lab: Lab) -> None:
    cuts = [order(SILENT, peer(ONE, "UDP", PORT + n)) for n in range(9)]
    agent = lab.start(plan(*cuts))
    agent.until(Told.IN_FORCE, cuts[-1].injection)
    waits = []
    with lab.target.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for n, cut in enumerate(cuts):
            time.sleep(0.137)  # so that the hit falls anywhere between two looks
            sent = time.time()
            with contextlib.suppress(PermissionError):
                sender.sendto(b"x", (ONE, PORT + n))
            time.sleep(0.05)
            late = time.time() - sent - 0.05  # as who waits for so long is on this machine, the agent as well
            waits.append(agent.until(Told.HITS, cut.injection).at.utc - sent - late)
    assert statistics.median(waits) < 0.05  # the median, as a busy machine makes some of them longer


def test_an_established_connection_is_cut_and_comes_back(lab: Lab) -> None:
    with echo(lab.one, ONE), connect(lab.target, ONE) as connection:
        assert ask(connection, 5.0) == "ok"
        agent = lab.start(plan(order(SILENT, peer(ONE))))
        agent.until(Told.IN_FORCE)
        assert ask(connection) == "silence"
        agent.control({"stop": True})
        connection.settimeout(10)
        assert connection.recv(10) == b"x"  # what was lost is sent again
        assert ask(connection, 5.0) == "ok"


def test_exempt_addresses_and_the_gateway_pass_though_everybody_is_cut_off(lab: Lab) -> None:
    with echo(lab.one, ONE), echo(lab.two, TWO), echo(lab.node, NODE), echo(lab.target, "127.0.0.1"):
        agent = lab.start(plan(order(SILENT), exempt=(f"{ONE}/32",)))
        agent.until(Told.IN_FORCE)
        assert reach(lab.target, TWO) == "silence"
        assert reach(lab.target, ONE) == reach(lab.target, NODE) == reach(lab.target, "127.0.0.1") == "ok"


def test_ports_and_protocols_narrow_a_flow(lab: Lab) -> None:
    cut = order(SILENT, peer(ONE, "TCP", PORT), peer(TWO, "UDP"), Flow("10.77.0.0/16", "", (PORT + 1,)))
    with echo(lab.one, ONE), echo(lab.two, TWO), echo(lab.one, ONE, PORT + 1), echo(lab.one, ONE, PORT + 2):
        agent = lab.start(plan(cut))
        agent.until(Told.IN_FORCE)
        assert reach(lab.target, ONE) == "silence"
        assert reach(lab.target, ONE, PORT + 1) == "silence"
        assert reach(lab.target, ONE, PORT + 2) == "ok"
        assert reach(lab.target, TWO) == "ok"
        assert datagrams(lab.target, lab.one, ONE, 5) == 5
        assert datagrams(lab.target, lab.two, TWO, 5) == 0
        assert datagrams(lab.target, lab.one, ONE, 5, PORT + 1) == 0


@pytest.mark.parametrize(("act", "seen"), [(SILENT, "silence"), (REJECTING, "refused")], ids=["drop", "reject"])
def test_ipv6_is_cut_in_the_same_way(lab: Lab, act: Act, seen: str) -> None:
    with echo(lab.one, ONE6), echo(lab.two, TWO6):
        agent = lab.start(plan(order(act, peer(ONE6))))
        agent.until(Told.IN_FORCE)
        assert reach(lab.target, ONE6) == seen
        assert reach(lab.target, TWO6) == "ok"


def test_ipv6_peers_are_found_at_once_after_everybody_was_cut_off(lab: Lab) -> None:
    with echo(lab.target, TARGET6):
        agent = lab.start(plan(order(SILENT)))
        agent.until(Told.IN_FORCE)
        assert reach(lab.one, TARGET6) == "silence"
        agent.control({"stop": True})
        assert reach(lab.one, TARGET6) == "ok"


def test_a_share_of_the_packets_is_lost_within_binomial_bounds(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.NFT_NUMGEN)
    count, share = 2000, 0.3
    lossy = order(Drop(choice=Choice(share)), peer(ONE), direction=Direction.EGRESS)
    agent = lab.start(plan(lossy))
    agent.until(Told.IN_FORCE)
    arrived = datagrams(lab.target, lab.one, ONE, count)
    agent.control({"stop": True})
    agent.end()
    bound = 4 * math.sqrt(count * share * (1 - share))  # that chance is beyond once in 16,000 times
    assert abs(count - arrived - count * share) < bound
    assert agent.hits(lossy.injection) == count - arrived


def test_an_amended_partition_moves_to_the_new_peer(lab: Lab) -> None:
    cut = order(SILENT, peer(ONE))
    with echo(lab.one, ONE), echo(lab.two, TWO):
        agent = lab.start(plan(cut))
        agent.until(Told.IN_FORCE)
        assert (reach(lab.target, ONE), reach(lab.target, TWO)) == ("silence", "ok")
        for flow, seen in [(peer(TWO), ("ok", "silence")), (peer(ONE, "TCP", PORT), ("silence", "ok"))]:
            flows = [{"cidr": flow.cidr, "protocol": flow.protocol, "ports": list(flow.ports)}]
            code, answer = agent.control({"amend": {cut.injection: flows}})
            assert (code, answer["ok"]) == (0, True), answer
            assert (reach(lab.target, ONE), reach(lab.target, TWO)) == seen
        agent.until(Told.AMENDED)
        agent.control({"stop": True})
        agent.end()
    assert agent.hits(cut.injection) > 2  # counted on, not from zero


def test_nothing_slips_through_while_a_partition_is_amended(lab: Lab) -> None:
    cut = order(SILENT, peer(ONE))
    agent = lab.start(plan(cut))
    agent.until(Told.IN_FORCE)
    arrived: list[int] = []
    with lab.one.entered():
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with lab.target.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            with contextlib.suppress(PermissionError):
                arrived.append(sender.sendto(b"x", (ONE, PORT)))

    with sink, sender:
        sink.bind((ONE, PORT))
        thread = threading.Thread(target=send)
        thread.start()
        one, two = ({"cidr": f"{address}/32", "protocol": "", "ports": []} for address in (ONE, TWO))
        for flows in ([one, two], [one], [two, one]):
            assert agent.control({"amend": {cut.injection: flows}})[0] == 0
        done.set()
        thread.join()
    assert arrived == []  # a dropped datagram is an EPERM here


def test_an_amendment_that_is_wrong_changes_nothing(lab: Lab) -> None:
    cut = order(SILENT, peer(ONE))
    with echo(lab.one, ONE), echo(lab.two, TWO):
        agent = lab.start(plan(cut))
        agent.until(Told.IN_FORCE)
        nonsense = {"cidr": "not an address", "protocol": "", "ports": []}
        changes: list[dict[str, Any]] = [{cut.injection: [nonsense]}, {"unknown": []}, {cut.injection: [{}]}]
        for change in changes:
            code, answer = agent.control({"amend": change})
            assert (code, answer["ok"]) == (1, False)
            assert answer["error"]
        assert (reach(lab.target, ONE), reach(lab.target, TWO)) == ("silence", "ok")


def test_two_partitions_compose_and_end_apart(lab: Lab) -> None:
    first = order(SILENT, peer(ONE), duration=5.0)
    second = order(SILENT, peer(TWO), duration=20)
    with echo(lab.one, ONE), echo(lab.two, TWO):
        agent = lab.start(plan(first, second))
        agent.until(Told.IN_FORCE, second.injection)
        assert (reach(lab.target, ONE), reach(lab.target, TWO)) == ("silence", "silence")
        cleared = agent.until(Told.VERIFIED, first.injection)
        assert cleared.detail["leftovers"] == []  # what the other order has is not left over
        assert (reach(lab.target, ONE), reach(lab.target, TWO)) == ("ok", "silence")
        agent.control({"stop": True})
        assert (reach(lab.target, ONE), reach(lab.target, TWO)) == ("ok", "ok")
    assert lab.left() == []


def test_the_evidence_of_one_order_is_whole_and_in_order(lab: Lab) -> None:
    cut = order(SILENT, peer(ONE), duration=8.0)
    agent = lab.start(plan(cut))
    agent.until(Told.IN_FORCE)
    datagrams(lab.target, lab.one, ONE, 1)  # several could be counted in two looks
    told = agent.end()
    assert agent.of(cut.injection) == [Told.IN_FORCE, Told.HITS, Told.CLEARED, Told.VERIFIED]
    assert told[0].told is Told.STARTED
    assert told[-1].told is Told.FINISHED
    assert Told.HEARTBEAT in [line.told for line in told]
    cleared = next(line for line in told if line.told is Told.CLEARED)
    assert cleared.detail == {"why": "Duration"}
    assert [line.hits for line in told if line.told is Told.HITS] == [1]
