"""The report as one HTML page that needs nothing else: no network, no script, light or dark, on a phone or on paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from bounceback.api.experiment import FaultTiming
from bounceback.api.status import Figure
from bounceback.report import kept, repeats
from bounceback.report.course import LEVELS, STARTS, collapses, level_rows, start_rows, starts
from bounceback.report.latencies import latency_picture
from bounceback.report.lessons import lessons
from bounceback.report.picture import NARROW, WIDE, picture
from bounceback.report.redact import shown
from bounceback.report.snapshots import SNAPSHOTS, snapshot_rows
from bounceback.report.subject import Subject
from bounceback.report.words import MARKS, REPAIRS, TONES, count, outcome, rate, recovered_from, seconds
from bounceback.report.workloads import PACES, WORKLOADS, pace_rows, pace_words, workload_rows

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
SIGNS: Final = {"good": "✓", "bad": "✗", "unclear": "?", "none": "–"}
NUMBER: Final = frozenset({"hits", "runs", "uncertainty", "since start", "samples", "healthy", *kept.LATENCY[4:]})
LEGEND: Final = (
    ("healthy", "--health-good"),
    ("unhealthy", "--health-bad"),
    ("fault in force", "--fault-fill"),
    ("a mark is as wide as it is uncertain", "--soft"),
)
STRIPS: Final = (
    ("the middle one of a moment's answers", "--ink"),
    ("from the quickest to the slowest", "--soft"),
    ("some failed", "--health-bad"),
    ("fault in force", "--fault-fill"),
)


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def as_page(subject: Subject) -> str:
    title = f"{subject.namespace}/{subject.name}: {subject.status.verdict or subject.status.phase}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(_body(subject))
        + "\n</main>\n</body>\n</html>\n"
    )


def _body(subject: Subject) -> Iterator[str]:
    yield _head(subject)
    if subject.status.runs is not None:
        yield _runs(subject)
    if subject.status.axes is not None:
        yield _axes(subject)
    if figures := "".join(_figures(subject)):
        yield f'<div class="tiles">{figures}</div>'
    yield _timeline(subject)
    if subject.status.findings:
        yield _section("Findings", _findings(subject))
    if learned := lessons(subject).parts():
        yield _section("What it teaches", "".join(_lesson(title, lines) for title, lines in learned))
    yield _section("What was asked", _asked(subject))
    yield from _evidence(subject)
    yield f"<footer>Bounceback · {_text(subject.namespace)}/{_text(subject.name)} · uid {_text(subject.uid)}</footer>"


def _head(subject: Subject) -> str:
    status = subject.status
    verdict = str(status.verdict or status.phase)
    tone = TONES.get(verdict, "none")
    when = f"Started {status.started_at.time}, ran for {seconds(subject.length)}" if status.started_at else ""
    return (
        f"<section><header><h1><small>{_text(subject.namespace)}</small>{_text(subject.name)}</h1>"
        f'<span class="verdict {tone}">{SIGNS[tone]} {_text(verdict)}</span></header>'
        f'<p class="lead">{_text(status.message)}</p><p class="when">{_text(when)}</p></section>'
    )


def _runs(subject: Subject) -> str:
    """All of them; what comes after this is the last one's."""
    return _section(
        "Runs",
        f'<p class="lead">{_text(rate(subject))}</p>'
        + _table(repeats.PERCENTILES, repeats.percentile_rows(subject))
        + _table(repeats.HEAD, repeats.run_rows(subject))
        + '<p class="note">What follows is the last run\'s.</p>',
    )


def _axes(subject: Subject) -> str:
    axes = subject.status.axes
    assert axes is not None
    known = (
        ("injection", "did the fault bite?", axes.injection),
        ("recovery", "did it come back?", axes.recovery),
        ("consistency", "was nothing lost?", axes.consistency),
        ("cleanup", "is nothing left?", axes.cleanup),
    )
    tiles = "".join(
        f'<div class="tile"><div class="what">{name}: {question}</div>'
        f'<div class="value {TONES[word]}">{SIGNS[TONES[word]]} {_text(word)}</div></div>'
        for name, question, word in known
    )
    return f'<div class="tiles">{tiles}</div>'


def _figures(subject: Subject) -> Iterator[str]:
    figures, budgets = subject.status.figures, _Budgets(subject)
    by = f" by {figures.detected_by.lower()}" if figures.detected_by else ""
    known = (
        ("activation: planned to active", figures.activation, None),
        (f"detection{by}: active to detected", figures.detection, budgets.detect),
        ("outage: first symptom to recovered", figures.outage, budgets.outage),
        ("repair: began to its end", figures.repair, None),
        (f"recovery: {recovered_from(subject)} to recovered", figures.recovery, budgets.recover),
    )
    for what, value, budget in known:
        if value is not None:
            yield _figure(what, value, budget)
    if figures.recovered_under_fault:
        yield '<div class="tile"><div class="what">recovered</div><div class="value">under the fault</div></div>'


class _Budgets:
    """The tightest bound of all checks."""

    def __init__(self, subject: Subject) -> None:
        every = [check.spec.budgets for check in subject.status.checks]
        self.detect = min((b.detect_seconds for b in every if b.detect_seconds), default=None)
        self.recover = min((b.recover_seconds for b in every if b.recover_seconds), default=None)
        self.outage = min((b.outage_seconds for b in every if b.outage_seconds), default=None)


def _figure(what: str, value: Figure, budget: int | None) -> str:
    middle, error = value.milliseconds / 1000, value.plus_minus_milliseconds / 1000
    decimals = 1 if error >= 0.05 else 2 if error >= 0.005 else 3
    meter = ""
    if budget is not None:
        sure, likely = (min(100.0, 100 * part / budget) for part in (middle - error, middle + error))
        over = " over" if middle - error > budget else ""
        meter = (
            f'<div class="meter{over}"><i class="about" style="width:{likely:.1f}%"></i>'
            f'<i style="width:{max(sure, 0):.1f}%"></i></div><div class="what">of {budget} s allowed</div>'
        )
    return (
        f'<div class="tile"><div class="what">{_text(what)}</div><div class="value">{middle:.{decimals}f} s '
        f"<small>±{error:.{decimals}f}</small></div>{meter}</div>"
    )


def _timeline(subject: Subject) -> str:
    keys = "".join(f'<span style="--key:var({colour})">{words}</span>' for words, colour in LEGEND)
    if subject.status.gaps:
        keys += '<span class="gap">nobody was looking</span>'
    return _section("Timeline", f'{picture(subject, WIDE)}{picture(subject, NARROW)}<div class="legend">{keys}</div>')


def _findings(subject: Subject) -> str:
    items = "".join(
        f'<li><span class="tag {TONES[f.verdict]}">{_text(f.reason)}</span><span>{_text(f.message)}</span></li>'
        for f in subject.status.findings
    )
    return f'<ul class="findings">{items}</ul>'


def _lesson(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<h3>{title}</h3><ul class="lessons">{items}</ul>'


def _asked(subject: Subject) -> str:
    spec = subject.spec
    rows = [(f.name, f.fault.kind, f.target, _settings(f), starts(f), seconds(f.duration_seconds)) for f in spec.faults]
    checks = ", ".join(check.name for check in spec.checks)
    note = f"Judged by {checks}; expected: {spec.expect}; impact: {spec.impact}; seed {spec.seed}."
    head = ("fault", "kind", "target", "settings", "starts", "lasts")
    return f'{_table(head, rows)}<p class="note">{_text(note)}</p>'


def _settings(entry: FaultTiming) -> str:
    """What the user set, in the spec's words."""
    fault = entry.fault
    told = {
        k: v for k, v in fault.model_dump(mode="json", by_alias=True, exclude_defaults=True).items() if k != "peers"
    }
    words = [f"{key} {value}" for key, value in told.items()]
    if peers := getattr(fault, "peers", None):
        words.append("peers " + "; ".join(str(peer) for peer in peers))
    return ", ".join(words) or "as by default"


def _evidence(subject: Subject) -> Iterator[str]:
    yield from _of_the_faults(subject)
    yield from _of_the_system(subject)
    yield from _of_the_run(subject)


def _of_the_faults(subject: Subject) -> Iterator[str]:
    status = subject.status
    if status.marks:
        stretches = [(mark, subject.stretch(mark)) for mark in status.marks]
        rows = [
            (MARKS[m.mark], f"{(s.start + s.end) / 2:.3f} s", f"±{(s.end - s.start) / 2:.3f} s", m.source)
            for m, s in stretches
        ]
        yield _section("Marks", _table(("mark", "since start", "uncertainty", "seen by"), rows))
    if status.injections:
        rows8 = [
            (i.fault, i.on, i.node, f"{i.vehicle}, {i.rung}", f"{i.state}: {outcome(i)}", f"{i.hits:,}", i.cleanup)
            for i in status.injections
        ]
        more = status.injection_counts.total - len(status.injections)
        note = f'<p class="note">And {count(more, "injection")} more.</p>' if more > 0 else ""
        left = "".join(
            f'<p class="note bad">Left on {_text(i.on)}: {_text(", ".join(i.leftovers))}</p>'
            for i in status.injections
            if i.leftovers
        )
        head = ("fault", "target", "node", "vehicle", "state", "hits", "cleanup")
        yield _section("Injections", _table(head, rows8) + left + note)
    if status.starts:
        yield _section("Faults that waited", _table(STARTS, start_rows(subject)))
    if status.collapses:
        told = "".join(f"<p>{_text(line)}</p>" for line in collapses(subject))
        yield _section("Collapse", told + _table(LEVELS, level_rows(subject)))
    if status.repair is not None:
        told = f"{REPAIRS.get(status.repair.state, status.repair.state)}: {status.repair.message}"
        log = f"<pre>{_text(status.repair.log)}</pre>" if status.repair.log else ""
        yield _section("Repair", f"<p>{_text(told)}</p>{log}")


def _of_the_system(subject: Subject) -> Iterator[str]:
    status = subject.status
    if worked := list(workload_rows(subject)):
        yield _section("Workloads", _table(WORKLOADS, worked))
    if paces := list(pace_rows(subject)):
        told = "".join(f"<p>{_text(line)}</p>" for line in pace_words(subject))
        yield _section("How fast it was", _table(PACES, paces) + told)
    if snapshots := list(snapshot_rows(subject)):
        yield _section("What was observed", _table(SNAPSHOTS, snapshots))
    if status.invariants:
        rows4 = [(i.check, i.name, i.result, i.message) for i in status.invariants]
        yield _section("Invariants", _table(("check", "invariant", "result", "found"), rows4))
    if status.views:
        rows3 = [
            (v.name, f"{v.samples:,}", f"{v.healthy_samples:,}", "; ".join(dict.fromkeys(v.symptoms)))
            for v in status.views
        ]
        yield _section("What the checks saw", _table(("check", "samples", "healthy", "first failures"), rows3))
    if latency := list(kept.latency_rows(subject)):
        yield _section("How long answers took", _latencies(subject) + _table(kept.LATENCY, latency))


def _of_the_run(subject: Subject) -> Iterator[str]:
    status = subject.status
    if status.aspects is not None:
        aspects = status.aspects.to_json()
        rows2 = [(name, word) for name, word in aspects.items()]
        yield _section("Aspects", _table(("aspect", "outcome"), rows2))
    if status.timeline:
        events = [(f"{h.elapsed_milliseconds / 1000:.1f} s", h.event, h.message) for h in status.timeline]
        note = (
            f'<p class="note">{count(status.timeline_dropped, "line")} had no room.</p>'
            if status.timeline_dropped
            else ""
        )
        yield _section("What happened", _table(("since start", "event", "message"), events) + note)
    if told := kept.told(subject):
        yield _section("Evidence", f'<p class="note">{_text(told)}</p>')


def _latencies(subject: Subject) -> str:
    """The strips of the probes, and what their colours mean."""
    courses = subject.kept.courses if subject.kept else ()
    drawn = latency_picture(subject, courses, WIDE) + latency_picture(subject, courses, NARROW)
    keys = "".join(f'<span style="--key:var({colour})">{words}</span>' for words, colour in STRIPS)
    return f'{drawn}<div class="legend">{keys}</div>' if drawn else ""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Outcomes are shown as tags; on a phone each row becomes a card, with the column's name beside each value."""
    top = "".join(f"<th{_kind(name)}>{name}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(_cell(name, cell) for name, cell in zip(head, row, strict=True)) + "</tr>" for row in rows
    )
    return f'<div class="hidden-scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(name: str, value: str) -> str:
    shown = _text(value)
    if name in ("result", "outcome", "cleanup"):
        shown = f'<span class="tag {TONES.get(value, "none")}">{shown}</span>'
    return f'<td{_kind(name)} data-of="{name}">{shown}</td>'


def _kind(name: str) -> str:
    return ' class="number"' if name in NUMBER else ""


def _text(text: str) -> str:
    return escape(shown(text), quote=True)
