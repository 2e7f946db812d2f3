"""How exactly a disk is filled, and how soon, held against what is promised.

    python -m benchmarks.disk [--size MIB]

By a real agent, on file systems of their own, in a file and in memory, as root; needs no cluster. What was reached is
what statvfs(3) says to others than root. Exit code 1: something promised was missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.machine import ended_as_interrupted
from bounceback.types.scarce import Fill
from bounceback.types.told import Told
from tests.kernel.lab import Lab, network, order, plan
from tests.kernel.pods import Inside, container, with_processes

PROMISED: Final = 1.0  # percent of the file system
SETTLED_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 60.0
KINDS: Final = ("ext4", "xfs", "tmpfs")
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Row:
    what: str
    off: float  # percent of the file system
    seconds: float  # from when it was told in force until it was reached
    freed: float  # seconds from the agent's death until it was free again

    @property
    def held(self) -> bool:
        return abs(self.off) <= PROMISED

    def __str__(self) -> str:
        words = (
            f"| {self.what} | within {PROMISED:.0f} % | {self.off:+.3f} % | {self.seconds:.2f} s | {self.freed:.2f} s |"
        )
        return f"{words} {'held' if self.held else 'MISSED'} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="MiB of each file system (default 1024)")
    size = parser.parse_args(arguments).size
    there = [kind for kind in KINDS if kind == "tmpfs" or shutil.which(f"mkfs.{kind}")]
    ended_as_interrupted()
    with network() as lab, with_processes(lab) as first:
        rows = [row for kind in there for row in each(lab, first, kind, size)]
    print("| | promised | off by | reached after it was told in force | free again after kill -9 | |")
    print("|---|---|---|---|---|---|")
    print(*rows, sep="\n")
    return 0 if all(row.held for row in rows) else 1


def each(lab: Lab, first: str, kind: str, size: int) -> Iterator[Row]:
    fills = (
        Fill(path="/data", free_bytes=0),
        Fill(path="/data", free_percent=5),
        Fill(path="/data", free_bytes=100 * MIB),
        Fill(path="/data", amount_bytes=size * MIB // 2),
        Fill(path="/data", free_percent=5).scaled(0.3),
    )
    with container(lab, lab.target, kind=kind, size=f"{size}m") as app:
        for fill in fills:
            yield measured(lab, app, Path(f"/proc/{first}/root{app.volume}"), kind, fill)


def measured(lab: Lab, app: Inside, volume: Path, kind: str, fill: Fill) -> Row:
    size, before = figures(volume)
    wanted = before - fill.amount(size, before)
    agent = lab.start(plan(replace(order(fill, duration=100.0, not_after=200.0), pod_uid=app.uid), on_node=True))
    agent.until(Told.IN_FORCE, seconds=LONGEST_SECONDS)
    last, began = before, time.monotonic()
    reached = began
    while time.monotonic() - reached < SETTLED_SECONDS and time.monotonic() - began < LONGEST_SECONDS:
        _, free = figures(volume)
        if free != last:
            last, reached = free, time.monotonic()
        time.sleep(0.002)
    ended = agent.signal(signal.SIGKILL)
    while figures(volume)[1] < before - size // 1000 and time.monotonic() - ended < LONGEST_SECONDS:
        time.sleep(0.002)
    freed = time.monotonic() - ended
    return Row(f"{kind}, {words(fill)}", (last - wanted) / size * 100, reached - began, freed)


def words(fill: Fill) -> str:
    share = f", {fill.share:.0%} of it" if fill.share < 1 else ""
    if fill.amount_bytes is not None:
        return f"{fill.amount_bytes // MIB} MiB taken{share}"
    if fill.free_percent is not None:
        return f"{fill.free_percent} % left free{share}"
    return f"{(fill.free_bytes or 0) // MIB} MiB left free{share}"


def figures(volume: Path) -> tuple[int, int]:
    """Size and what is free for others than root, in bytes."""
    told = os.statvfs(volume)
    return told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize


if __name__ == "__main__":
    sys.exit(main())
