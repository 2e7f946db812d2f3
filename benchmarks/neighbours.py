"""What a container beside the target, idle but for the requests that it answers, notices of faults on the target.

    python -m benchmarks.neighbours [--only NAME...] [--seconds N] [--rounds N]

By a real agent on a container in cgroups, mounts and a network of its own, as root; needs no cluster. In each round the
neighbour's p99 is taken right before a fault and under it; the figure is the median of the rounds' changes, with the
interval that the true median is in, whatever the distribution of the noise. The first row is no fault at all: how wide
its interval is tells what can be told on this machine now. Exit code 1: something promised was missed, or is not told.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from math import comb
from typing import Final

from benchmarks.machine import Stretch, ended_as_interrupted
from benchmarks.pressure import CONTROLLERS, MIB, Bench, limited, off, pressed
from bounceback.types.files import Spoil
from bounceback.types.inside import InsideAct
from bounceback.types.pressure import Cpu, Memory, Pids
from bounceback.types.scarce import Backlog, Crowd, Descriptors, Fill
from bounceback.types.signals import Freeze
from tests.kernel.lab import ONE, PORT, network
from tests.kernel.pods import container, with_processes
from tests.kernel.test_crowd import ACCEPTS, LISTENS
from tests.kernel.test_crowd import PORT as CROWDED

PROMISED: Final = 10.0  # percent
PAUSE_SECONDS: Final = 0.0002
SETTLED_SECONDS: Final = 1.0
CONFIDENCE: Final = 0.95
NOTHING: Final = "nothing"
ACCEPTED: Final = "socketPressure-connections"
SERVER: Final = f"""
import os, socket
server = socket.create_server(("{ONE}", {PORT}))
print(os.getpid(), flush=True)
while True:
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(100):
        connection.sendall(data)
"""
ACTS: Final[dict[str, InsideAct]] = {
    "cpuPressure": Cpu(percent=100),
    "memoryPressure": Memory(percent=90),
    "processPressure": Pids(percent=100),
    "diskPressure": Fill(path="/data", free_percent=1),
    "fileDescriptorPressure": Descriptors(leave=0),
    ACCEPTED: Crowd(port=CROWDED, connections=1000, per_second=100),
    "socketPressure-ports": Crowd(leave_ports=10),
    "socketPressure-backlog": Backlog(port=CROWDED),
    "processSignal": Freeze(name="still"),
    "fileFault": Spoil(path="/data/file", damage="Corrupt", percent=50.0),
}
"""One of each fault that is confined to its target, by the name of its kind."""


def measure(bench: Bench, name: str, rounds: int) -> None:
    with (
        limited(bench, 1.0, 256 * MIB, pids=500, program=LISTENS, kind="ext4") as app,
        container(bench.lab, bench.lab.one, program=SERVER, controllers=CONTROLLERS),
    ):
        app.say("open('/data/file', 'w').write('text' * 1000)")
        if name == ACCEPTED:
            app.say("__import__('resource').setrlimit(7, (20000, 20000))")
            app.say(ACCEPTS)
        calm: list[float] = []
        under: list[float] = []
        for _ in range(rounds):
            calm.append(p99(requests(bench, bench.seconds / 2)))
            with nullcontext() if name == NOTHING else pressed(bench, app, ACTS[name]):
                time.sleep(SETTLED_SECONDS)
                under.append(p99(requests(bench, bench.seconds / 2)))
    changes = [off(after, before) for before, after in zip(calm, under, strict=True)]
    low, high = around_median(changes)
    figures = f"{statistics.median(calm) * 1e6:.0f} us before, {statistics.median(under) * 1e6:.0f} us then"
    change = f"{statistics.median(changes):+.1f} % ({low:+.1f} to {high:+.1f})"
    bench.add(f"a neighbour's p99 under {name}", f"at most +{PROMISED:g} %", figures, change, high <= PROMISED)


def p99(took: Sequence[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


def around_median(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that the median is between with CONFIDENCE: the interval of the sign test.

    It takes the values as independent, and nothing else. With fewer than six it is all of them.
    """
    ordered, outside = sorted(values), 0.0
    for left_out in range(len(ordered) // 2):
        outside += 2 * comb(len(ordered), left_out) / 2 ** len(ordered)
        if outside > 1 - CONFIDENCE:
            return ordered[max(left_out - 1, 0)], ordered[-max(left_out, 1)]
    return ordered[0], ordered[-1]


def requests(bench: Bench, seconds: float) -> list[float]:
    """How long each took, in seconds, on one connection, with pauses."""
    with bench.lab.node.entered():
        connection = socket.create_connection((ONE, PORT))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    took, end = [], time.monotonic() + seconds
    with connection:
        while (began := time.perf_counter()) and time.monotonic() < end:
            connection.sendall(b"x")
            connection.recv(1)
            took.append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[NOTHING, *ACTS], default=[NOTHING, *ACTS])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round, half of them calm (default 4)")
    parser.add_argument("--rounds", type=int, default=12, help="with and without (default 12)")
    options = parser.parse_args()
    ended_as_interrupted()
    stretch = Stretch()
    with network() as lab, with_processes(lab):
        bench = Bench(lab, options.seconds)
        for name in options.only:
            measure(bench, name, options.rounds)
    print(f"Linux {os.uname().release}\n\n| | promised | p99, median of rounds | change | |\n|---|---|---|---|---|")
    print(*bench.rows, sep="\n")
    print(f"\n{stretch.closing()}")
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
