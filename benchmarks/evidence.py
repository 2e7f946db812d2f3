"""How long 5 MiB of evidence take into a store and out again, and how long everything else waits meanwhile.

    python -m benchmarks.evidence [--rounds N] [--mebibytes N]

On this machine's loopback and disk, with versitygw as the object storage; needs neither a cluster nor root.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from bounceback.cli.evidence import of_source
from bounceback.controller.object_storage import ACCESS_KEY, SECRET_KEY, ObjectStorage
from bounceback.controller.settings import BucketSettings
from bounceback.controller.store import Store, Stored
from bounceback.controller.stores import Volume
from bounceback.report.bundle import Bundle, pack
from bounceback.types.outcome import EvidenceKind
from tests import real_servers
from tests.unit.test_evidence import whole

MIB: Final = 1 << 20
MUCH: Final = 1 << 40
TICK: Final = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--mebibytes", type=int, default=5)
    options = parser.parse_args()
    print("| store | kept, median | longest | the operator's loop stood still for at most | read by the command |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as stores:
        for store in stores:
            print(asyncio.run(row(store, options.rounds, options.mebibytes)), flush=True)


@contextmanager
def served(place: Path) -> Iterator[list[Store]]:
    for name, text in ((ACCESS_KEY, real_servers.ACCESS_KEY), (SECRET_KEY, real_servers.SECRET_KEY)):
        (place / name).write_text(text)
    with real_servers.versitygw() as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        given = {"AWS_ACCESS_KEY_ID": real_servers.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": real_servers.SECRET_KEY}
        os.environ.update(given | {"AWS_ENDPOINT_URL": endpoint})
        bucket = BucketSettings(real_servers.BUCKET, endpoint, keys=str(place))
        yield [Volume(place / "volume", MUCH), ObjectStorage(bucket, MUCH)]


async def row(store: Store, rounds: int, mebibytes: int) -> str:
    took, waited, read = [], [], []
    for number in range(rounds):
        owner = {"metadata": {"namespace": "shop", "name": f"run-{number}"}}
        stored, seconds, still = await timed(store.keep(owner, "uid", bundle_of(mebibytes)))
        assert not stored.failed
        begun = time.perf_counter()
        await asyncio.to_thread(of_source, stored.place, None)
        read.append(time.perf_counter() - begun)
        took.append(seconds)
        waited.append(still)
    figures = (f"{1000 * each:.0f} ms" for each in (median(took), max(took), max(waited), median(read)))
    return f"| {store.name} | {' | '.join(figures)} |"


async def timed(work: Awaitable[Stored]) -> tuple[Stored, float, float]:
    """What it gives, the seconds that it takes, and the longest time in which nothing else had its turn."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            longest = max(longest, time.perf_counter() - due)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(10 * TICK)
    longest, begun = 0.0, time.perf_counter()
    stored = await work
    seconds = time.perf_counter() - begun
    await asyncio.sleep(2 * TICK)
    ticking.cancel()
    return stored, seconds, longest


def bundle_of(mebibytes: int) -> Bundle:
    """A small run's, whose agents have said so much that nothing makes smaller; each time something else."""
    run = whole()
    bundle = pack(run.about(), run.lines, MUCH)
    return Bundle(bundle.manifest, {**bundle.packed, EvidenceKind.INJECTION: os.urandom(mebibytes * MIB)})


if __name__ == "__main__":
    main()
