"""How exactly an open and a read are held, how soon all go on when the agent is killed, and what a neighbour notices.

    python -m benchmarks.access [--accesses N]

By a real agent, as root; needs no cluster. Times are what the program itself measures around open(2) and read(2), less
what they take without the fault. The neighbour is another pod with the same volume. Exit code 1: something promised
was missed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import ended_as_interrupted
from bounceback.types.access import Access
from bounceback.types.inside import InsideAct
from bounceback.types.told import Told
from tests.kernel.lab import Agent, Lab, network, plan
from tests.kernel.pods import Inside, container, on, with_processes

DELAYS: Final = (1, 10, 100)  # milliseconds
PROMISED_OFF: Final = 1.0  # milliseconds at the median
PROMISED_RELEASE: Final = 2.0  # seconds
PROMISED_NOTICED: Final = 10.0  # percent, at the neighbour's p99
PROGRAM: Final = """
import os, sys, time
print(os.getpid(), flush=True)
def took():
    began = time.perf_counter()
    number = os.open("/data/file", os.O_RDONLY)
    middle = time.perf_counter()
    os.read(number, 100)
    end = time.perf_counter()
    os.close(number)
    return middle - began, end - middle
for line in sys.stdin:
    print(eval(line), flush=True)
"""
Pair = tuple[float, float]


@dataclass(frozen=True)
class Row:
    what: str
    promised: str
    measured: str
    held: bool

    def __str__(self) -> str:
        judged = ("held" if self.held else "MISSED") if self.promised else ""
        return f"| {self.what} | {self.promised} | {self.measured} | {judged} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accesses", type=int, default=300, help="for each delay (default 300)")
    count = parser.parse_args(arguments).accesses
    ended_as_interrupted()
    with network() as lab, with_processes(lab), container(lab, lab.target, program=PROGRAM) as app:
        Path(f"/proc/{number(app)}/root/data/file").write_text("text" * 100)
        with container(lab, lab.two, program=PROGRAM, volume=app.volume) as neighbour:
            rows = [*accuracy(lab, app, count), *noticed(lab, app, neighbour, count), *released(lab, app)]
    print("| | promised | measured | |")
    print("|---|---|---|---|")
    print(*rows, sep="\n")
    return 0 if all(row.held for row in rows) else 1


def accuracy(lab: Lab, app: Inside, count: int) -> Iterator[Row]:
    without = pairs(app, f"[took() for _ in range({count})]")
    for delay in DELAYS:
        agent = begun(lab, app, Access(path="/data", delay_us=delay * 1000))
        alone = pairs(app, f"[took() for _ in range({max(20, min(count, 6000 // delay))})]")
        ended(agent)
        for which, name in enumerate(("open", "read")):
            usual = share([each[which] for each in without], 0.5)
            late = [(each[which] - usual) * 1000 - delay for each in alone]
            told = f"{share(late, 0.5):+.2f} ms, p99 {share(late, 0.99):+.2f}, least {min(late):+.2f}"
            held = abs(share(late, 0.5)) <= PROMISED_OFF and min(late) > -0.1
            yield Row(f"{name}, {delay} ms", f"within {PROMISED_OFF:.0f} ms at the median", told, held)


def noticed(lab: Lab, app: Inside, neighbour: Inside, count: int) -> Iterator[Row]:
    """By a pod with the same volume, and by the target where none of its accesses is meant."""
    call = f"[took() for _ in range({count * 10})]"
    before = [sum(each) * 1e6 for each in pairs(neighbour, call)]
    agent = begun(lab, app, Access(path="/data", delay_us=60_000_000))
    during = [sum(each) * 1e6 for each in pairs(neighbour, call)]
    ended(agent)
    change = (share(during, 0.99) / share(before, 0.99) - 1) * 100
    told = f"p50 {share(before, 0.5):.1f} to {share(during, 0.5):.1f} µs, p99 {share(before, 0.99):.1f} to "
    told += f"{share(during, 0.99):.1f} µs"
    yield Row("a neighbour with the same volume", f"p99 {PROMISED_NOTICED:.0f} %", told, change <= PROMISED_NOTICED)
    usual = [sum(each) * 1e6 for each in pairs(app, call)]
    Path(f"/proc/{number(app)}/root/data/other").mkdir()
    agent = begun(lab, app, Access(path="/data/other", delay_us=60_000_000))
    asked = [sum(each) * 1e6 for each in pairs(app, call)]
    ended(agent)
    told = f"p50 {share(usual, 0.5):.0f} to {share(asked, 0.5):.0f} µs, p99 {share(asked, 0.99):.0f} µs"
    yield Row("the target's other files on that mount, open and read", "", told, held=True)


def released(lab: Lab, app: Inside) -> Iterator[Row]:
    found = []
    for _ in range(10):
        agent = begun(lab, app, Access(path="/data", delay_us=60_000_000))
        assert app.process.stdin is not None
        assert app.process.stdout is not None
        app.process.stdin.write(b"took()\n")
        app.process.stdin.flush()
        while "fanotify" not in Path(f"/proc/{number(app)}/stack").read_text():
            time.sleep(0.01)
        killed = agent.signal(signal.SIGKILL)
        app.process.stdout.readline()
        found.append((time.monotonic() - killed) * 1000)
    told = f"median {share(found, 0.5):.1f} ms, longest {max(found):.1f} ms"
    held = max(found) <= PROMISED_RELEASE * 1000
    yield Row("who waits goes on after kill -9 of the agent", f"within {PROMISED_RELEASE:.0f} s", told, held)


def begun(lab: Lab, app: Inside, act: InsideAct) -> Agent:
    agent = lab.start(plan(on(app, act), on_node=True), where=lab.one)
    agent.until(Told.IN_FORCE, seconds=60)
    return agent


def ended(agent: Agent) -> None:
    agent.control({"stop": True})
    agent.end()


def pairs(where: Inside, call: str) -> list[Pair]:
    """Seconds for the open and for the read."""
    found: list[Pair] = eval(where.say(call))
    return found


def number(app: Inside) -> int:
    """The container's process by this machine's numbers."""
    return int((app.groups[0] / "cgroup.procs").read_text().split()[0])


def share(values: list[float], part: float) -> float:
    """A percentile."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


if __name__ == "__main__":
    sys.exit(main())
