"""What a container beside the target, idle but for the requests that it answers, notices of faults on the target.

    python -m benchmarks.neighbours [--only NAME...] [--seconds N] [--rounds N]

By a real agent on a container in cgroups, mounts and a network of its own, as root; needs no cluster. The neighbour's
p99 is taken with and without each fault in turns, so that what the machine does beside has its part in both. Exit code
1: something promised was missed.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from typing import Final

from benchmarks.machine import Stretch
from benchmarks.pressure import CONTROLLERS, MIB, SETTLED_SECONDS, Bench, limited, off, pressed
from bounceback.types.files import Spoil
from bounceback.types.inside import InsideAct
from bounceback.types.pressure import Cpu, Memory, Pids
from bounceback.types.scarce import Backlog, Crowd, Descriptors, Fill
from bounceback.types.signals import Freeze
from tests.kernel.lab import ONE, PORT, network
from tests.kernel.pods import container, with_processes
from tests.kernel.test_crowd import LISTENS
from tests.kernel.test_crowd import PORT as CROWDED

PROMISED: Final = 10.0  # percent
PAUSE_SECONDS: Final = 0.005
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
    "socketPressure-connections": Crowd(port=CROWDED, connections=1000, per_second=100),
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
        calm: list[float] = []
        under: list[float] = []
        for _ in range(rounds):
            calm += requests(bench, bench.seconds / 2)
            with pressed(bench, app, ACTS[name]):
                time.sleep(SETTLED_SECONDS)
                under += requests(bench, bench.seconds / 2)
    before, after = (sorted(each)[int(len(each) * 0.99)] for each in (calm, under))
    change = off(after, before)
    figures = f"{before * 1e6:.0f} us before, {after * 1e6:.0f} us then ({change:+.1f} %)"
    bench.add(f"a neighbour's p99 under {name}", f"at most +{PROMISED:g} %", figures, "", change <= PROMISED)


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
    parser.add_argument("--only", nargs="+", choices=ACTS, default=list(ACTS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round (default 10)")
    parser.add_argument("--rounds", type=int, default=4, help="with and without (default 4)")
    options = parser.parse_args()
    stretch = Stretch()
    with network() as lab, with_processes(lab):
        bench = Bench(lab, options.seconds)
        for name in options.only:
            measure(bench, name, options.rounds)
    print(f"Linux {os.uname().release}\n\n| | promised | measured | | |\n|---|---|---|---|---|")
    print(*bench.rows, sep="\n")
    print(f"\n{stretch.closing()}")
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
