"""How soon a freeze bites, and how soon it is over when nobody is left to end it, held against what is promised.

    python -m benchmarks.signals [--runs 30]

By a real agent and its guard, on a container whose process writes down the time each millisecond; as root, needs no
cluster. Exit code 1: something promised was missed.
"""

from __future__ import annotations

import argparse
import mmap
import signal
import statistics
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.machine import ended_as_interrupted
from bounceback.types.inside import Who
from bounceback.types.signals import Freeze
from bounceback.types.told import Told
from tests.kernel.lab import Agent, Lab, network, order, plan
from tests.kernel.pods import Inside, container, with_processes

TICK_SECONDS: Final = 0.001
STILL_SECONDS: Final = 0.2
"""Without a tick for so long it stands: a busy machine makes pauses of its own, but seldom such."""
LONGEST_SECONDS: Final = 30.0
PULSE: Final = f"""
import mmap, os, struct, time
with open("/data/pulse", "wb") as made:
    made.truncate(4096)
with open("/data/pulse", "r+b") as file:
    page = mmap.mmap(file.fileno(), 4096)
print(os.getpid(), flush=True)
while True:
    page[:8] = struct.pack("d", time.clock_gettime(time.CLOCK_BOOTTIME))
    time.sleep({TICK_SECONDS})
"""


@dataclass(frozen=True)
class Row:
    what: str
    promised: float  # seconds
    measured: Sequence[float]

    @property
    def held(self) -> bool:
        return statistics.median(self.measured) <= self.promised

    def __str__(self) -> str:
        middle, worst = statistics.median(self.measured), max(self.measured)
        told = f"p50 {middle * 1000:.1f} ms, max {worst * 1000:.1f} ms ({len(self.measured)} runs)"
        return f"| {self.what} | p50 <= {self.promised * 1000:.0f} ms | {told} | {'held' if self.held else 'MISSED'} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args(arguments).runs
    ended_as_interrupted()
    with network() as lab, with_processes(lab) as first, container(lab, lab.target, program=PULSE) as app:
        try:
            with page(Path(f"/proc/{first}/root{app.volume}/pulse")) as pulse:
                found = [measured(lab, app, pulse) for _ in range(runs)]
        finally:
            app.process.send_signal(signal.SIGCONT)  # nsenter(1) stops itself where its child is stopped
    begun, gone_on = zip(*found, strict=True)
    rows = [
        Row("the agent runs to the container stands still", 0.05, begun),
        Row("agent killed (-9) to the container goes on", 2.0, gone_on),
    ]
    print("| | promised | measured | |")
    print("|---|---|---|---|")
    print(*rows, sep="\n")
    return 0 if all(row.held for row in rows) else 1


@contextmanager
def page(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 4096, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def measured(lab: Lab, app: Inside, pulse: mmap.mmap) -> tuple[float, float]:
    """Seconds: from when the agent was there until the last tick, and from its death until the next one."""
    freeze = replace(order(Freeze(who=Who(container="app")), duration=60.0, not_after=90.0), pod_uid=app.uid)
    doing = plan(freeze, on_node=True, guarded=True)
    guard = lab.start(doing, "guard", where=lab.one)
    guard.until(Told.STARTED)
    agent = lab.start(doing, where=lab.one)
    began = started(agent)
    last = stands(pulse)
    agent.signal(signal.SIGKILL)
    killed = now()
    while tick(pulse) == last and now() - killed < LONGEST_SECONDS:
        time.sleep(TICK_SECONDS / 2)
    gone_on = tick(pulse) - killed
    guard.end()
    return max(0.0, last - began), gone_on


def started(agent: Agent) -> float:
    """When the agent said that it was there, by the clock of the ticks."""
    agent.until(Told.IN_FORCE, seconds=LONGEST_SECONDS)
    return next(line.at.nanos for line in agent.told if line.told is Told.STARTED) / 1e9


def stands(pulse: mmap.mmap) -> float:
    """The last tick, once no other follows."""
    end = now() + LONGEST_SECONDS
    while now() - (last := tick(pulse)) < STILL_SECONDS:
        if now() > end:
            raise SystemExit("it does not stand still")
        time.sleep(TICK_SECONDS)
    return last


def tick(pulse: mmap.mmap) -> float:
    return float(struct.unpack("d", pulse[:8])[0])


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    sys.exit(main())
