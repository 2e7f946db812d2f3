"""How exact a fault is, by the kernel and by the relay, in one run and one table; and Toxiproxy 2.5.0 for comparison.

    python -m benchmarks.accuracy [--toxiproxy PROGRAM] [--only NAME...]

The same entry of an experiment is carried out on each rung, in a network namespace that stands for a pod; the same
client in that namespace and the same server at a peer measure all of them. As root. What this machine's kernel has not
got is left out and said; netem is on the other one: `python -m dev exec --node node-uml -- python -m
benchmarks.accuracy`. Exit code 1: something promised was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from benchmarks import relay_load as load
from benchmarks.machine import Stretch, quiet
from benchmarks.relay import (
    built_toxiproxy,
    lead,
    our_command,
    request,
    running,
    their_command,
    until_it_answers,
)
from bounceback.drivers import Site, capabilities, driver
from bounceback.faults import KINDS
from bounceback.faults.base import NetworkFault
from bounceback.types.plan import Direction
from bounceback.types.plan import Rung as PlanRung
from tests.kernel.lab import ONE, Lab, network, order, peer

CONNECTIONS: Final = 100
DELAYS: Final = (1, 10, 100, 1_000, 5_000)
RATES: Final = (1_000_000, 5_000_000, 20_000_000, 40_000_000)
DATAGRAMS: Final = 20_000
CERTAIN: Final = 2.576
"""Standard deviations that hold 99 % of a normal distribution."""
PAYLOAD: Final = 1448 / 1514
"""Of a full TCP segment on Ethernet, with time stamps: the kernel's rate is one of whole frames."""
Address = tuple[str, int]
Json = dict[str, Any]
Hits = Callable[[], int]
T = TypeVar("T")


class CannotError(Exception):
    """This rung does not do that here; why."""


class Rung(Protocol):
    at: dict[str, Address]  # what the client connects to, by what the server does behind it
    payload: float  # of the bytes that a rate counts
    promised: bool

    def does(self, fault: Json) -> str:
        """By what, where that is not always the same. Raises CannotError."""

    def force(self, listener: str, fault: Json) -> AbstractContextManager[Hits]:
        """In force while the block lasts."""


class Kernel:
    payload = PAYLOAD
    promised = True

    def __init__(self, lab: Lab, at: dict[str, Address]) -> None:
        self.at = at
        self._lab = lab
        self._has = frozenset(capabilities.features(lab.two))

    def does(self, fault: Json) -> str:
        return self._found(fault)[1].lower()

    @contextmanager
    def force(self, listener: str, fault: Json) -> Iterator[Hits]:
        asked, rung = self._found(fault)
        act = asked.act(rung)
        made = driver(act).apply(order(act, peer(ONE), direction=Direction.EGRESS), Site(self._lab.target))
        try:
            yield made.hits
        finally:
            made.revert()

    def _found(self, fault: Json) -> tuple[NetworkFault, PlanRung]:
        ((kind, spec),) = fault.items()
        asked = next(each for each in KINDS if each.kind == kind).model_validate_json(json.dumps(spec))
        assert isinstance(asked, NetworkFault)
        rungs = [rung for rung in asked.rungs() if rung is not PlanRung.RELAY]
        for rung in rungs:
            if asked.needs(rung) <= self._has:
                return asked, rung
        raise CannotError(f"no {' or '.join(rung.lower() for rung in rungs)}")


class Relay:
    payload = 1.0
    promised = True

    def __init__(self, control: Address, at: dict[str, Address]) -> None:
        self.at = at
        self._control = control

    def does(self, fault: Json) -> str:
        return ""

    @contextmanager
    def force(self, listener: str, fault: Json) -> Iterator[Hits]:
        seed = int.from_bytes(os.urandom(3), "big")  # else each run would throw the same dice
        request(self._control, "PUT", "/faults/measured", {**fault, "listener": listener, "seed": seed})
        before = self._hits()  # what has a name goes on counting under it
        try:
            yield lambda: self._hits() - before
        finally:
            request(self._control, "DELETE", "/faults/measured")

    def _hits(self) -> int:
        rules = request(self._control, "GET", "/counters")["rules"]
        return int(next(rule["hits"] for rule in rules if rule["name"] == "measured"))


class Toxiproxy:
    payload = 1.0
    promised = False

    def __init__(self, control: Address, at: dict[str, Address]) -> None:
        self.at = at
        self._control = control

    def does(self, fault: Json) -> str:
        if "networkLoss" in fault:
            raise CannotError("no UDP")
        return ""

    @contextmanager
    def force(self, listener: str, fault: Json) -> Iterator[Hits]:
        match fault:
            case {"networkDelay": {"delayMilliseconds": delay}}:
                toxic = {"type": "latency", "attributes": {"latency": delay, "jitter": 0}}
            case {"networkBandwidth": {"kilobitsPerSecond": rate}}:
                toxic = {"type": "bandwidth", "attributes": {"rate": rate // 8}}
        toxics = f"/proxies/{listener}/toxics"
        request(self._control, "POST", toxics, {"name": "measured", "stream": "upstream", **toxic})
        try:
            yield int
        finally:
            request(self._control, "DELETE", f"{toxics}/measured")


@dataclass
class Bench:
    lab: Lab
    server: dict[str, Address]
    rungs: tuple[Rung, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    missed: bool = False

    def of_each(self, fault: Json, measure: Callable[[Rung], T]) -> list[T | CannotError]:
        found: list[T | CannotError] = []
        for rung in self.rungs:
            try:
                rung.does(fault)
            except CannotError as error:
                found.append(error)
            else:
                quiet(5)
                found.append(measure(rung))
        return found

    def add(
        self,
        what: str,
        promised: str,
        fault: Json,
        found: list[T | CannotError],
        judge: Callable[[T], tuple[str, bool]],
    ) -> None:
        """`judge`: what was found, in words, and whether that is what was promised."""
        words, held = [], True
        for rung, each in zip(self.rungs, found, strict=True):
            if isinstance(each, CannotError):
                words.append(str(each))
                continue
            said, good = judge(each)
            words.append(f"{said} ({by})" if (by := rung.does(fault)) else said)
            held = held and (good or not rung.promised)
        self.missed |= not held
        row = (what, promised, *words, "held" if held else "MISSED")
        self.rows.append(row)
        print(*row, sep=" | ", file=sys.stderr, flush=True)


@contextmanager
def place(toxiproxy: str) -> Iterator[Bench]:
    """The server at the peer; both relays in the target, and the client beside them."""
    with ExitStack() as stack:
        lab = stack.enter_context(network())
        with lab.one.entered():
            server = stack.enter_context(load.served(ONE))
        stack.enter_context(lab.target.entered())
        ours: dict[str, Address] = {name: ("127.0.0.1", 20_000 + n) for n, name in enumerate(server)}
        theirs: dict[str, Address] = {name: ("127.0.0.1", 21_000 + n) for n, name in enumerate(server)}
        us, them = ("127.0.0.1", 20_100), ("127.0.0.1", 21_100)
        ways = {f"{name}/udp" if name == "count" else name: (ours[name], server[name]) for name in server}
        stack.enter_context(running(our_command(us, ways)))
        stack.enter_context(running(their_command(toxiproxy, them)))
        until_it_answers(us, "/faults")
        until_it_answers(them, "/proxies")
        lead(them, {name: (theirs[name], server[name]) for name in server if name != "count"})
        yield Bench(lab, server, (Kernel(lab, server), Relay(us, ours), Toxiproxy(them, theirs)))


def delaying(bench: Bench) -> None:
    """What the median of round trips grows by, on 100 connections that were open before."""
    faults = [{"networkDelay": {"delayMilliseconds": delay, "direction": "Egress"}} for delay in DELAYS]

    def measure(rung: Rung) -> list[float]:
        steps = [(delay / 1e3, partial(rung.force, "echo", fault)) for delay, fault in zip(DELAYS, faults, strict=True)]
        added: list[float] = load.in_process(load.delays, rung.at["echo"], CONNECTIONS, steps)
        return added

    found = bench.of_each(faults[0], measure)
    for n, (delay, fault) in enumerate(zip(DELAYS, faults, strict=True)):
        allowed = max(1.0, delay / 100)

        def judge(added: list[float], n: int = n, delay: int = delay, allowed: float = allowed) -> tuple[str, bool]:
            return f"{added[n] * 1e3:,.2f} ms", abs(added[n] * 1e3 - delay) <= allowed

        bench.add(
            f"delay of {delay:,} ms, {CONNECTIONS} connections, p50", f"within {allowed:g} ms", fault, found, judge
        )


def throttling(bench: Bench) -> None:
    """What arrives in 10 s on one TCP connection that sends as fast as it can, once the burst is over."""
    for rate in RATES:
        fault = {"networkBandwidth": {"kilobitsPerSecond": rate // 125, "direction": "Egress"}}

        def measure(rung: Rung, fault: Json = fault) -> float:
            with rung.force("meter", fault):
                return float(load.in_process(load.metered, rung.at["meter"])) / rung.payload

        def judge(speed: float, rate: int = rate) -> tuple[str, bool]:
            return f"{(speed / rate - 1) * 100:+.2f} %", abs(speed / rate - 1) <= 0.02

        found = bench.of_each(fault, measure)
        bench.add(f"bandwidth of {rate / 1e6:g} MB/s over 10 s", "within 2 %", fault, found, judge)


def losing(bench: Bench) -> None:
    """Datagrams that do not arrive; each of them must have been counted, and no other."""
    bursts = {"calmPackets": 100, "burstPackets": 8}
    models: list[tuple[str, Json, float, float]] = [  # with the share, and how much further than by dice it spreads
        ("", {"lossPercent": 10}, 0.1, 1.0),
        (", correlated by 50 %", {"lossPercent": 10, "correlationPercent": 50}, 0.1, 3**0.5),
        (", bursts of 8", {"gilbertElliott": bursts}, 0.08 / 1.08, 4.0),
    ]
    for name, spec, share, memory in models:
        fault = {"networkLoss": {**spec, "direction": "Egress"}}
        middle, spread = DATAGRAMS * share, CERTAIN * memory * (DATAGRAMS * share * (1 - share)) ** 0.5

        def measure(rung: Rung, fault: Json = fault) -> tuple[int, int]:
            with bench.lab.one.entered():
                before = load.in_process(load.asked_count, bench.server["count"])
            with rung.force("count", fault) as hits:
                load.in_process(load.datagrams, rung.at["count"], DATAGRAMS)
                counted = hits()
            with bench.lab.one.entered():
                arrived = load.in_process(load.asked_count, bench.server["count"]) - before
            return DATAGRAMS - arrived, counted

        def judge(found: tuple[int, int], middle: float = middle, spread: float = spread) -> tuple[str, bool]:
            lost, counted = found
            return f"{lost:,}, counted {counted:,}", abs(lost - middle) <= spread and counted == lost

        what, promised = f"{share:.1%} of {DATAGRAMS:,} datagrams lost{name}", f"{middle:,.0f} ± {spread:.0f} (99 %)"
        bench.add(what, promised, fault, bench.of_each(fault, measure), judge)


PARTS: Final[dict[str, Callable[[Bench], None]]] = {part.__name__: part for part in (delaying, throttling, losing)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Kernel, relay and Toxiproxy side by side.")
    parser.add_argument("--toxiproxy", help="the program (default: built by the development cluster's tool)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    toxiproxy = options.toxiproxy or built_toxiproxy()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stretch = Stretch()
    with place(toxiproxy) as bench:
        for name in options.only:
            PARTS[name](bench)
    print(f"Linux {os.uname().release}, {os.cpu_count()} processors\n")
    print("| | promised | kernel | relay | Toxiproxy 2.5.0 | |\n|---|---|---|---|---|---|")
    for row in bench.rows:
        print(f"| {' | '.join(row)} |")
    print(f"\n{stretch.closing()}")
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
