"""How punctual sampling is, and what memory it takes: 500 probes at 1 s and 20 at 50 ms, by HTTP, in one process.

    python -m benchmarks.sampling [--seconds 30] [--probes 500] [--quick-probes 20] [--slow] [--patience 0]

`--slow`: every answer takes 0.8 s, so that hundreds of samples are under way at once. The server is another process.
On a machine that others keep busy, `chrt -f 10` before it shows what is ours (util-linux; needs root). All that the
operator loads is loaded, and memory is the whole process's. Exits 1 when a promise is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.machine import quiet
from bounceback.api.check import RecoveryCheckSpec
from bounceback.controller.main import keep_what_is_there
from bounceback.recovery.watching import Watching

MOST_LATE_MS = 20.0
MOST_MEBIBYTES = 250.0
PER_CHECK = 50  # probes that one RecoveryCheck may have


def serve(told: Connection, delay: float) -> None:
    """Answers every request after `delay` seconds, with as little work as possible."""

    class Answer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            asyncio.get_running_loop().call_later(delay, self.answer)

        def answer(self) -> None:
            if isinstance(self.transport, asyncio.WriteTransport):
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                self.transport.close()

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0, backlog=4096)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def checks(probes: int, quick_probes: int, port: int) -> list[tuple[str, RecoveryCheckSpec]]:
    look = {"http": {"url": f"http://127.0.0.1:{port}/"}}
    entries = [{"name": f"p{n}", "periodMilliseconds": 1000, **look} for n in range(probes)]
    entries += [{"name": f"q{n}", "periodMilliseconds": 50, **look} for n in range(quick_probes)]
    return [
        (f"check-{n}", RecoveryCheckSpec.model_validate({"probes": entries[n : n + PER_CHECK]}))
        for n in range(0, len(entries), PER_CHECK)
    ]


def megabytes() -> float:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def waited() -> float:
    """Seconds that this process was ready to run and others had the processors (proc(5), schedstat)."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


async def measure(arguments: argparse.Namespace, port: int) -> bool:
    """Whether all that was promised was held."""
    keep_what_is_there()
    late: list[float] = []
    asked = checks(arguments.probes, arguments.quick_probes, port)
    before = megabytes()
    began, cpu, queued = time.monotonic(), time.process_time(), waited()
    async with Watching(None, "default", asked, None, lambda: None, late.append) as watching:  # type: ignore[arg-type]
        await asyncio.sleep(arguments.seconds)
        took, used, queued = time.monotonic() - began, time.process_time() - cpu, waited() - queued
        after = megabytes()
        histories = [h for name, _ in asked for h in watching.histories(name).values()]
    late.sort()
    due = arguments.seconds * (arguments.probes + 20 * arguments.quick_probes)
    latencies = sorted(h.runs[-1].last.latency for h in histories if h.runs)
    late_ms = late[len(late) * 99 // 100] * 1000
    kept = {True: "held", False: "MISSED"}
    rows = [
        ("samples begun", f"{len(late):,} of {due:,} due ({len(late) / took:,.0f}/s)"),
        ("healthy", f"{sum(h.healthy_samples for h in histories):,} of {sum(h.samples for h in histories):,} answered"),
        ("begun after due, p50", f"{late[len(late) // 2] * 1000:.1f} ms"),
        ("begun after due, p99", f"{late_ms:.1f} ms; at most {MOST_LATE_MS:.0f}: {kept[late_ms <= MOST_LATE_MS]}"),
        ("begun after due, worst", f"{late[-1] * 1000:.1f} ms"),
        ("answer, median of last ones", f"{latencies[len(latencies) // 2] * 1000:.1f} ms"),
        ("gaps", str(sum(len(h.gaps) for h in histories))),
        ("processor", f"{used / took * 100:.0f} % of one core, {used / len(late) * 1e6:.0f} us a sample"),
        ("waited for a processor", f"{queued / took * 100:.0f} % of the time (others were busy on this machine)"),
        (
            "memory",
            f"{after:.0f} MiB, {after - before:.1f} of them for sampling; "
            f"at most {MOST_MEBIBYTES:.0f}: {kept[after <= MOST_MEBIBYTES]}",
        ),
        ("load of the machine", " ".join(f"{load:.1f}" for load in os.getloadavg())),
    ]
    print(
        f"| {arguments.probes} probes at 1 s, {arguments.quick_probes} at 50 ms, {arguments.seconds} s | |\n|---|---|"
    )
    for name, value in rows:
        print(f"| {name} | {value} |")
    return late_ms <= MOST_LATE_MS and after <= MOST_MEBIBYTES


def main() -> int:
    parser = argparse.ArgumentParser(description="Jitter and memory of sampling.")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--probes", type=int, default=500)
    parser.add_argument("--quick-probes", type=int, default=20)
    parser.add_argument("--slow", action="store_true", help="answers take 0.8 s")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet moment")
    arguments = parser.parse_args()
    quiet(arguments.patience)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs, 0.8 if arguments.slow else 0.0), daemon=True)
    server.start()
    try:
        return 0 if asyncio.run(measure(arguments, ours.recv())) else 1
    finally:
        server.terminate()


if __name__ == "__main__":
    sys.exit(main())
