"""Datagrams and the beginning and end of a relay: who was talking before, who talks on, and what comes late."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable

import dns.message
import dns.rcode
import pytest

from bounceback.types.names import DnsAnswer, DnsRule
from bounceback.types.pattern import OnOff
from bounceback.types.plan import Feature, Redirect
from bounceback.types.told import Told
from tests.kernel.lab import (
    ONE,
    PORT,
    TARGET,
    Lab,
    order,
    plan,
)
from tests.kernel.pods import until
from tests.kernel.udp_lab import (
    answering,
    asked,
    client,
    in_force,
    post,
    quickest,
    slow,
    stop,
    tracked,
)


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_REDIRECT, Feature.NFT_OWNER, Feature.NFT_ZONE)


@pytest.mark.parametrize("other", [False, True], ids=["nobody else tracks", "somebody else tracks"])
def test_who_was_talking_before_is_hit_and_is_free_again_afterwards(lab: Lab, other: bool) -> None:
    """One socket, so one flow in the kernel's eyes: before, during, and after, twice."""
    with (
        tracked(lab.target) if other else contextlib.nullcontext(),
        answering(lab.one, ONE),
        client(lab.target) as asks,
    ):
        for _ in range(2):
            assert quickest(asks) < 0.05
            agent = in_force(lab, order(slow(), post()))
            with client(lab.target) as younger:
                assert quickest(asks) > 0.09
                assert quickest(younger) > 0.09
                stop(agent)
                assert asked(asks) is not None
                assert quickest(asks) < 0.05
                assert quickest(younger) < 0.05
    assert lab.left() == []


@pytest.mark.parametrize("other", [False, True], ids=["nobody else tracks", "somebody else tracks"])
def test_a_killed_agent_leaves_nobody_talking_to_a_relay_that_is_gone(lab: Lab, other: bool) -> None:
    with (
        tracked(lab.target) if other else contextlib.nullcontext(),
        answering(lab.one, ONE),
        client(lab.target) as asks,
    ):
        agent = in_force(lab, order(slow(), post()))
        assert quickest(asks) > 0.09
        agent.signal(signal.SIGKILL)
        agent.process.wait(5)
        killed = time.monotonic()
        while (asked(asks, seconds=0.2) or 1) > 0.05:
            assert time.monotonic() < killed + 3
    assert lab.left() == []


@pytest.mark.parametrize("other", [False, True], ids=["nobody else tracks", "somebody else tracks"])
def test_who_asks_for_names_from_one_socket_hears_lies_and_then_the_truth(lab: Lab, other: bool) -> None:
    """Before, during, after; the true server answers nothing but its question."""
    lie = DnsRule(DnsAnswer.NX_DOMAIN)
    fault = order(Redirect("dns", json.dumps([{"name": "it", **lie.to_json()}]), "Keep", 0.5))
    question = dns.message.make_query("store.test", "A").to_wire()
    with (
        tracked(lab.target) if other else contextlib.nullcontext(),
        answering(lab.one, ONE, 53),
        client(lab.target, ONE, 53) as asks,
    ):
        assert asked(asks, question) is not None
        agent = in_force(lab, fault)
        asks.send(question)
        asks.settimeout(3)
        assert dns.message.from_wire(asks.recv(1000)).rcode() == dns.rcode.NXDOMAIN
        stop(agent)
        assert asked(asks, question) is not None
    assert lab.left() == []


def test_who_talks_all_the_time_loses_little_when_it_begins_and_when_it_ends(lab: Lab) -> None:
    """A datagram each 5 ms from one socket; nothing of what the rule held is lost."""
    answers: set[bytes] = set()
    sent = 0
    over = threading.Event()
    with answering(lab.one, ONE), client(lab.target) as asks:
        asks.settimeout(0.1)

        def hear() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    answers.add(asks.recv(100))

        hearing = threading.Thread(target=hear, daemon=True)
        hearing.start()
        agent = lab.start(plan(order(slow(300), post(), duration=1.5)))
        told = threading.Thread(target=agent.until, args=(Told.FINISHED,), daemon=True)
        told.start()
        while told.is_alive():
            asks.send(b"%d" % sent)
            sent += 1
            time.sleep(0.005)
        with contextlib.suppress(AssertionError):  # how many are missing is told below
            until(lambda: len(answers) >= 0.98 * sent, 10.0)
        over.set()
        hearing.join()
    assert len(answers) >= 0.98 * sent
    assert lab.left() == []


def test_turns_reach_who_is_talking(lab: Lab) -> None:
    held = order(slow(), post(), duration=12, pattern=OnOff(3.0, 3.0))
    with answering(lab.one, ONE), client(lab.target) as asks:
        agent = in_force(lab, held)
        assert quickest(asks, 2) > 0.09
        assert agent.until(Told.STEP).detail == {"percent": 0}
        assert quickest(asks) < 0.05
        assert agent.until(Told.STEP).detail == {"percent": 100}
        assert quickest(asks, 2) > 0.09
        stop(agent)


def test_what_was_held_arrives_when_it_is_over_and_so_do_the_answers(lab: Lab) -> None:
    """Ten seconds were asked for; it is over after one, and nobody waits for the rest."""
    with answering(lab.one, ONE) as came, client(lab.target) as asks:
        agent = in_force(lab, order(slow(10_000), post(), duration=1.0))
        for number in range(5):
            asks.send(b"%d" % number)
        asks.settimeout(3)
        answers = [asks.recv(10) for _ in range(5)]
        assert answers == [b"%d" % number for number in range(5)]
        assert [data for data, _, _ in came] == answers
        agent.end()
        assert quickest(asks) < 0.05


def test_an_answer_that_is_late_comes_from_the_peer_still(lab: Lab) -> None:
    """The peer takes as long as the fault: who looks who speaks is not fooled. The relay stays for half a second more,
    so the answer is given as soon as a datagram shows that nobody is redirected any more."""
    with lab.one.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with lab.target.entered():
        asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def goes_straight() -> bool:
        """The peer sees the port from which this was sent, which is what it says."""
        with client(lab.target) as other, contextlib.suppress(TimeoutError):
            other.send(b"%d" % other.getsockname()[1])
            said, by = server.recvfrom(100)
            return said == b"%d" % by[1]
        return False

    with server, asks:
        server.bind((ONE, PORT))
        server.settimeout(3)
        asks.settimeout(3)
        agent = in_force(lab, order(slow(1), post(), duration=3.0))
        asks.sendto(b"when?", (ONE, PORT))
        _, sender = server.recvfrom(100)
        assert sender[1] != asks.getsockname()[1]
        server.settimeout(0.1)
        until(goes_straight)
        server.sendto(b"now", sender)
        assert asks.recvfrom(100) == (b"now", (ONE, PORT))
        agent.end()


def test_what_a_peer_says_unasked_comes_as_it_is(lab: Lab) -> None:
    """The target is the server here: nobody redirects what comes in, and its own answers go to others' ports."""
    with answering(lab.target, TARGET), client(lab.one, TARGET) as asks:
        agent = in_force(lab, order(slow(), post()))
        assert quickest(asks) < 0.05
        stop(agent)
