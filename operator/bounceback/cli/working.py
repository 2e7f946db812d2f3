"""The life of `bounceback workload`: read the file, run, account, tell."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bounceback.accounting.account import Account, Judged, judge
from bounceback.accounting.checking import check
from bounceback.accounting.history import edn, json_lines
from bounceback.accounting.latencies import Latencies
from bounceback.api.problems import Problem, parse
from bounceback.api.workload import SYSTEMS, Workload
from bounceback.cli.documents import Document, UnreadableError, read
from bounceback.cli.exits import INTERRUPTED, OF_VERDICT, CommandError
from bounceback.cli.progress import Output
from bounceback.cli.status import table
from bounceback.types.outcome import Verdict
from bounceback.workload.client import System
from bounceback.workload.numbering import RUN_BITS
from bounceback.workload.running import Course, NoFirstLookError, Run
from bounceback.workload.systems import missing_variable, system_of

A_FILE: Final = f"a mapping with model, and with {', '.join(SYSTEMS[:-1])} or {SYSTEMS[-1]}"
GIVEN: Final = ("seconds", "seed", "url")
SHARES: Final = (50.0, 90.0, 99.0, 99.9)

Json = dict[str, Any]


def run_workload(options: argparse.Namespace) -> int:
    """The exit code. Raises CommandError."""
    import uvloop

    workload = workload_of(options)
    if (missing := missing_variable(workload)) is not None:
        raise CommandError(f"{options.file}: passwordVariable: must be set in the environment: {missing}")
    system = _system(options, workload)
    if options.history:
        _try_writing(options.history)
    return uvloop.run(_live(options, workload, system))


def _system(options: argparse.Namespace, workload: Workload) -> System:
    """Raises CommandError."""
    files = {name: store.tls.authorities_file for name, store in workload.stores.items() if store.tls is not None}
    name, file = next(iter(files.items()), ("", None))
    try:
        return system_of(workload, Path(file).expanduser().read_text(encoding="utf-8") if file else None)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except ValueError as error:
        wrong = f"must hold certificates in PEM: {error}"
    raise CommandError(f"{options.file}: {name}.tls.authoritiesFile: {wrong}: {file}")


def workload_of(options: argparse.Namespace) -> Workload:
    """Of the file, and of what stands in its stead on the command line. Raises CommandError."""
    try:
        documents = read(options.file, A_FILE)
    except UnreadableError as error:
        raise CommandError(str(error)) from error
    if len(documents) != 1:
        raise CommandError(f"{options.file}: must be one document, {A_FILE}; found {len(documents)}")
    document = documents[0]
    data = _with_options(document.data, options)
    found, problems = parse(Workload, data, ())
    if found is None:
        raise CommandError("\n".join(_placed(document, options, problem) for problem in problems))
    return found


def _with_options(data: Json, options: argparse.Namespace) -> Json:
    given = {name: getattr(options, name) for name in ("seconds", "seed") if getattr(options, name) is not None}
    if options.url is not None and isinstance(data.get("http"), dict):
        given["http"] = data["http"] | {"url": options.url}
    return data | given


def _placed(document: Document, options: argparse.Namespace, problem: Problem) -> str:
    last = str(problem.path[-1]) if problem.path else ""
    if last in GIVEN and getattr(options, last) is not None:
        return f"--{last}: {problem.message}"
    return f"{document.place(problem.path)}: {problem}"


async def _live(options: argparse.Namespace, workload: Workload, system: System) -> int:
    run = Run(workload, system, 1 + secrets.randbelow((1 << RUN_BITS) - 1))
    living = asyncio.ensure_future(run.live())
    asked: list[int] = []

    def interrupted() -> None:
        asked.append(1)
        if len(asked) == 1:
            print("no more operations; what was written is read back (again: stop at once)", file=sys.stderr)
            run.end()
        else:
            living.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted)
    gc.freeze()  # what is there now stays: it need not be looked through again and again
    try:
        await living
    except NoFirstLookError as error:
        raise CommandError(
            f"{workload.address}: {error}; nothing was written", OF_VERDICT[Verdict.INCONCLUSIVE]
        ) from error
    except asyncio.CancelledError:
        return INTERRUPTED
    account = check(workload.model, run.course.ledger)
    judged = judge(account, workload.allow)
    if options.history:
        _write_history(options, workload, run.course)
    if options.output is Output.JSON:
        print(json.dumps(record(workload, run.course, account, judged)))
    else:
        print("\n".join(told(run.course, account, judged)))
    return OF_VERDICT[judged.verdict]


# What is told


def record(workload: Workload, course: Course, account: Account, judged: Judged) -> Json:
    """For programs; seconds, and numbers of operations as examples."""
    return {
        "verdict": judged.verdict,
        "reasons": list(judged.reasons),
        "model": workload.model,
        "operations": {
            "acknowledged": account.acknowledged,
            "failed": account.failed,
            "unknown": account.unknown,
            "tookEffect": account.took_effect,
            "reads": account.reads,
            "unanswered": account.unanswered,
            "neverBegun": course.never_begun,
            "lastTrouble": course.trouble,
            "perSecond": round(_rate(course), 1),
        },
        "readBack": {
            "read": account.read_back,
            "notRead": account.not_read_back,
            "mayBeLost": account.may_be_lost,
            "error": course.read_back_error,
        },
        "flaws": {
            flaw: {"count": finding.count, "examples": finding.examples, "allowed": flaw in workload.allow}
            for flaw, finding in account.flaws.items()
        },
        "latencySeconds": {name: _figures(each) for name, each in _latencies(course).items() if each.count},
    }


def _figures(latencies: Latencies) -> Json:
    names = (f"p{share:g}" for share in SHARES)
    return {**dict(zip(names, latencies.percentiles(SHARES), strict=True)), "longest": latencies.longest / 1e9}


def _latencies(course: Course) -> dict[str, Latencies]:
    return {"write": course.writes, "read": course.reads, "late": course.late}


def _rate(course: Course) -> float:
    return course.ledger.last_of_load / course.seconds if course.seconds else 0.0


def told(course: Course, account: Account, judged: Judged) -> Iterator[str]:
    """For people."""
    yield from table(
        [
            ("WRITES", "COUNT"),
            ("acknowledged", f"{account.acknowledged:,}"),
            ("failed", f"{account.failed:,}"),
            (
                "unknown",
                f"{account.unknown:,}" + (f", {account.took_effect:,} took effect" * (account.took_effect > 0)),
            ),
            *(
                (flaw.lower(), f"{finding.count:,}{_examples(finding.examples)}")
                for flaw, finding in account.flaws.items()
            ),
        ]
    )
    yield ""
    rows = [("LATENCY", *(f"P{share:g}" for share in SHARES), "LONGEST")]
    for name, each in _latencies(course).items():
        if each.count:
            rows.append((name, *map(_milliseconds, each.percentiles(SHARES)), _milliseconds(each.longest / 1e9)))
    yield from table(rows)
    yield ""
    yield f"{course.ledger.last_of_load:,} operations in {course.seconds:.1f} s: {_rate(course):,.0f}/s"
    if course.never_begun:
        yield f"{course.never_begun:,} were due and never begun: every connection was busy until the end"
    if course.was_full:
        yield "mostOperations was reached: no more were begun"
    if course.trouble:
        yield f"the last that was not acknowledged: {course.trouble}"
    if course.read_back_error:
        yield f"the read-back failed: {course.read_back_error}"
    first, *more = judged.reasons
    yield f"{judged.verdict:<13}{first}"
    for reason in more:
        yield f"{'':<13}{reason}"


def _examples(numbers: list[int]) -> str:
    return f" (operations {', '.join(map(str, numbers))}{', ...' if len(numbers) > 9 else ''})" if numbers else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


# The history


def _try_writing(file: str) -> None:
    try:
        with Path(file).open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise CommandError(f"--history {file}: cannot be written: {error.strerror}") from error


def _write_history(options: argparse.Namespace, workload: Workload, course: Course) -> None:
    lines = (
        json_lines(workload.model, course.ledger)
        if options.history.endswith(".jsonl")
        else edn(workload.model, course.ledger, options.history_key)
    )
    try:
        with Path(options.history).open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        print(f"bounceback workload: --history {options.history}: {error.strerror}", file=sys.stderr)
