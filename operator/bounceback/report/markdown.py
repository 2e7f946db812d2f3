"""The report as Markdown, for a pull request or a ticket."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from bounceback.report import kept, repeats
from bounceback.report.course import LEVELS, STARTS, collapses, level_rows, start_rows
from bounceback.report.lessons import lessons
from bounceback.report.redact import shown
from bounceback.report.snapshots import SNAPSHOTS, snapshot_rows
from bounceback.report.subject import Subject
from bounceback.report.words import (
    BAD,
    GOOD,
    MARKS,
    REPAIRS,
    TONES,
    count,
    figure,
    outcome,
    rate,
    recovered_from,
    seconds,
)
from bounceback.report.workloads import PACES, WORKLOADS, pace_rows, pace_words, workload_rows
from bounceback.types.outcome import Aspect

SIGNS = {GOOD: "✅", BAD: "❌"}
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def as_markdown(subject: Subject) -> str:
    return "\n".join(_lines(subject)) + "\n"


def _lines(subject: Subject) -> Iterator[str]:
    status = subject.status
    verdict = str(status.verdict or status.phase)
    yield f"# {_sign(verdict)} {escaped(subject.namespace)}/{escaped(subject.name)}: {verdict}"
    yield ""
    yield escaped(status.message)
    yield ""
    if status.started_at:
        yield f"Started {status.started_at.time}, ran for {seconds(subject.length)}."
        yield ""
    if status.runs is not None:
        yield from _runs(subject)
    if status.axes is not None:
        found = status.axes
        rows = [
            ("injection", found.injection),
            ("recovery", found.recovery),
            ("consistency", found.consistency),
            ("cleanup", found.cleanup),
        ]
        yield from table(("axis", "outcome"), [(name, f"{_sign(word)} {word}") for name, word in rows])
    if status.aspects is not None:
        aspects = status.aspects.to_json().items()
        yield from table(("aspect", "outcome"), [(name, f"{_sign(word)} {word}") for name, word in aspects])
    yield from _figures(subject)
    if status.findings:
        yield "## Findings"
        yield ""
        for finding in status.findings:
            yield f"- {_sign(finding.verdict)} **{finding.reason}** ({finding.verdict}): {escaped(finding.message)}"
        yield ""
    for title, lines in lessons(subject).parts():
        yield f"## {title}"
        yield ""
        yield from (f"- {escaped(line)}" for line in lines)
        yield ""
    yield from _evidence(subject)


def _runs(subject: Subject) -> Iterator[str]:
    """All of them; what comes after this is the last one's."""
    yield "## Runs"
    yield ""
    yield f"{escaped(rate(subject))}."
    yield ""
    yield from table(repeats.PERCENTILES, repeats.percentile_rows(subject))
    rows = ((row[0], f"{_sign(row[1])} {row[1]}", *row[2:]) for row in repeats.run_rows(subject))
    yield from table(repeats.HEAD, rows)
    yield "## The last run"
    yield ""


def _figures(subject: Subject) -> Iterator[str]:
    figures = subject.status.figures
    known = (
        ("activation (planned to active)", figures.activation),
        (f"detection by {(figures.detected_by or 'nobody').lower()} (active to detected)", figures.detection),
        ("outage (first symptom to recovered)", figures.outage),
        ("repair (began to its end)", figures.repair),
        (f"recovery ({recovered_from(subject)} to recovered)", figures.recovery),
    )
    rows = [(name, figure(value)) for name, value in known if value is not None]
    if figures.recovered_under_fault:
        rows.append(("recovered", "before the fault was cleared"))
    if rows:
        yield from table(("figure", "measured"), rows)


def _evidence(subject: Subject) -> Iterator[str]:
    yield from _of_the_course(subject)
    yield from _of_the_faults(subject)
    yield from _of_the_system(subject)
    if told := kept.told(subject):
        yield f"Evidence: {escaped(told)}."
        yield ""


def _of_the_course(subject: Subject) -> Iterator[str]:
    status = subject.status
    if status.marks:
        yield "## Timeline"
        yield ""
        stretches = [(mark, subject.stretch(mark)) for mark in status.marks]
        yield from table(
            ("mark", "since start", "uncertainty", "seen by"),
            [
                (MARKS[m.mark], f"{(s.start + s.end) / 2:.3f} s", f"±{(s.end - s.start) / 2:.3f} s", m.source)
                for m, s in stretches
            ],
        )
    if status.gaps:
        spans = ", ".join(f"{subject.seconds(g[0]):.1f} s to {subject.seconds(g[-1]):.1f} s" for g in status.gaps)
        yield f"Nobody was looking from {spans}."
        yield ""


def _of_the_faults(subject: Subject) -> Iterator[str]:
    status = subject.status
    if status.injections:
        yield "## Injections"
        yield ""
        yield from table(
            ("fault", "target", "node", "vehicle", "rung", "state", "hits", "cleanup"),
            [
                (i.fault, i.on, i.node, i.vehicle, i.rung, f"{i.state} ({outcome(i)})", f"{i.hits:,}", i.cleanup)
                for i in status.injections
            ],
        )
        if more := status.injection_counts.total - len(status.injections):
            yield f"And {count(more, 'injection')} more."
            yield ""
    if status.starts:
        yield "## Faults that waited"
        yield ""
        yield from table(STARTS, start_rows(subject))
    if status.collapses:
        yield "## Collapse"
        yield ""
        yield from (f"{escaped(line)}\n" for line in collapses(subject))
        yield from table(LEVELS, level_rows(subject))
    if status.repair is not None:
        yield "## Repair"
        yield ""
        yield f"{REPAIRS.get(status.repair.state, status.repair.state)}: {escaped(status.repair.message)}"
        yield ""
        yield from (f"    {line}" for line in shown(status.repair.log).splitlines())
        yield ""


def _of_the_system(subject: Subject) -> Iterator[str]:
    status = subject.status
    if rows := list(workload_rows(subject)):
        yield "## Workloads"
        yield ""
        yield from table(WORKLOADS, [(*row[:2], f"{_sign(row[2])} {row[2]}", *row[3:]) for row in rows])
    if paces := list(pace_rows(subject)):
        yield "## How fast it was"
        yield ""
        yield from table(PACES, paces)
        yield from (f"{escaped(line)}\n" for line in pace_words(subject))
    if snapshots := list(snapshot_rows(subject)):
        yield "## What was observed"
        yield ""
        yield from table(SNAPSHOTS, snapshots)
    if status.invariants:
        yield "## Invariants"
        yield ""
        yield from table(
            ("check", "invariant", "result", "found"),
            [(i.check, i.name, f"{_sign(i.result)} {i.result}", i.message) for i in status.invariants],
        )
    if status.views:
        yield "## What the checks saw"
        yield ""
        for view in status.views:
            yield f"- **{escaped(view.name)}**: {view.healthy_samples:,} of {count(view.samples, 'sample')} healthy"
            yield from (f"  - {escaped(symptom)}" for symptom in view.symptoms)
        yield ""
    if rows := list(kept.latency_rows(subject)):
        yield "## How long answers took"
        yield ""
        yield from table(kept.LATENCY, rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(escaped(cell) for cell in row)} |"
    yield ""


def _sign(word: str) -> str:
    return "–" if word == Aspect.NOT_CHECKED else SIGNS.get(TONES.get(word, ""), "❔")


def escaped(text: str) -> str:
    """Nothing in it is markup, and it stays on its line."""
    return SPECIAL.sub(r"\\\1", " ".join(shown(text).split()))
