"""How long it takes to write down and to check 10 million operations of a workload, and what memory.

    python -m benchmarks.accounting [--operations 10000000] [--model Set]

Each model in a process of its own: 64 operations under way at a time that end in any order, a tenth of them reads (Set:
none; Queue: half of them takes), one in 10,000 without an answer. At the end all is read back with 100 values lost and,
where the model can tell, 50 duplicated: exactly these must be found. Memory is the peak of the whole process. Exits 1
when a promise is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import time
from array import array
from multiprocessing.connection import Connection

from benchmarks.machine import Stretch
from bounceback.accounting.account import Flaw
from bounceback.accounting.checking import check
from bounceback.accounting.ledger import NOTHING, Function, Ledger, Model, Outcome

MOST_SECONDS = 60.0
MOST_MEBIBYTES = 1024.0
UNDER_WAY = 64
KEYS = 100
LOST, DUPLICATED = 100, 50
UNKNOWN_ONE_IN = 10_000


def load(model: Model, operations: int) -> Ledger:
    """A ledger of a system that answers truly, but for what it loses."""
    ledger, dice, clock = Ledger(), random.Random(1), time.monotonic_ns
    other = Function.TAKE if model is Model.QUEUE else Function.READ
    under_way: list[int] = []
    has = [NOTHING if model is Model.REGISTER else 0] * KEYS
    waiting = array("I")
    oldest = 0
    share = {Model.SET: 1.0, Model.QUEUE: 0.5}.get(model, 0.9)
    for _ in range(operations):
        draw = dice.random()
        function = Function.WRITE if draw < share else other
        key = int(draw * 1e6) % KEYS if model in (Model.REGISTER, Model.COUNTER) else 0
        under_way.append(ledger.begin(function, key, clock()))
        if len(under_way) < UNDER_WAY:
            continue
        place = int(draw * 1e9) % UNDER_WAY
        number, under_way[place] = under_way[place], under_way[-1]
        under_way.pop()
        key, value = ledger.keys[number], NOTHING
        outcome = Outcome.UNKNOWN if number % UNKNOWN_ONE_IN == 0 else Outcome.ACKNOWLEDGED
        if ledger.functions[number] == Function.WRITE:
            if model is Model.QUEUE:
                waiting.append(number)
            else:
                has[key] = number if model is Model.REGISTER else has[key] + 1
        elif model is Model.QUEUE:
            outcome = Outcome.ACKNOWLEDGED
            if oldest < len(waiting):
                value, oldest = waiting[oldest], oldest + 1
        else:
            value = has[key]
        ledger.end(number, outcome, value, clock())
    for number in under_way:
        outcome = Outcome.UNKNOWN if ledger.functions[number] == Function.WRITE else Outcome.FAILED
        ledger.end(number, outcome, NOTHING, clock())
    read_back(model, ledger, has, waiting[oldest:])
    return ledger


def read_back(model: Model, ledger: Ledger, has: list[int], waiting: array[int]) -> None:
    """Some of what was acknowledged is not there any more, some is there twice."""
    clock = time.monotonic_ns
    ledger.read_back()
    if model is Model.SET:
        there = array("q", range(len(ledger)))
        there.extend(range(1, DUPLICATED + 1))
        del there[-LOST - 1000 - DUPLICATED : -1000 - DUPLICATED]
        ledger.listed = there
    elif model is Model.QUEUE:
        kept = [number for number in waiting if ledger.outcomes[number] == Outcome.ACKNOWLEDGED][LOST:]
        for value in (*kept, *kept[:DUPLICATED], NOTHING):
            ledger.end(ledger.begin(Function.TAKE, 0, clock()), Outcome.ACKNOWLEDGED, value, clock())
    else:
        for key, value in enumerate(has):
            ledger.end(ledger.begin(Function.READ, key, clock()), Outcome.ACKNOWLEDGED, value, clock())


def measure(model: Model, operations: int, told: Connection) -> None:
    began = time.monotonic()
    ledger = load(model, operations)
    loaded = time.monotonic()
    account = check(model, ledger)
    checked = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {flaw: finding.count for flaw, finding in account.flaws.items()}
    told.send(((loaded - began) / operations * 1e6, checked - loaded, peak, found))


def expected(model: Model) -> dict[Flaw, int]:
    """Of the flaws that are made."""
    return {Flaw.LOST: LOST, Flaw.DUPLICATED: DUPLICATED} if model in (Model.SET, Model.QUEUE) else {}


def main() -> int:
    parser = argparse.ArgumentParser(description="Time and memory of the accounts of workloads.")
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--model", type=Model, action="append", choices=list(Model))
    arguments = parser.parse_args()
    stretch, held = Stretch(), True
    print(f"| {arguments.operations:,} operations | written down | checked | peak memory | found | |")
    print("|---|---|---|---|---|---|")
    for model in arguments.model or list(Model):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(model, arguments.operations, theirs)
        )
        process.start()
        each, seconds, peak, found = ours.recv()
        process.join()
        wanted = expected(model)
        fits = seconds <= MOST_SECONDS and peak <= MOST_MEBIBYTES
        fits &= all(found[flaw] == count for flaw, count in wanted.items())
        held &= fits
        words = ", ".join(f"{count} {flaw}" for flaw, count in found.items() if count) or "nothing"
        row = (model, f"{each:.2f} us each", f"{seconds:.1f} s", f"{peak:.0f} MiB", words, "held" if fits else "MISSED")
        print(f"| {' | '.join(row)} |", flush=True)
    print(stretch.closing())
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
