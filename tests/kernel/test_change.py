"""A drop changes in place: at once, counted on, and never half."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bounceback.drivers import KernelError, Site, nft
from bounceback.drivers.nft import DropInForce
from bounceback.types.choice import Choice, Chooser
from bounceback.types.plan import Direction, Drop, Feature
from tests.kernel.lab import ONE, PORT, TARGET, TWO, Lab, datagrams, echo, order, peer, reach

EGRESS = Direction.EGRESS


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER, Feature.NFT_NUMGEN, Feature.NFT_LIMIT)


@contextlib.contextmanager
def force(lab: Lab, act: Drop, direction: Direction = EGRESS) -> Iterator[DropInForce]:
    in_force = nft.apply(order(act, peer(ONE), direction=direction), Site(lab.target))
    yield in_force
    in_force.revert()
    assert lab.left() == []


def lost(lab: Lab, count: int) -> list[bool]:
    """Of so many datagrams, which were: the sender is told by an error."""
    fates = []
    with lab.target.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for _ in range(count):
            try:
                sender.sendto(b"x", (ONE, PORT))
                fates.append(False)
            except PermissionError:
                fates.append(True)
            except ConnectionRefusedError:  # what the one before was answered; this one was not sent
                sender.sendto(b"x", (ONE, PORT))
                fates.append(False)
    return fates


def test_a_partition_comes_and_goes(lab: Lab) -> None:
    with echo(lab.one, ONE), force(lab, Drop(reject=True)) as in_force:
        hits = []
        for _ in range(3):
            assert reach(lab.target, ONE) == "refused"
            in_force.change(None)
            hits.append(in_force.hits())
            assert reach(lab.target, ONE) == "ok"
            assert in_force.hits() == hits[-1]
            in_force.change(Drop(reject=True))
    assert 0 < hits[0] < hits[1] < hits[2]


def test_a_loss_grows(lab: Lab) -> None:
    with force(lab, Drop(choice=Choice(0.1))) as in_force:
        seen = 0
        for share in (0.1, 0.5, 1.0):
            in_force.change(Drop().scaled(share))
            arrived = datagrams(lab.target, lab.one, ONE, 1000)
            assert abs(1000 - arrived - 1000 * share) <= 4 * (1000 * share * (1 - share)) ** 0.5
            assert in_force.hits() == seen + 1000 - arrived
            seen = in_force.hits()


def test_nothing_slips_through_while_a_partition_is_changed(lab: Lab) -> None:
    """From all to all, again and again."""
    with force(lab, Drop()) as in_force:
        done = threading.Event()
        passed: list[int] = []
        with lab.target.entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        def send() -> None:
            while not done.is_set():
                with contextlib.suppress(PermissionError):
                    passed.append(sender.sendto(b"x", (ONE, PORT)))

        thread = threading.Thread(target=send)
        with sender:
            thread.start()
            for _ in range(50):
                in_force.change(Drop(choice=Choice(nth=1)))
                in_force.change(Drop())
            done.set()
            thread.join()
        assert passed == []


def test_what_cannot_be_changed_is_refused_and_stays(lab: Lab) -> None:
    with echo(lab.one, ONE), force(lab, Drop()) as in_force:
        for act in (Drop(reject=True), Drop(choice=Choice(first_n=3))):
            with pytest.raises(KernelError, match="can be changed"):
                in_force.change(act)
        assert reach(lab.target, ONE) == "silence"
        in_force.change(None)
        assert reach(lab.target, ONE) == "ok"


def test_an_idle_drop_can_be_amended(lab: Lab) -> None:
    with echo(lab.one, ONE), echo(lab.two, TWO), force(lab, Drop()) as in_force:
        in_force.change(None)
        in_force.amend((peer(TWO),))
        assert (reach(lab.target, ONE), reach(lab.target, TWO)) == ("ok", "ok")
        in_force.change(Drop())
        assert (reach(lab.target, ONE), reach(lab.target, TWO)) == ("ok", "silence")


# Which packets


def test_every_nth_packet_is_hit(lab: Lab) -> None:
    with force(lab, Drop(choice=Choice(nth=3))) as in_force:
        assert lost(lab, 30) == [False, False, True] * 10
        assert in_force.hits() == 10


def test_the_first_packets_are_hit_and_no_more_ever_after(lab: Lab) -> None:
    with force(lab, Drop(choice=Choice(first_n=7))) as in_force:
        assert lost(lab, 20) == [True] * 7 + [False] * 13
        in_force.change(None)
        in_force.change(Drop(choice=Choice(first_n=7)))
        time.sleep(0.5)
        assert lost(lab, 20) == [False] * 20
        assert in_force.hits() == 7


def test_conditions_hold_together_as_they_do_in_the_relay(lab: Lab) -> None:
    chooser = Chooser(Choice(nth=2, first_n=5), "rule")
    with force(lab, Drop(choice=chooser.choice)):
        assert lost(lab, 40) == [chooser.next() for _ in range(40)]
    with force(lab, Drop(choice=Choice(0.5, nth=2, first_n=400))) as in_force:
        fates = lost(lab, 2000)
        assert not any(fates[::2])
        assert abs(sum(fates[:1000]) - 250) < 4 * 125**0.5
        assert sum(fates) == in_force.hits() == 400


@pytest.mark.parametrize("count", [100_000, 1_000_000, 1_000_000_000])
def test_a_large_number_of_first_packets_is_taken(lab: Lab, count: int) -> None:
    with force(lab, Drop(choice=Choice(first_n=count))) as in_force:
        assert all(lost(lab, 50))
        assert in_force.hits() == 50


def test_both_directions_are_counted_together(lab: Lab) -> None:
    with force(lab, Drop(choice=Choice(first_n=4)), Direction.BOTH) as in_force:
        assert datagrams(lab.one, lab.target, TARGET, 3) == 0
        assert lost(lab, 5) == [True] + [False] * 4
        assert in_force.hits() == 4
