"""The rungs of a kernel, held against what is promised: delay, bandwidth, loss, resets, changes in place.

    python -m benchmarks.kernel [--only NAME...]

Of the kernel that it runs on, in network namespaces of its own; as root. What that kernel has not got is left out, with
the reason. Exit code 1: something promised was missed. `benchmarks.relay` measures the same things of the relay.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks import relay_load as load
from benchmarks.relay import waited
from bounceback.drivers import InForce, Site, capabilities, driver, sockets
from bounceback.types.choice import Choice
from bounceback.types.plan import Act, Direction, Drop, Feature, Netem, Rate
from tests.kernel.lab import ONE, PORT, Lab, connect, deliveries, flood, network, order, peer

CONNECTIONS: Final = 100
DELAYS: Final = (1, 10, 100, 1_000, 5_000)
RATES: Final = (1_000_000, 20_000_000)
FRAME, HEADERS = 1_500, 42
DATAGRAMS: Final = 20_000
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


@contextlib.contextmanager
def answering(lab: Lab) -> Iterator[None]:
    """An echo server at peer one."""
    loop = asyncio.new_event_loop()
    with lab.one.entered():
        sock = socket.create_server((ONE, PORT), backlog=4096)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(loop.create_server(load._Echo, sock=sock), loop).result()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def delaying(bench: Bench) -> None:
    if bench.lacks("delay", Feature.NETEM, Feature.U32):
        return

    async def measure() -> None:
        took = list[tuple[float, float]]()
        ends = await load.tickers((ONE, PORT), CONNECTIONS, took)  # before anything is delayed

        async def middle(wait: float) -> float:
            """Of the round trips of three echoes on each connection, evenly spread over three seconds."""
            took.clear()
            for _ in range(3):
                for end in ends:
                    end.tick()
                    await asyncio.sleep(1 / CONNECTIONS)
            await asyncio.sleep(wait + 0.3)
            return statistics.median(spent for _, spent in took)

        plain = await middle(0.0)
        for milliseconds in DELAYS:
            with bench.force(Netem(milliseconds * 1000)):
                added = (await middle(milliseconds / 1e3) - plain) * 1e3
            allowed = max(1.0, milliseconds / 100)
            held = abs(added - milliseconds) <= allowed
            what = f"delay of {milliseconds:,} ms, {CONNECTIONS} connections, p50 (netem)"
            bench.add(what, f"within {allowed:g} ms", f"{added:,.2f} ms", held)
        for end in ends:
            end.transport.close()

    with answering(bench.lab), bench.lab.target.entered():
        asyncio.run(measure())


def throttling(bench: Bench) -> None:
    """Whole frames that arrive in 10 s, once the burst is over."""
    if bench.lacks("bandwidth", Feature.TBF, Feature.U32):
        return
    for rate in RATES:
        with bench.force(Rate(rate, max(32_000, rate // 100))):
            pace = 0.7 * FRAME / rate
            moments = flood(bench.lab.target, bench.lab.one, ONE, 11.0, pace, FRAME - HEADERS)
        steady = [moment for moment in moments if 0.5 < moment - moments[0] <= 10.5]
        speed = FRAME * (len(steady) - 1) / (steady[-1] - steady[0])
        what, found = f"bandwidth of {rate / 1e6:g} MB/s over 10 s (tbf)", f"{(speed / rate - 1) * 100:+.2f} %"
        bench.add(what, "within 2 %", found, abs(speed / rate - 1) <= 0.02)


def losing(bench: Bench) -> None:
    acts: list[tuple[str, Act, float, float, tuple[Feature, ...]]] = [
        ("netem", Netem(loss_percent=10.0), 0.1, 1.0, (Feature.NETEM,)),
        ("netem, correlated by 50 %", Netem(loss_percent=10.0, loss_correlation=50.0), 0.1, 3**0.5, (Feature.NETEM,)),
        ("netem, bursts of 8", Netem(0, 0, burst_begins_percent=1.0, burst_ends_percent=12.5, burst_loss_percent=100.0),
         0.08 / 1.08, 4.0, (Feature.NETEM,)),
        ("nft", Drop(choice=Choice(0.1)), 0.1, 1.0, (Feature.NFT_IP, Feature.NFT_NUMGEN)),
    ]  # fmt: skip
    for name, act, share, memory, needed in acts:
        if bench.lacks(f"loss by {name}", *needed):
            continue
        with bench.force(act) as in_force:
            arrived = len(deliveries(bench.lab.target, bench.lab.one, ONE, DATAGRAMS))
            hits = in_force.hits()
        lost, spread = DATAGRAMS - arrived, 2.576 * memory * (DATAGRAMS * share * (1 - share)) ** 0.5
        held = abs(lost - DATAGRAMS * share) <= spread and hits == lost
        promised = f"{DATAGRAMS * share:,.0f} ± {spread:.0f} (99 %)"
        bench.add(
            f"{share:.1%} of {DATAGRAMS:,} datagrams lost ({name})", promised, f"{lost:,}, counted {hits:,}", held
        )


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


PARTS: Final[dict[str, Callable[[Bench], None]]] = {
    part.__name__: part for part in (delaying, throttling, losing, resetting, changing)
}


def main() -> int:
    parser = argparse.ArgumentParser(description="The rungs of this machine's kernel.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    began, pressed = time.monotonic(), waited()
    with network() as lab:
        bench = Bench(lab, frozenset(capabilities.features(lab.two)))
        for name in options.only:
            PARTS[name](bench)
    print(f"Linux {os.uname().release}\n\n| | promised | measured | |\n|---|---|---|---|")
    for what, promised, measured, held in bench.rows:
        print(f"| {what} | {promised} | {measured} | {'held' if held else 'MISSED'} |")
    spent = time.monotonic() - began
    print(f"\n{spent:.0f} s; something waited for a processor {(waited() - pressed) / spent:.0%} of the time")
    return 0 if all(held for *_, held in bench.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
