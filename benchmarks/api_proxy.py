"""The API proxy beside `kubectl proxy` and nginx, in one run on one machine: what was promised, and what was measured.

    python -m benchmarks.api_proxy [--rounds 5] [--patience 20] [--only NAME...]

Before the same server (nginx), each in turn; of the rounds the median counts. The client of the rates is wrk. Exit code
1: something promised was missed; 2: nginx, wrk or openssl is not installed. The last line tells how long something
waited for a processor.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import api_proxy_load as load
from benchmarks import api_proxy_place as places
from benchmarks.api_proxy_place import Side
from benchmarks.machine import Stretch, quiet
from benchmarks.relay import resident, used
from benchmarks.relay_load import in_process

CONNECTIONS: Final = 32
SECONDS: Final = 3
PACE: Final = 1_000
WATCHES: Final = 1_000
NAMES: Final = ("ours", "kubectl proxy", "nginx")
NONE: Final = "none"  # no proxy: the server itself
Figures = dict[str, str]


@dataclass
class Row:
    what: str
    promised: str
    held: bool | None  # None: nothing was promised
    figures: Figures


@dataclass
class Place:
    folder: Path
    server: Side
    kubectl: str | None
    rounds: int
    patience: float
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, promised: str, held: bool | None, figures: Figures) -> None:
        self.rows.append(Row(what, promised, held, figures))
        beside = "; ".join(f"{name} {figure}" for name, figure in figures.items())
        print(f"  {what} (promised {promised or 'nothing'}): {beside}", file=sys.stderr, flush=True)

    def in_turns(self, sides: list[Side], measure: Callable[[Side], Any]) -> dict[str, list[Any]]:
        """By name, a figure each round; each round begins with another."""
        found: dict[str, list[Any]] = {side.name: [] for side in sides}
        for n in range(self.rounds):
            for side in (*sides[n % len(sides) :], *sides[: n % len(sides)]):
                quiet(self.patience)
                found[side.name].append(measure(side))
        return found


def median(figures: Iterator[float] | list[float]) -> float:
    return statistics.median(figures)


# Requests


def requests(at: Place) -> None:
    """As many as it takes."""
    with places.proxies(at.folder, at.server.port, at.kubectl) as sides:

        def measure(side: Side) -> tuple[load.Loaded, float]:
            before = used(side.process)
            found = load.loaded(side, at.folder, CONNECTIONS, SECONDS)
            return found, (used(side.process) - before) / found.requests

        found = at.in_turns([at.server, *sides.values()], measure)
    rates = {name: median(run.rate for run, _ in runs) for name, runs in found.items()}
    what = f"requests/s, {CONNECTIONS} connections, 20 rules of which none hits"
    words = {name: f"{rate:,.0f}" for name, rate in rates.items()}
    at.add(what, "at least 20,000", rates["ours"] >= 20_000, words)
    costs = {name: f"{median(cost for _, cost in runs) * 1e6:.0f} us" for name, runs in found.items()}
    at.add("processor time a request", "", None, costs)
    at.add(
        "their p99", "", None, {name: f"{median(r.p99 for r, _ in runs) * 1e3:.1f} ms" for name, runs in found.items()}
    )


def latency(at: Place) -> None:
    """What a proxy adds, at a rate that leaves it time."""
    with places.proxies(at.folder, at.server.port, at.kubectl) as sides:
        found = at.in_turns(
            [at.server, *sides.values()],
            lambda side: in_process(load.paced, side, CONNECTIONS, PACE, float(SECONDS)),
        )
    bare = found.pop(NONE)
    for n, (name, most) in enumerate((("p50", 200), ("p99", 2_000))):
        added = {
            who: median((run[n] - base[n]) * 1e6 for run, base in zip(runs, bare, strict=True))
            for who, runs in found.items()
        }
        words = {who: f"{figure:,.0f} us" for who, figure in added.items()}
        words[NONE] = f"({median(run[n] for run in bare) * 1e6:,.0f} us)"
        at.add(f"added {name} at {PACE:,} requests/s", f"at most {most:,} us", added["ours"] <= most, words)


# Memory


def idling(at: Place) -> None:
    """Resident size of who has answered some requests and has nothing to do."""
    with places.proxies(at.folder, at.server.port, at.kubectl) as sides, ExitStack() as stack:
        sidecar = stack.enter_context(places.sidecar(at.folder, at.server.port))
        command = stack.enter_context(places.command(at.folder, at.server.port))
        everybody = [sidecar, command, *sides.values()]
        for side in everybody:
            in_process(load.paced, side, 1, 10, 1.0)
        time.sleep(1)
        sizes = {side.name: resident(side.process) for side in everybody}
    words = {name: f"{size:.0f} MiB" for name, size in sizes.items()}
    first = words | {"ours": words[sidecar.name]}
    at.add("memory of an idle sidecar", "at most 40 MiB", sizes[sidecar.name] <= 40, first)
    at.add("memory of an idle `bounceback proxy`", "", None, {"ours": words[command.name]})


def resized(process: int, name: str) -> float:
    """MiB: VmRSS, or VmHWM, the most that it has been."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


# A long list


def listing(at: Place) -> None:
    """How fast it comes, and what the proxy grows by, also where the client is slow."""
    with places.proxies(at.folder, at.server.port, at.kubectl) as sides:
        everybody = [at.server, *sides.values()]
        for slowly in (False, True):

            def measure(side: Side, slowly: bool = slowly) -> tuple[int, float, float]:
                Path(f"/proc/{side.process}/clear_refs").write_text("5")  # the peak begins anew: proc(5)
                before = resized(side.process, "VmRSS")
                size, seconds = load.listed(side, slowly)
                return size, seconds, resized(side.process, "VmHWM") - before

            found = at.in_turns(everybody if not slowly else everybody[1:], measure)
            megabytes = max(run[0] for runs in found.values() for run in runs) / 1e6
            what = f"a list of {places.OBJECTS:,} objects, {megabytes:.0f} MB"
            if not slowly:
                rates = {name: f"{median(r[0] / r[1] for r in runs) / 1e6:,.0f} MB/s" for name, runs in found.items()}
                at.add(what, "", None, rates)
            grown = {name: max(run[2] for run in runs) for name, runs in found.items() if name != NONE}
            words = {name: f"{size:.1f} MiB" for name, size in grown.items()}
            who = "a client that takes 13 MB/s" if slowly else "a fast client"
            at.add(f"{what}: growth before {who}", "not held whole", grown["ours"] <= megabytes / 5, words)


# Watches and rules


def watching(at: Place) -> None:
    """Watches that are open, events in them, and rules that come while they are."""
    found, before = {}, {}
    for name in NAMES:
        quiet(at.patience)
        upstream = places.free_port()
        with places.proxies(at.folder, upstream, at.kubectl) as sides:
            if (side := sides.get(name)) is None:
                continue
            before[name] = resident(side.process)
            certificate = at.folder / "tls.crt"
            look = _looking_at(side)
            found[name] = in_process(load.watched, side, upstream, certificate, WATCHES, look)
    sizes = {name: f"{run.seen:.0f} MiB ({before[name]:.0f} before)" for name, run in found.items()}
    run = found["ours"]
    at.add(f"{WATCHES:,} idle watches, memory", "at most 150 MiB", run.seen <= 150, sizes)
    words = {name: f"{one.p99 * 1e3:.1f} ms (p50 {one.p50 * 1e3:.2f})" for name, one in found.items()}
    at.add("an event in one of them, p99", "at most 5 ms", run.p99 <= 0.005, words)
    words = {name: f"{one.burst * 1e3:.0f} ms" for name, one in found.items()}
    at.add("an event for all of them at once, until the last has it", "", None, words)
    changes = {
        "a rule is felt by requests, slowest of 20 changes": max(run.answered),
        f"a rule ends {WATCHES:,} open watches, the last one": run.cut,
        f"the end of a rule releases {WATCHES:,} open watches, the last one": run.released,
    }
    for what, seconds in changes.items():
        at.add(what, "within 100 ms", seconds <= 0.1, {"ours": f"{seconds * 1e3:.0f} ms"})


def _looking_at(side: Side) -> Callable[[], float]:
    return lambda: resident(side.process)


PARTS: Final = {part.__name__: part for part in (requests, latency, idling, listing, watching)}


def table(rows: list[Row]) -> str:
    names = (*NAMES, NONE)
    lines = ["| | promised | ours | `kubectl proxy`, HTTP before it | nginx | no proxy | |", "|---" * 7 + "|"]
    words = {True: "held", False: "MISSED", None: ""}
    for row in rows:
        cells = (row.what, row.promised, *(row.figures.get(name, "") for name in names), words[row.held])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="The API proxy beside kubectl proxy and nginx.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine, each time")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    if lacking := places.missing():
        print(
            f"must be installed: {', '.join(lacking)} (Debian: apt-get install nginx-light wrk openssl)",
            file=sys.stderr,
        )
        return 2
    if (program := places.kubectl()) is None:
        print("no kubectl: `kubectl proxy` is left out", file=sys.stderr)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        places.certificate(folder)
        at = Place(folder, stack.enter_context(places.server(folder)), program, options.rounds, options.patience)
        stretch = Stretch()
        for part in options.only:
            quiet(options.patience)
            PARTS[part](at)
        closing = stretch.closing()
    print(f"{table(at.rows)}\n\n{closing}")
    return 1 if any(row.held is False for row in at.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
