"""The relay beside Toxiproxy 2.5.0, in one run on one machine: every number that was promised, and what was measured.

    python -m benchmarks.relay [--toxiproxy PROGRAM] [--rounds 5] [--patience 20] [--only NAME...]

Both run as their users run them (`bounceback proxy`, `toxiproxy`), at the same time, before the same server, and are
measured in turns; of the rounds the median counts. Exit code 1: something promised was missed. On a machine that others
keep busy all of it is worse, and ours, which is one thread among many, most of all: each round waits for a quiet moment
for as long as `--patience` says, and the last line tells how long something waited for a processor.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import relay_load as load

CONNECTIONS: Final = 32
ECHO_SECONDS: Final = 3.0
IDLE: Final = 9_000
IDLE_RATE: Final = 2_000
DELAYS: Final = (1, 10, 100, 1_000, 5_000)
RATES: Final = (1_000_000, 20_000_000)
DATAGRAMS: Final = 20_000
LOSS: Final = 0.1
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
    server_udp: Address
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


@contextmanager
def place(toxiproxy: str, rounds: int, patience: float) -> Iterator[Place]:
    """Server and both relays, before the same ports of it."""
    with ExitStack() as stack:
        told, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("fork").Process(target=load.serve, args=(theirs,), daemon=True)
        server.start()
        stack.callback(server.terminate)
        names = ("echo", "sink", "source")
        *tcp, udp = told.recv()
        upstreams = dict(zip(names, tcp, strict=True))
        our_control, their_control, *ports = free_ports(9)
        our = dict(zip((*names, "udp"), ports[:4], strict=True))
        their = dict(zip(names, ports[4:7], strict=True))
        words = [str(Path(sys.executable).parent / "bounceback"), "proxy", "--control", f"127.0.0.1:{our_control[1]}"]
        for name, port in (*upstreams.items(), ("udp", udp)):
            listen = f"{name}=127.0.0.1:{our[name][1]}{'/udp' if name == 'udp' else ''}"
            words += ["--listen", listen, "--upstream", f"127.0.0.1:{port}"]
        our_pid = stack.enter_context(running(words))
        their_pid = stack.enter_context(running([toxiproxy, "-host", "127.0.0.1", "-port", str(their_control[1])]))
        until_it_answers(our_control, "/faults")
        until_it_answers(their_control, "/proxies")
        for name, port in upstreams.items():
            listen = f"127.0.0.1:{their[name][1]}"
            body = {"name": name, "listen": listen, "upstream": f"127.0.0.1:{port}"}
            request(their_control, "POST", "/proxies", body)
        yield Place(our, their, our_control, their_control, our_pid, their_pid, ("127.0.0.1", udp), rounds, patience)


def quiet(patience: float) -> None:
    """Wait until the processors have been three quarters idle for half a second, but no longer than `patience`."""

    def idle_and_all() -> tuple[int, int]:
        figures = [int(figure) for figure in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return figures[3] + figures[4], sum(figures)

    end, before = time.monotonic() + patience, idle_and_all()
    while time.monotonic() < end:
        time.sleep(0.5)
        now = idle_and_all()
        if now[0] - before[0] >= 0.75 * (now[1] - before[1]):
            return
        before = now


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


@contextmanager
def fault(at: Place, ours: dict[str, Any], theirs: dict[str, Any] | None, listener: str) -> Iterator[None]:
    request(at.our_control, "PUT", "/faults/measured", {**ours, "listener": listener})
    if theirs is not None:
        request(at.their_control, "POST", f"/proxies/{listener}/toxics", {"name": "measured", **theirs})
    try:
        yield
    finally:
        request(at.our_control, "DELETE", "/faults/measured")
        if theirs is not None:
            request(at.their_control, "DELETE", f"/proxies/{listener}/toxics/measured")


def delaying(at: Place) -> None:
    """Added delay: what the median of round trips grows by."""
    both = (at.ours["echo"], at.theirs["echo"])

    def middles(delay: float) -> list[float]:
        every = max(0.1, delay / 5)
        seconds = max(3.0, 2 * every)
        return [
            statistics.median(load.in_process(load.ticked, address, 100, seconds, every, delay)) for address in both
        ]

    plain = middles(0.0)
    for milliseconds in DELAYS:
        ours = {"networkDelay": {"delayMilliseconds": milliseconds, "direction": "Ingress"}}
        theirs = {"type": "latency", "stream": "downstream", "attributes": {"latency": milliseconds, "jitter": 0}}
        with fault(at, ours, theirs, "echo"):
            added = [(seen - base) * 1e3 for seen, base in zip(middles(milliseconds / 1e3), plain, strict=True)]
        allowed = max(1.0, milliseconds / 100)
        words = [f"{figure:,.2f} ms" for figure in added]
        held = abs(added[0] - milliseconds) <= allowed
        at.add(f"delay of {milliseconds:,} ms, 100 connections, p50", f"within {allowed:g} ms", held, *words)


def throttling(at: Place) -> None:
    """Bytes that come in 10 s."""
    for rate in RATES:
        ours = {"networkBandwidth": {"kilobitsPerSecond": rate // 125, "direction": "Ingress"}}
        theirs = {"type": "bandwidth", "stream": "downstream", "attributes": {"rate": rate // 1000}}
        with fault(at, ours, theirs, "source"):
            found = [load.in_process(load.received, who["source"], 10.0) for who in (at.ours, at.theirs)]
        words = [f"{(speed / rate - 1) * 100:+.2f} %" for speed in found]
        at.add(f"bandwidth of {rate / 1e6:g} MB/s over 10 s", "within 2 %", abs(found[0] / rate - 1) <= 0.02, *words)


def losing(at: Place) -> None:
    """Datagrams that do not arrive, of those that reached the relay: a busy machine's kernel loses some by itself."""

    def egress() -> int:
        found = request(at.our_control, "GET", "/counters")["listeners"]
        return int(next(listener for listener in found if listener["name"] == "udp")["bytesEgress"])

    arrived, seen = load.in_process(load.asked_count, at.server_udp), egress()
    seed = int.from_bytes(os.urandom(3), "big")
    lossy = {"networkLoss": {"lossPercent": round(LOSS * 100)}, "seed": seed, "listener": "udp"}
    request(at.our_control, "PUT", "/faults/lossy", lossy)
    load.in_process(load.datagrams, at.ours["udp"], DATAGRAMS)
    arrived = load.in_process(load.asked_count, at.server_udp) - arrived
    seen = (egress() - seen) // load.DATAGRAM
    hits = next(r for r in request(at.our_control, "GET", "/counters")["rules"] if r["name"] == "lossy")["hits"]
    request(at.our_control, "DELETE", "/faults/lossy")
    spread = 2.576 * (seen * LOSS * (1 - LOSS)) ** 0.5
    promised = f"{seen * LOSS:,.0f} ± {spread:.0f} (99 %)"
    held = abs(hits - seen * LOSS) <= spread
    at.add(f"{LOSS:.0%} of {seen:,} datagrams lost", promised, held, f"{hits:,} ({arrived:,} arrived)", "no UDP")


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
    ours = (at.our_control, http("PUT", "/faults/changed", delay), http("DELETE", "/faults/changed"))
    path = "/proxies/echo/toxics"
    theirs = (at.their_control, http("POST", path, toxic), http("DELETE", f"{path}/changed"))
    found = [
        load.in_process(load.lifted, who["echo"], 100, *how) for who, how in ((at.ours, ours), (at.theirs, theirs))
    ]
    for n, what in enumerate(("begins on the last of 100 live connections", "is lifted from the last of them")):
        words = [f"{times[n] * 1e3:.0f} ms" for times in found]
        at.add(f"a delay {what}", "within 50 ms", found[0][n] <= 0.05, *words)


PARTS: Final = {part.__name__: part for part in (passing, idling, delaying, throttling, losing, changing)}


def waited() -> float:
    """Seconds that this machine's processes were ready to run and had no processor, as far as it says (PSI)."""
    try:
        text = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(text.rpartition("total=")[2]) / 1e6


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
    toxiproxy = (
        options.toxiproxy
        or subprocess.run(
            [sys.executable, "-m", "dev", "tool", "toxiproxy"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, place(toxiproxy, options.rounds, options.patience) as at:
        os.chdir(folder)
        began, pressed = time.monotonic(), waited()
        for name in options.only:
            quiet(options.patience)
            PARTS[name](at)
        spent, pressed = time.monotonic() - began, waited() - pressed
    print(table(at.rows))
    print(
        f"\n{spent:.0f} s; something waited for a processor {pressed / spent:.0%} of the time; {os.cpu_count()} of them"
    )
    return 1 if any(row.held is False for row in at.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
