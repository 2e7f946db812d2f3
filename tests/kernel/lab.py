"""A small network to break: a target, its node, and two peers, each a network namespace of its own.

peer one 10.77.1.2   fd77:1::2 --.
                                  node (routes) -- target 10.77.0.2 fd77::2, default route by 10.77.0.1
peer two 10.77.2.2   fd77:2::2 --'
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bounceback.drivers.leftovers import left
from bounceback.drivers.netns import Netns
from bounceback.types.plan import NOTES_VARIABLE, PLAN_VARIABLE, Act, Direction, Flow, Order, Plan
from bounceback.types.told import Line, Told

OPERATOR = Path(__file__).resolve().parents[2] / "operator"
TARGET, NODE, ONE, TWO = "10.77.0.2", "10.77.0.1", "10.77.1.2", "10.77.2.2"
TARGET6, ONE6, TWO6 = "fd77::2", "fd77:1::2", "fd77:2::2"
PORT = 7000
GONE_SECONDS = 2.0
"""Within which what a dead agent did is undone: promised."""
POD_UID = "6f1c1b8e-8a5b-4a3c-9d1e-0123456789ab"
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 32, 33, 35
_STAMP, _TIME = struct.Struct("=IQ"), struct.Struct("=qq")
_numbers = itertools.count()


@dataclass
class Lab:
    target: Netns
    node: Netns
    one: Netns
    two: Netns
    folder: Path
    agents: list[Agent] = field(default_factory=list)
    among: tuple[str, ...] = ()  # a command that starts another one among other processes

    def start(
        self, plan: Plan, mode: str = "run", where: Netns | None = None, notes: dict[str, Any] | None = None
    ) -> Agent:
        """`notes`: for `verify`, those of what was in force."""
        more = {} if notes is None else {NOTES_VARIABLE: json.dumps(notes)}
        agent = Agent(plan, mode, where or self.target, environment(plan, self.folder) | more, self.among)
        self.agents.append(agent)
        return agent

    def left(self) -> list[str]:
        return left(self.target)


def order(act: Act, *flows: Flow, injection: str = "", direction: Direction = Direction.BOTH, **times: Any) -> Order:
    """Due now; ends after 20 s unless `times` says otherwise. Times are seconds from now, `duration` is one."""
    now = time.time()
    pattern = times.pop("pattern", None)
    moments = {"start_at": 0.0, "start_before": 25.0, "not_after": 60.0} | times
    duration = moments.pop("duration", 20.0)
    name = injection or f"test-{next(_numbers)}"
    absolute = {key: now + value for key, value in moments.items()}
    where = ("test", "ns", "pod", POD_UID)
    return Order(name, *where, act, direction, flows, duration=duration, pattern=pattern, **absolute)


def plan(*orders: Order, **fields: Any) -> Plan:
    name = f"bbt{os.getpid()}-{next(_numbers)}"
    return Plan("run", name, fields.pop("on_node", False), orders, **fields)


def peer(address: str, protocol: str = "", *ports: int) -> Flow:
    return Flow(f"{address}/{128 if ':' in address else 32}", protocol, ports)


def environment(plan: Plan, folder: Path) -> dict[str, str]:
    path = f"{OPERATOR}:{os.environ.get('PYTHONPATH', '')}"
    return os.environ | {PLAN_VARIABLE: plan.to_json(), "PYTHONPATH": path, "TMPDIR": str(folder)}


class Agent:
    """A real agent process, and the evidence that it has told."""

    def __init__(
        self, plan: Plan, mode: str, where: Netns, environment: dict[str, str], among: tuple[str, ...] = ()
    ) -> None:
        self.plan = plan
        self._among = among
        self.told: list[Line] = []
        self._lines: queue.Queue[Line | None] = queue.Queue()
        self._environment = environment
        self._where = where
        with where.entered():
            self.process = subprocess.Popen(
                [*among, sys.executable, "-m", "bounceback.agent", mode],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # which has a share of the processors to itself, as a container has
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, told: Told, injection: str = "", seconds: float = 30.0) -> Line:
        """The next such line. Fails when the agent ends, or the time passes, without it."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {told} within {seconds} s; told: {self.told}") from None
            if line is None:
                raise AssertionError(f"ended without {told}; told: {self.told}; {self.complaints()}")
            self.told.append(line)
            if line.told is told and injection in ("", line.injection):
                return line

    def end(self, seconds: float = 30.0) -> list[Line]:
        """All that it told, once it is through; its exit code must be 0."""
        self.until(Told.FINISHED, seconds=seconds)
        assert self.process.wait(seconds) == 0, self.complaints()
        return self.told

    def of(self, injection: str) -> list[Told]:
        return [line.told for line in self.told if line.injection == injection]

    def hits(self, injection: str) -> int:
        return max((line.hits for line in self.told if line.injection == injection), default=0)

    @property
    def number(self) -> int:
        """Of its process, as this one has it."""
        started = self.process.pid
        # nsenter waits for the agent, which is its child
        return int(Path(f"/proc/{started}/task/{started}/children").read_text()) if self._among else started

    def signal(self, number: signal.Signals) -> float:
        """The moment of it."""
        process = self.number
        moment = time.monotonic()
        os.kill(process, number)
        return moment

    def control(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._where.entered():
            done = subprocess.run(
                [*self._among, sys.executable, "-m", "bounceback.agent", "control"],
                env=self._environment,
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
        return done.returncode, json.loads(done.stdout)

    def complaints(self) -> str:
        return self.process.stderr.read() if self.process.stderr and self.process.poll() is not None else ""

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(5)
        self._reader.join(5)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line = Line.from_json(text)
            assert line is not None, text
            self._lines.put(line)
        self._lines.put(None)


# Traffic


@contextlib.contextmanager
def echo(where: Netns, address: str, port: int = PORT) -> Iterator[None]:
    """A TCP server that answers with what it got, for as long as the block lasts."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with where.entered():
        server = socket.create_server((address, port), family=family)
    stop = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(4096):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(2)


def connect(where: Netns, address: str, port: int = PORT, seconds: float = 20.0) -> socket.socket:
    """Whoever asks for an address that nobody answers for asks again after a second, as does a SYN that was lost."""
    with where.entered():
        return socket.create_connection((address, port), timeout=seconds)


def reach(where: Netns, address: str, port: int = PORT, seconds: float = 1.2) -> str:
    """ "ok", "refused" or "silence"; of a connection that worked no packet is still to come."""
    try:
        with connect(where, address, port, seconds) as connection:
            answer = ask(connection, seconds)
            if answer == "ok":
                connection.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    connection.recv(1)
            return answer
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silence"


def ask(connection: socket.socket, seconds: float = 0.6) -> str:
    """One round trip on a connection."""
    connection.settimeout(seconds)
    try:
        connection.sendall(b"x")
        return "ok" if connection.recv(10) else "closed"
    except TimeoutError:
        return "silence"


def round_trip(connection: socket.socket) -> float:
    """Seconds."""
    start = time.perf_counter()
    assert ask(connection, 20.0) == "ok"
    return time.perf_counter() - start


def datagrams(source: Netns, receiver: Netns, address: str, count: int, port: int = PORT) -> int:
    """Sends `count` datagrams; how many arrived. A dropped one is an EPERM to the sender where the rule is its own."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with receiver.entered():
        sink = socket.socket(family, socket.SOCK_DGRAM)
    with source.entered():
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with sink, sender:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sink.bind((address, port))
        for _ in range(count):
            with contextlib.suppress(PermissionError):
                sender.sendto(b"x", (address, port))
        sink.settimeout(0.3)
        arrived = 0
        with contextlib.suppress(TimeoutError):
            while sink.recv(10):
                arrived += 1
    return arrived


def deliveries(
    source: Netns, receiver: Netns, address: str, count: int | Iterable[int], port: int = PORT, pace: float = 0.0,
    size: int = 100, held_up: set[int] | None = None,
) -> list[tuple[int, float]]:  # fmt: skip
    """Datagrams that arrived, in the order in which they did: which one it was, and how many seconds it took.

    The kernel says when one arrived. `count`: how many, or their numbers. `pace`: seconds between two of them.
    `held_up`: takes up those with which this process was not done within 10 ms, so that they seem to take longer.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with receiver.entered():
        sink = socket.socket(family, socket.SOCK_DGRAM)
    with source.entered():
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with sink, sender:
        sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 27)
        sink.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sink.bind((address, port))
        for number in range(count) if isinstance(count, int) else count:
            began = time.time_ns()
            with contextlib.suppress(PermissionError):
                sender.sendto(_STAMP.pack(number, began).ljust(size, b"."), (address, port))
            if held_up is not None and time.time_ns() - began > 10_000_000:
                held_up.add(number)
            if pace:
                time.sleep(pace)
        sink.settimeout(1.0)
        arrived = []
        with contextlib.suppress(TimeoutError):
            while True:
                data, ancillary, _, _ = sink.recvmsg(size, 100)
                number, sent = _STAMP.unpack_from(data)
                seconds, nanoseconds = _TIME.unpack_from(ancillary[0][2])
                arrived.append((number, (seconds * 1_000_000_000 + nanoseconds - sent) / 1e9))
    return arrived


def flood(source: Netns, receiver: Netns, address: str, seconds: float, pace: float, size: int) -> list[float]:
    """When each datagram arrived, of those that were sent every `pace` seconds: the kernel's moments, in seconds."""
    moments: list[float] = []
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with receiver.entered():
        sink = socket.socket(family, socket.SOCK_DGRAM)
    with source.entered():
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with sink, sender:
        sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 29)  # all of them are read at the end
        sink.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 27)  # what waits in a qdisc is the sender's still
        sink.bind((address, PORT))
        began = time.monotonic()
        sent = 0
        while sent < seconds / pace:
            due = min(time.monotonic() - began, seconds) / pace
            while sent < due:  # made up for where this process had to wait
                with contextlib.suppress(OSError):
                    sender.sendto(bytes(size), (address, PORT))
                sent += 1
            time.sleep(pace)
        sink.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while True:
                _, ancillary, _, _ = sink.recvmsg(size, 100)
                whole, nanoseconds = _TIME.unpack_from(ancillary[0][2])
                moments.append(whole + nanoseconds / 1e9)
    return moments


# The network itself


@cache
def _stamps() -> socket.socket:
    """As long as one socket asks for it the kernel stamps all packets. It begins a while after the first one asks: what
    has no stamp by then gets that of the moment in which it is read."""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return asking


@contextlib.contextmanager
def network() -> Iterator[Lab]:
    _stamps()
    prefix = f"bbt{os.getpid()}-{next(_numbers)}"
    names = [f"{prefix}-{role}" for role in ("target", "node", "one", "two")]
    folder = Path(tempfile.mkdtemp(prefix="bbt", dir="/tmp"))
    made: list[Netns] = []
    lab: Lab | None = None
    try:
        _ip(*(f"netns add {name}" for name in names))
        made = [Netns.at(f"/run/netns/{name}") for name in names]
        for netns in made:
            with netns.entered():
                # No second spent on asking whether somebody else has the same address.
                Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        with made[1].entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        _connect(*names)
        lab = Lab(made[0], made[1], made[2], made[3], folder)
        yield lab
    finally:
        for agent in lab.agents if lab else []:
            agent.close()
        for netns in made:
            netns.close()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        shutil.rmtree(folder)


def _connect(target: str, node: str, one: str, two: str) -> None:
    lines = [f"-n {node} link set lo up"]
    for device, name, net, net6 in (
        ("to0", target, "10.77.0", "fd77:"),
        ("to1", one, "10.77.1", "fd77:1:"),
        ("to2", two, "10.77.2", "fd77:2:"),
    ):
        lines += [
            f"link add eth0 netns {name} type veth peer name {device} netns {node}",
            f"-n {name} addr add {net}.2/24 dev eth0",
            f"-n {name} addr add {net6}:2/64 dev eth0 nodad",
            f"-n {name} link set lo up",
            f"-n {name} link set eth0 up",
            f"-n {node} addr add {net}.1/24 dev {device}",
            f"-n {node} addr add {net6}:1/64 dev {device} nodad",
            f"-n {node} link set {device} up",
            f"-n {name} route add default via {net}.1",
            f"-n {name} -6 route add default via {net6}:1",
        ]
    _ip(*lines)


def _ip(*lines: str) -> None:
    for line in lines:
        subprocess.run(["ip", *line.split()], check=True, capture_output=True, text=True)
