"""How exact pressure on processors and memory is, and what it takes itself.

    python -m benchmarks.pressure [--only NAME...] [--seconds N]

By a real agent on a container in cgroups of its own, as root; needs no cluster. What was burned and held is what the
container's cgroup says, not we. Where stress-ng is installed it does the same in the same cgroup. Exit code 1:
something promised was missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.machine import Stretch, ended_as_interrupted
from bounceback.drivers.cgroups import counter
from bounceback.types.inside import InsideAct
from bounceback.types.pressure import Cpu, Memory, Pids
from bounceback.types.told import Told
from tests.kernel.lab import Agent, Lab, network, order, plan
from tests.kernel.pods import ANSWERS, Inside, container, with_processes

MIB: Final = 1 << 20
CONTROLLERS: Final = ("cpu", "cpuacct", "memory", "pids")
SETTLED_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 60.0


@dataclass
class Bench:
    lab: Lab
    seconds: float
    rows: list[str] = field(default_factory=list)
    missed: int = 0

    def add(self, what: str, promised: str, ours: str, other: str, held: bool) -> None:
        self.missed += not held
        self.rows.append(f"| {what} | {promised} | {ours} | {other} | {'held' if held else 'MISSED'} |")
        print(self.rows[-1], file=sys.stderr, flush=True)


@contextmanager
def limited(
    bench: Bench, processors: float, memory: int, pids: int = 0, program: str = ANSWERS, kind: str = "tmpfs"
) -> Iterator[Inside]:
    with container(bench.lab, bench.lab.target, controllers=CONTROLLERS, program=program, kind=kind) as app:
        cpu, mem, tasks = (app.group(name) for name in ("cpu", "memory", "pids"))
        if (cpu / "cpu.max").exists():
            (cpu / "cpu.max").write_text(f"{int(processors * 100_000)} 100000")
            (mem / "memory.max").write_text(str(memory))
        else:
            (cpu / "cpu.cfs_quota_us").write_text(str(int(processors * 100_000)))
            (mem / "memory.limit_in_bytes").write_text(str(memory))
        if pids:
            (tasks / "pids.max").write_text(str(pids))
        yield app


@contextmanager
def pressed(bench: Bench, app: Inside, act: InsideAct) -> Iterator[Agent]:
    made = replace(order(act, duration=1000.0, not_after=2000.0), pod_uid=app.uid)
    agent = bench.lab.start(plan(made, on_node=True))
    agent.until(Told.IN_FORCE, seconds=30)
    try:
        yield agent
    finally:
        agent.control({"stop": True})
        agent.end(30)


@contextmanager
def stressed(app: Inside, *options: str) -> Iterator[None]:
    """stress-ng among the container's processes."""
    join = " && ".join(f"echo 0 > {group}/cgroup.procs" for group in app.groups)
    process = subprocess.Popen(
        ["sh", "-c", f"{join} && exec stress-ng --quiet {' '.join(options)}"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def burned(app: Inside) -> float:
    """Seconds of processor time that the container has had."""
    if usec := counter(f"{app.group('cpu')}/cpu.stat", "usage_usec"):
        return usec / 1e6
    return int((app.group("cpuacct") / "cpuacct.usage").read_text()) / 1e9


def used(app: Inside) -> int:
    """Bytes that are billed to the container."""
    group = app.group("memory")
    name = "memory.current" if (group / "memory.current").exists() else "memory.usage_in_bytes"
    return int((group / name).read_text())


def off(measured: float, asked: float) -> float:
    """Percent."""
    return (measured / asked - 1) * 100


def processors(bench: Bench) -> None:
    """What is burned over some seconds, of what was asked for."""
    cases: list[tuple[str, float, Cpu, float, tuple[str, ...]]] = [
        ("a tenth of a processor", 1.0, Cpu(processors=0.1), 0.1, ("--cpu", "1", "--cpu-load", "10")),
        ("80 % of a limit of 0.5", 0.5, Cpu(percent=80), 0.4, ("--cpu", "1", "--cpu-load", "40")),
        ("a processor", 2.0, Cpu(processors=1.0), 1.0, ("--cpu", "1")),
        ("60 % of a limit of 2, by two processes", 2.0, Cpu(percent=60), 1.2, ("--cpu", "2", "--cpu-load", "60")),
    ]

    def rate(app: Inside) -> float:
        time.sleep(SETTLED_SECONDS)
        began, before = time.monotonic(), burned(app)
        time.sleep(bench.seconds)
        return (burned(app) - before) / (time.monotonic() - began)

    for what, limit, act, asked, options in cases:
        with limited(bench, limit, 512 * MIB) as app:
            with pressed(bench, app, act):
                ours = off(rate(app), asked)
            other = "not installed"
            if shutil.which("stress-ng"):
                with stressed(app, *options):
                    other = f"{off(rate(app), asked):+.2f} %"
        bench.add(f"processor time: {what}", "within 3 %", f"{ours:+.2f} %", other, abs(ours) <= 3)


def memory(bench: Bench) -> None:
    """What more is billed to the container."""
    cases: list[tuple[str, Memory, int]] = [
        ("64 MiB", Memory(amount=64 * MIB), 64 * MIB),
        ("half of a limit of 512 MiB", Memory(percent=50), 256 * MIB),
        ("90 % of it", Memory(percent=90), 512 * MIB * 9 // 10),
        ("half of it, the target to die first", Memory(percent=50, victim="Target"), 256 * MIB),
    ]

    def settled(app: Inside) -> int:
        """Once it has not changed by a thousandth for a while."""
        end, last, since = time.monotonic() + LONGEST_SECONDS, used(app), time.monotonic()
        while time.monotonic() < min(end, since + SETTLED_SECONDS):
            time.sleep(0.05)
            if abs((now := used(app)) - last) > last / 1000:
                last, since = now, time.monotonic()
        return used(app)

    for what, act, asked in cases:
        with limited(bench, 2.0, 512 * MIB) as app:
            before = settled(app)
            with pressed(bench, app, act):
                ours = off(settled(app) - before, asked)
            other = "not installed"
            if shutil.which("stress-ng"):
                before = settled(app)
                with stressed(app, "--vm", "1", "--vm-keep", "--vm-hang", "0", "--vm-bytes", str(asked)):
                    other = f"{off(settled(app) - before, asked):+.2f} %"
        bench.add(f"memory: {what}", "within 1 %", f"{ours:+.2f} %", other, abs(ours) <= 1)


def overhead(bench: Bench) -> None:
    """What the agent takes, and its children beside what they are there for."""
    acts = {"processors": Cpu(percent=50), "memory": Memory(percent=50), "processes": Pids(amount=200)}
    for name, act in acts.items():
        with limited(bench, 1.0, 256 * MIB) as app, pressed(bench, app, act) as agent:
            time.sleep(SETTLED_SECONDS)
            first = running(agent)
            children = [int(n) for n in Path(f"/proc/{first}/task/{first}/children").read_text().split()]
            counted = [first, *([] if name == "processors" else children)]
            before, began = sum(map(spent, counted)), time.monotonic()
            time.sleep(bench.seconds)
            share = (sum(map(spent, counted)) - before) / (time.monotonic() - began) * 100
            size = (resident(first) + sum(map(private, children))) / MIB
        bench.add(f"the injector's memory, pressure on {name}", "at most 25 MiB", f"{size:.1f} MiB", "", size <= 25)
        bench.add(f"its processor time beyond that, {name}", "at most 1 %", f"{share:.2f} %", "", share <= 1)


def running(agent: Agent) -> int:
    """The agent's number, behind the nsenter(1) that started it."""
    number = agent.process.pid
    return int(Path(f"/proc/{number}/task/{number}/children").read_text())


def spent(number: int) -> float:
    return time.clock_gettime((~number << 3) | 2)


def resident(number: int) -> int:
    return _sum(f"/proc/{number}/smaps_rollup", "Rss:")


def private(number: int) -> int:
    """Anonymous memory that it has for itself."""
    return min(
        _sum(f"/proc/{number}/smaps_rollup", "Private_Dirty:"), _sum(f"/proc/{number}/smaps_rollup", "Anonymous:")
    )


def _sum(path: str, name: str) -> int:
    return sum(int(line.split()[1]) * 1024 for line in Path(path).read_text().splitlines() if line.startswith(name))


PARTS: Final[dict[str, Callable[[Bench], None]]] = {part.__name__: part for part in (processors, memory, overhead)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (default 10)")
    options = parser.parse_args()
    ended_as_interrupted()
    stretch = Stretch()
    with network() as lab, with_processes(lab):
        bench = Bench(lab, options.seconds)
        for name in options.only:
            PARTS[name](bench)
    print(f"Linux {os.uname().release}\n\n| | promised | ours | stress-ng | |\n|---|---|---|---|---|")
    print(*bench.rows, sep="\n")
    print(f"\n{stretch.closing()}")
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
