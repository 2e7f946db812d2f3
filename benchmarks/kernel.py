"""How quick the rungs of a kernel are, held against what is promised: resets, changes in place.

    python -m benchmarks.kernel [--only NAME...]

Of the kernel that it runs on, in network namespaces of its own; as root. What that kernel has not got is left out, with
the reason. Exit code 1: something promised was missed. How exact they are is measured by `benchmarks.accuracy`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.machine import Stretch
from bounceback.drivers import InForce, Site, capabilities, driver, sockets
from bounceback.types.choice import Choice
from bounceback.types.plan import Act, Direction, Drop, Feature, Netem, Rate
from tests.kernel.lab import ONE, PORT, Lab, connect, network, order, peer

MANY: Final = 5_000


@dataclass
class Bench:
    lab: Lab
    has: frozenset[Feature]
    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def add(self, what: str, promised: str, measured: str, held: bool) -> None:
        self.rows.append((what, promised, measured, held))
        print(f"{what}: {measured}", file=sys.stderr, flush=True)

    def lacks(self, what: str, *needed: Feature) -> bool:
        """Says so where it does."""
        missing = [feature for feature in needed if feature not in self.has]
        if missing:
            print(f"{what}: this kernel has no {', '.join(missing)}", file=sys.stderr)
        return bool(missing)

    @contextlib.contextmanager
    def force(self, act: Act) -> Iterator[InForce]:
        made = order(act, peer(ONE), direction=Direction.EGRESS)
        in_force = driver(act).apply(made, Site(self.lab.target))
        try:
            yield in_force
        finally:
            in_force.revert()


def resetting(bench: Bench) -> None:
    if bench.lacks("reset", Feature.SOCK_DESTROY):
        return
    with bench.lab.one.entered():
        server = socket.create_server((ONE, PORT), backlog=MANY)
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        for _ in range(MANY):
            stack.enter_context(connect(bench.lab.target, ONE, seconds=5))
            stack.enter_context(server.accept()[0])
        began = time.perf_counter()
        count = sockets.destroy(bench.lab.target, (peer(ONE),), ("out",))
        seconds = time.perf_counter() - began
    bench.add(
        f"{MANY:,} connections reset", "within 1 s", f"{count:,} in {seconds:.3f} s", seconds < 1 and count == MANY
    )


def changing(bench: Bench) -> None:
    """How long a change takes until the kernel has it; the slowest of twenty."""
    acts: list[tuple[str, Act, Act, tuple[Feature, ...]]] = [
        ("netem", Netem(100_000), Netem(50_000), (Feature.NETEM,)),
        ("netem, jitter", Netem(100_000, 10_000), Netem(50_000, 5_000), (Feature.NETEM,)),
        ("tbf", Rate(1_000_000, 32_000), Rate(2_000_000, 32_000), (Feature.TBF,)),
        ("nft", Drop(), Drop(choice=Choice(0.5)), (Feature.NFT_IP, Feature.NFT_NUMGEN)),
    ]
    for name, act, other, needed in acts:
        if bench.lacks(f"a change of {name}", *needed):
            continue
        took = []
        with bench.force(act) as in_force:
            for following in [other, None, act] * 7:
                began = time.perf_counter()
                in_force.change(following)
                took.append(time.perf_counter() - began)
        bench.add(f"a change in place ({name})", "within 50 ms", f"{max(took) * 1e3:.1f} ms", max(took) <= 0.05)


PARTS: Final[dict[str, Callable[[Bench], None]]] = {part.__name__: part for part in (resetting, changing)}


def main() -> int:
    parser = argparse.ArgumentParser(description="The rungs of this machine's kernel.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stretch = Stretch()
    with network() as lab:
        bench = Bench(lab, frozenset(capabilities.features(lab.two)))
        for name in options.only:
            PARTS[name](bench)
    print(f"Linux {os.uname().release}\n\n| | promised | measured | |\n|---|---|---|---|")
    for what, promised, measured, held in bench.rows:
        print(f"| {what} | {promised} | {measured} | {'held' if held else 'MISSED'} |")
    print(f"\n{stretch.closing()}")
    return 0 if all(held for *_, held in bench.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
