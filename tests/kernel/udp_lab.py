"""Datagrams of tests: who answers them, who asks, and relays between the two."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

from bounceback.drivers.libnft import Nft
from bounceback.drivers.netns import Netns
from bounceback.types.choice import Choice
from bounceback.types.plan import Direction, Flow, Order, Redirect
from bounceback.types.relay import Act, Drawn, Hold, Rule
from bounceback.types.told import Told
from tests.kernel.lab import (
    ONE,
    PORT,
    SO_RCVBUFFORCE,
    Agent,
    Lab,
    peer,
    plan,
)

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS


def relayed(
    act: Act,
    direction: Direction = EGRESS,
    choice: Choice | None = None,
    per: Drawn | None = None,
    drain: float = 1.0,
) -> Redirect:
    return Redirect("tcp", json.dumps([asdict(Rule("it", act, direction, choice or Choice(), per))]), "Keep", drain)


def slow(milliseconds: int = 100, direction: Direction = EGRESS) -> Redirect:
    return relayed(Hold(delay_us=milliseconds * 1000), direction)


def post(address: str = ONE, *ports: int) -> Flow:
    return peer(address, "UDP", *(ports or (PORT,)))


@contextlib.contextmanager
def answering(where: Netns, address: str, port: int = PORT) -> Iterator[list[tuple[bytes, float, int]]]:
    """Answers each datagram with itself; what came, when, and from which port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with where.entered():
        server = socket.socket(family, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    server.bind((address, port))
    server.settimeout(0.1)
    came: list[tuple[bytes, float, int]] = []
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                data, sender = server.recvfrom(65535)
                came.append((data, time.monotonic(), sender[1]))
                server.sendto(data, sender)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield came
    finally:
        stop.set()
        thread.join(2)
        server.close()


@contextlib.contextmanager
def client(where: Netns, address: str = ONE, port: int = PORT) -> Iterator[socket.socket]:
    """With one port of its own from the start to the end, that takes answers from its peer alone."""
    with where.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.connect((address, port))
        yield sock


def asked(sock: socket.socket, text: bytes = b"x", seconds: float = 20.0) -> float | None:
    """Seconds until the answer to this came; None: none in time, or none can."""
    began = time.perf_counter()
    deadline = began + seconds
    with contextlib.suppress(OSError):
        sock.send(text)
        while (left := deadline - time.perf_counter()) > 0:
            sock.settimeout(left)
            if sock.recv(65535) == text:
                return time.perf_counter() - began
    return None


def quickest(sock: socket.socket, times: int = 5) -> float:
    found = [each for n in range(times) if (each := asked(sock, b"%d" % n, 20.0)) is not None]
    assert len(found) == times, "some were not answered"
    return min(found)


def in_force(lab: Lab, *orders: Order) -> Agent:
    agent = lab.start(plan(*orders))
    for each in orders:
        agent.until(Told.IN_FORCE, each.injection)
    return agent


def stop(agent: Agent) -> None:
    assert agent.control({"stop": True})[0] == 0
    agent.end()


@contextlib.contextmanager
def tracked(where: Netns) -> Iterator[None]:
    """Somebody else in the target's network, a service mesh for one, has the kernel track and translate."""
    nft = Nft(where)
    nft.run("add table inet mesh { flags owner; }")
    nft.run("add chain inet mesh out { type nat hook output priority 0; }")
    nft.run("add chain inet mesh in { type filter hook input priority 0; }")
    nft.run("add rule inet mesh in ct state new counter")
    try:
        yield
    finally:
        nft.close()
