"""The relay beside Toxiproxy 2.5.0, in one run on one machine: how quick it is, what it holds, how soon it changes.

    python -m benchmarks.relay [--toxiproxy PROGRAM] [--rounds 5] [--patience 20] [--only NAME...]

Both run as their users run them (`bounceback proxy`, `toxiproxy`), at the same time, before the same server, and are
measured in turns; of the rounds the median counts, of changes the slowest. Exit code 1: something promised was missed.
On a machine that others keep busy all of it is worse, and ours, which is one thread among many, most of all: each round
waits for a quiet moment for as long as `--patience` says, and the last line tells how long something waited for a
processor. How exact both are is measured by `benchmarks.accuracy`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import relay_load as load
from benchmarks.machine import Stretch, quiet

CONNECTIONS: Final = 32
ECHO_SECONDS: Final = 3.0
IDLE: Final = 9_000
IDLE_RATE: Final = 2_000
Address = tuple[str, int]


@dataclass
class Row:
    what: str
    promised: str
    ours: str
    theirs: str
    held: bool | None  # None: nothing was promised


@dataclass
class Place:
    """Where each relay can be reached, by what the server does there."""

    ours: dict[str, Address]
    theirs: dict[str, Address]
    our_control: Address
    their_control: Address
    our_process: int
    their_process: int
    rounds: int
    patience: float
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, promised: str, held: bool | None, *measured: str) -> None:
        """`measured`: ours, theirs."""
        ours, theirs = measured
        row = Row(what, promised, ours, theirs, held)
        self.rows.append(row)
        print(f"  {what}: {ours} (promised {promised or 'nothing'}; Toxiproxy {theirs})", file=sys.stderr, flush=True)


def free_ports(count: int) -> list[Address]:
    """All of them at once, so that none is there twice."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in found:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname() for sock in found]


def request(address: Address, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"http://{address[0]}:{address[1]}{path}", data, method=method)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def until_it_answers(address: Address, path: str) -> None:
    for _ in range(200):
        try:
            request(address, "GET", path)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nobody answers at {address}")


def resident(pid: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@contextmanager
def running(words: list[str]) -> Iterator[int]:
    """The process id; ended at the end, with SIGINT."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def our_command(control: Address, ways: Mapping[str, tuple[Address, Address]]) -> list[str]:
    """`bounceback proxy` with a listener for each name (with "/udp", of datagrams): where, and where it leads."""
    words = [str(Path(sys.executable).parent / "bounceback"), "proxy", "--control", f"{control[0]}:{control[1]}"]
    for name, (here, there) in ways.items():
        name, slash, protocol = name.partition("/")
        words += ["--listen", f"{name}={here[0]}:{here[1]}{slash}{protocol}", "--upstream", f"{there[0]}:{there[1]}"]
    return words


def their_command(program: str, control: Address) -> list[str]:
    return [program, "-host", control[0], "-port", str(control[1])]


def lead(control: Address, ways: Mapping[str, tuple[Address, Address]]) -> None:
    """What Toxiproxy learns once it runs."""
    for name, (here, there) in ways.items():
        body = {"name": name, "listen": f"{here[0]}:{here[1]}", "upstream": f"{there[0]}:{there[1]}"}
        request(control, "POST", "/proxies", body)


def built_toxiproxy() -> str:
    """Where the development cluster's tool has put it."""
    words = [sys.executable, "-m", "dev", "tool", "toxiproxy"]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@contextmanager
def place(toxiproxy: str, rounds: int, patience: float) -> Iterator[Place]:
    """Server and both relays, before the same ports of it."""
    with ExitStack() as stack:
        upstreams = stack.enter_context(load.served())
        names = ("echo", "sink")
        our_control, their_control, *ports = free_ports(6)
        our, their = dict(zip(names, ports[:2], strict=True)), dict(zip(names, ports[2:], strict=True))
        our_pid = stack.enter_context(
            running(our_command(our_control, {name: (our[name], upstreams[name]) for name in names}))
        )
        their_pid = stack.enter_context(running(their_command(toxiproxy, their_control)))
        until_it_answers(our_control, "/faults")
        until_it_answers(their_control, "/proxies")
        lead(their_control, {name: (their[name], upstreams[name]) for name in names})
        yield Place(our, their, our_control, their_control, our_pid, their_pid, rounds, patience)


def used(pid: int) -> float:
    """Seconds of processor time so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def in_turns(at: Place, measure: Callable[[Address], Any], what: str) -> tuple[list[Any], list[Any]]:
    """Ours and theirs, one after the other, changing who begins."""
    found: tuple[list[Any], list[Any]] = ([], [])
    for n in range(at.rounds):
        quiet(at.patience)
        for who in (0, 1) if n % 2 == 0 else (1, 0):
            found[who].append(measure((at.ours, at.theirs)[who][what]))
    return found


# No fault active


def passing(at: Place) -> None:
    """Round trips of 32 connections, of one, and bulk."""
    before = [used(pid) for pid in (at.our_process, at.their_process)]
    many = in_turns(at, lambda address: load.in_process(load.echo, address, CONNECTIONS, ECHO_SECONDS), "echo")
    spent = [used(pid) - was for pid, was in zip((at.our_process, at.their_process), before, strict=True)]
    trips = [sum(run[0] for run in runs) * ECHO_SECONDS for runs in many]
    rates = [statistics.median(run[0] for run in runs) for runs in many]
    tails = [statistics.median(run[2] for run in runs) * 1e3 for runs in many]
    at.add(
        f"round trips/s, {CONNECTIONS} connections, 1 KiB",
        "at least 1.15x",
        rates[0] >= 1.15 * rates[1],
        f"{rates[0]:,.0f} ({rates[0] / rates[1]:.2f}x)",
        f"{rates[1]:,.0f}",
    )
    at.add(
        "their p99",
        "at most 0.8x",
        tails[0] <= 0.8 * tails[1],
        f"{tails[0]:.2f} ms ({tails[0] / tails[1]:.2f}x)",
        f"{tails[1]:.2f} ms",
    )
    costs = [seconds / count * 1e6 for seconds, count in zip(spent, trips, strict=True)]
    at.add("processor time a round trip", "", None, *(f"{cost:.1f} us" for cost in costs))
    one = in_turns(at, lambda address: load.in_process(load.echo, address, 1, 2.0), "echo")
    middles = [statistics.median(run[1] for run in runs) * 1e6 for runs in one]
    at.add(
        "one connection, p50",
        "at most 1.3x",
        middles[0] <= 1.3 * middles[1],
        f"{middles[0]:.0f} us ({middles[0] / middles[1]:.2f}x)",
        f"{middles[1]:.0f} us",
    )
    found = in_turns(at, lambda address: load.in_process(load.bulk, address, 2_000_000_000), "sink")
    speeds = [statistics.median(runs) / 1e6 for runs in found]
    at.add(
        "bulk, one connection",
        "at least 2x",
        speeds[0] >= 2 * speeds[1],
        f"{speeds[0]:,.0f} MB/s ({speeds[0] / speeds[1]:.2f}x)",
        f"{speeds[1]:,.0f} MB/s",
    )


def idling(at: Place) -> None:
    """Many connections that say nothing."""
    found = []
    for address, pid in ((at.ours["echo"], at.our_process), (at.theirs["echo"], at.their_process)):
        before = resident(pid)
        errors, rate, seen = load.in_process(load.idle, address, IDLE, IDLE_RATE, lambda p=pid: resident(p))
        found.append((errors, rate, seen, before))
        time.sleep(2)
    words = [f"{seen:.0f} MiB ({before:.0f} before)" for _, _, seen, before in found]
    at.add(f"{IDLE:,} idle connections, memory", "at most 150 MiB", found[0][2] <= 150, *words)
    words = [f"{errors} errors at {rate:,.0f}/s" for errors, rate, *_ in found]
    held = found[0][0] == 0 and found[0][1] >= 0.98 * IDLE_RATE
    at.add(f"opened at {IDLE_RATE:,}/s", "no error", held, *words)


# Faults


def changing(at: Place) -> None:
    """From the request to the last of 100 live connections."""

    def http(method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        data = json.dumps(body).encode() if body else b""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data

    delay = {"networkDelay": {"delayMilliseconds": 3000, "direction": "Ingress"}, "listener": "echo"}
    toxic = {"name": "changed", "type": "latency", "stream": "downstream", "attributes": {"latency": 3000}}
    by_us = (at.our_control, http("PUT", "/faults/changed", delay), http("DELETE", "/faults/changed"))
    path = "/proxies/echo/toxics"
    by_them = (at.their_control, http("POST", path, toxic), http("DELETE", f"{path}/changed"))
    how = {at.ours["echo"]: by_us, at.theirs["echo"]: by_them}
    found = in_turns(at, lambda address: load.in_process(load.changed, address, 100, *how[address]), "echo")
    for n, what in enumerate(("begins on the last of 100 live connections", "is lifted from the last of them")):
        slowest = [max(times[n] for times in each) for each in found]
        words = [f"{seconds * 1e3:.0f} ms" for seconds in slowest]
        at.add(f"a delay {what}, slowest of {at.rounds} rounds", "within 50 ms", slowest[0] <= 0.05, *words)


PARTS: Final = {part.__name__: part for part in (passing, idling, changing)}


def table(rows: list[Row]) -> str:
    lines = ["| | promised | measured | Toxiproxy 2.5.0 | |", "|---|---|---|---|---|"]
    words = {True: "held", False: "MISSED", None: ""}
    lines += [f"| {r.what} | {r.promised} | {r.ours} | {r.theirs} | {words[r.held]} |" for r in rows]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="The relay beside Toxiproxy.")
    parser.add_argument("--toxiproxy", help="the program (default: built by the development cluster's tool)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine, each round")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    toxiproxy = options.toxiproxy or built_toxiproxy()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, place(toxiproxy, options.rounds, options.patience) as at:
        os.chdir(folder)
        stretch = Stretch()
        for name in options.only:
            quiet(options.patience)
            PARTS[name](at)
        closing = stretch.closing()
    print(f"{table(at.rows)}\n\n{closing}")
    return 1 if any(row.held is False for row in at.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
