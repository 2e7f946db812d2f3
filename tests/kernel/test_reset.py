"""Open connections are broken off by a real RST, those of the named peers and no others; new ones as asked."""

from __future__ import annotations

import contextlib
import errno
import resource
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from bounceback.drivers import Refused, Site, driver, nft, sockets
from bounceback.drivers.netns import Netns
from bounceback.types.choice import Choice
from bounceback.types.plan import Act, Direction, Drop, Feature, Flow, Packets, Reset
from bounceback.types.told import Told
from tests.kernel.lab import ONE, ONE6, PORT, TARGET, TWO, Lab, ask, connect, echo, order, peer, plan, reach

MANY = 5000


@pytest.fixture
def destroys(needs: Callable[..., None]) -> None:
    needs(Feature.SOCK_DESTROY)


@pytest.fixture
def tables(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER, Feature.NFT_REJECT)


@contextlib.contextmanager
def pair(opens: Netns, takes: Netns, address: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: of who opened it, of who took it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with takes.entered():
        server = socket.create_server((address, PORT), family=family)
    with server, connect(opens, address, seconds=5) as client:
        taken, _ = server.accept()
        with taken:
            yield client, taken


def error(end: socket.socket, seconds: float = 2.0) -> str:
    """What the next read says."""
    end.settimeout(seconds)
    try:
        return "data" if end.recv(10) else "closed"
    except TimeoutError:
        return "silence"
    except OSError as problem:
        return errno.errorcode[problem.errno or 0]


@pytest.mark.parametrize("address", [ONE, ONE6])
def test_both_ends_of_a_connection_learn_of_it_at_once(lab: Lab, destroys: None, address: str) -> None:
    reset = order(Reset(), peer(address))
    with pair(lab.target, lab.one, address) as (client, taken), echo(lab.two, TWO), connect(lab.target, TWO) as other:
        agent = lab.start(plan(reset))
        agent.until(Told.IN_FORCE)
        assert error(taken) == "ECONNRESET"
        assert error(client) == "ECONNABORTED"
        assert ask(other, 5.0) == "ok"
        agent.until(Told.HITS)
        with connect(lab.target, TWO) as new:
            assert ask(new, 5.0) == "ok"
        agent.control({"stop": True})
        agent.end()
        assert agent.hits(reset.injection) == 1
    assert lab.left() == []


def test_a_connection_of_ipv4_on_a_socket_of_ipv6_is_known(lab: Lab, destroys: None) -> None:
    with lab.one.entered():
        server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    with lab.target.entered():
        client = socket.create_connection((f"::ffff:{ONE}", PORT))
    with server, client:
        taken, _ = server.accept()
        with taken:
            assert sockets.destroy(lab.target, (peer(ONE6),), ("out",)) == 0
            assert sockets.destroy(lab.target, (peer(ONE),), ("out",)) == 1
            assert error(taken) == "ECONNRESET"


@pytest.mark.parametrize(("direction", "hit"), [(Direction.EGRESS, "out"), (Direction.INGRESS, "in")])
def test_who_opened_a_connection_decides_its_direction(
    lab: Lab, destroys: None, direction: Direction, hit: str
) -> None:
    with (
        pair(lab.target, lab.one, ONE) as (_, taken_there),
        pair(lab.one, lab.target, TARGET) as (opened_there, _),
    ):
        in_force = sockets.apply(order(Reset(), peer(ONE), direction=direction), Site(lab.target))
        assert in_force.hits() == 1
        assert error(taken_there, 0.3) == ("ECONNRESET" if hit == "out" else "silence")
        assert error(opened_there, 0.3) == ("ECONNRESET" if hit == "in" else "silence")
        in_force.revert()


def test_listeners_the_exempt_the_loopback_and_other_ports_are_spared(lab: Lab, destroys: None) -> None:
    with (
        echo(lab.target, "127.0.0.1"),
        connect(lab.target, "127.0.0.1") as inside,
        pair(lab.target, lab.one, ONE) as (client, _),
        echo(lab.two, TWO),
        connect(lab.target, TWO) as exempt,
        echo(lab.one, ONE, PORT + 1),
        connect(lab.target, ONE, PORT + 1) as port,
    ):
        assert sockets.destroy(lab.target, (peer(ONE, "UDP"), peer(ONE, "TCP", PORT + 2)), ("out", "in")) == 0
        assert sockets.destroy(lab.target, (peer(ONE, "", PORT),), ("out", "in")) == 1
        assert error(client) == "ECONNABORTED"
        assert ask(port, 5.0) == "ok"
        assert sockets.destroy(lab.target, (), ("out", "in"), (f"{TWO}/32",)) == 1
        assert ask(inside, 5.0) == ask(exempt, 5.0) == "ok"
        assert reach(lab.target, "127.0.0.1") == "ok"


def test_those_that_are_chosen_are_reset(lab: Lab, destroys: None) -> None:
    with echo(lab.one, ONE), contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(lab.target, ONE)) for _ in range(12)]
        in_force = sockets.apply(order(Reset(choice=Choice(nth=3, first_n=2)), peer(ONE)), Site(lab.target))
        assert in_force.hits() == 2
        in_force.change(None)
        in_force.change(Reset(choice=Choice(probability=0.5, seed=7)))
        hits = in_force.hits()
        assert 2 < hits < 12
        assert [error(each, 0.05) for each in opened].count("ECONNABORTED") == hits
        in_force.revert()


def test_new_connections_are_refused_when_asked_for(lab: Lab, destroys: None, tables: None) -> None:
    with echo(lab.one, ONE), echo(lab.two, TWO), echo(lab.target, TARGET), connect(lab.target, ONE) as connection:
        in_force = sockets.apply(order(Reset(refuse_new=True), peer(ONE)), Site(lab.target))
        assert error(connection) == "ECONNABORTED"
        assert reach(lab.target, ONE) == reach(lab.one, TARGET) == "refused"
        assert reach(lab.target, TWO) == "ok"
        assert in_force.hits() == 3
        in_force.change(None)
        assert reach(lab.target, ONE) == "ok"
        in_force.change(Reset(refuse_new=True))
        assert reach(lab.target, ONE) == "refused"
        in_force.amend((peer(TWO),))
        assert (reach(lab.target, ONE), reach(lab.target, TWO)) == ("ok", "refused")
        in_force.revert()
        assert reach(lab.target, TWO) == "ok"
    assert lab.left() == []


def test_a_kernel_that_cannot_is_told_of(lab: Lab) -> None:
    if sockets.can(lab.target):
        pytest.skip("this kernel ends connections")
    with echo(lab.one, ONE), connect(lab.target, ONE) as connection:
        with pytest.raises(Refused, match="INET_DIAG_DESTROY"):
            sockets.apply(order(Reset(), peer(ONE)), Site(lab.target))
        assert ask(connection, 5.0) == "ok"


def test_five_thousand_connections_are_reset_within_a_second_of_a_processor(
    lab: Lab, destroys: None, record_property: Callable[[str, object], None]
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with lab.one.entered():
        server = socket.create_server((ONE, PORT), backlog=MANY)
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        ends = []
        for _ in range(MANY):
            stack.enter_context(connect(lab.target, ONE, seconds=5))
            ends.append(stack.enter_context(server.accept()[0]))
        selector = stack.enter_context(selectors.EpollSelector())
        for end in ends:
            selector.register(end, selectors.EVENT_READ)
        began, worked = time.monotonic(), time.process_time()
        in_force = sockets.apply(order(Reset(), peer(ONE)), Site(lab.target))
        seconds, worked = time.monotonic() - began, time.process_time() - worked
        assert in_force.hits() == MANY
        assert len(selector.select(0)) == MANY  # every peer knows
        in_force.revert()
    record_property("seconds for 5,000 connections", seconds)
    assert worked < 1.0  # a busy machine may let it wait for one besides


# Where the kernel ends no connections, packets of theirs are answered by an RST


def force(lab: Lab, act: Act, *flows: Flow) -> nft.DropInForce:
    in_force = driver(act).apply(order(act, *(flows or (peer(ONE),))), Site(lab.target))
    assert isinstance(in_force, nft.DropInForce)
    return in_force


def test_an_open_connection_is_reset_by_its_next_packet_and_new_ones_pass(lab: Lab, tables: None) -> None:
    with pair(lab.target, lab.one, ONE) as (client, taken), echo(lab.target, TARGET):
        with connect(lab.one, TARGET) as outside:
            in_force = force(lab, Drop(reject=True, packets=Packets.OPEN))
            client.send(b"x")
            assert error(client) == "ECONNRESET"
            taken.send(b"x")
            assert error(taken) == "ECONNRESET"
            outside.send(b"x")
            assert error(outside) == "ECONNRESET"
        assert reach(lab.one, TARGET) == "ok"
        hits = in_force.hits()
        assert hits >= 3
        assert reach(lab.one, TARGET) == "ok"
        assert in_force.hits() == hits
        in_force.revert()
    assert lab.left() == []


@pytest.mark.parametrize(("reject", "seen"), [(False, "silence"), (True, "refused")])
def test_what_opens_a_connection_is_hit_and_open_ones_are_not(lab: Lab, tables: None, reject: bool, seen: str) -> None:
    with echo(lab.one, ONE), connect(lab.target, ONE) as connection:
        in_force = force(lab, Drop(reject=reject, packets=Packets.OPENING))
        assert ask(connection, 5.0) == "ok"
        assert reach(lab.target, ONE) == seen
        assert ask(connection, 5.0) == "ok"
        assert in_force.hits() >= 1
        in_force.revert()
        assert reach(lab.target, ONE) == "ok"
    assert lab.left() == []
