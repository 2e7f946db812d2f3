"""The timeline as a picture: phases, health and injections over time, and each mark as the band that it lies in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Final

from bounceback.api.status import InjectionStatus, MarkStatus
from bounceback.report.redact import shown
from bounceback.report.subject import Stretch, Subject
from bounceback.report.words import MARKS, count, seconds
from bounceback.types.outcome import InjectionState, Mark, Phase

LETTER: Final = 6.3
"""Width of a letter of the picture's small print, at the most."""
LEVEL: Final = 17.0
MOST_ROWS: Final = 8
"""Injections that get a row with a name each; more become one block of thin lines."""
BLOCK: Final = 72.0
TICKS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400)
SHOWN: Final = {
    Mark.PLANNED: "plain",
    Mark.ACTIVE: "fault",
    Mark.FIRST_SYMPTOM: "bad",
    Mark.DETECTED: "plain",
    Mark.CLEARED: "fault",
    Mark.REPAIR_BEGAN: "plain",
    Mark.REPAIRED: "plain",
    Mark.RECOVERED: "good",
    Mark.STABLE: "good",
    Mark.CONSISTENT: "good",
}


@dataclass(frozen=True, slots=True)
class Paper:
    """The sheet: a wide one has row names in a gutter, a narrow one above the rows."""

    name: str
    width: float
    gutter: float

    @property
    def row(self) -> float:
        return 26.0 if self.gutter else 38.0

    @property
    def bar(self) -> float:
        """Where a row's bar begins below the row's top."""
        return 5.0 if self.gutter else 17.0


WIDE: Final = Paper("wide", 960, 176)
NARROW: Final = Paper("narrow", 400, 0)
MARGIN: Final = 14.0
THICK: Final = 16.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds to the picture's units."""

    paper: Paper
    length: float

    def x(self, at: float) -> float:
        left = self.paper.gutter + MARGIN
        return left + min(max(at, 0.0), self.length) / self.length * (self.paper.width - left - MARGIN)


def picture(subject: Subject, paper: Paper) -> str:
    """An <svg>; its colours are classes of the page's style sheet."""
    scale = Scale(paper, max(subject.length, 0.1) * 1.01)
    labels = _place(subject, scale)
    top = (max((label.level for label in labels), default=-1) + 1) * LEVEL + 10
    rows: list[str] = []
    y = top
    for row, height in (_phases(subject, scale), _health(subject, scale), *_injections(subject, scale)):
        rows.append(f'<g transform="translate(0 {y:.1f})">{row}</g>')
        y += height
    bottom = y + 4
    parts = [
        *_axis(scale, top, bottom),
        *rows,
        *_gaps(subject, scale, top, bottom),
        *_bands(labels, bottom),
    ]
    title = f"Timeline of {subject.namespace}/{subject.name}"
    told = "; ".join(f"{label.words}" for label in labels)
    return (
        f'<svg class="timeline {paper.name}" viewBox="0 0 {paper.width:.0f} {bottom + 26:.0f}" role="img"'
        f' aria-label="{_text(f"{title}: {told}")}"><title>{_text(title)}</title>{_patterns(paper)}'
        f"{''.join(parts)}</svg>"
    )


@dataclass(frozen=True, slots=True)
class Label:
    """A mark with the place of its name."""

    tone: str
    words: str
    start: float
    end: float
    x: float
    anchor: str
    level: int


def _place(subject: Subject, scale: Scale) -> list[Label]:
    """Names side by side where there is room, else one above the other: the earliest stands highest."""
    marks = [(mark, subject.stretch(mark)) for mark in subject.status.marks]
    marks = sorted(marks, key=lambda pair: -pair[1].start)
    taken: list[list[tuple[float, float]]] = []
    labels = []
    for mark, stretch in marks:
        words = _mark_words(mark, stretch)
        start, end = scale.x(stretch.start), scale.x(stretch.end)
        width = len(words) * LETTER + 8
        fits = start + width < scale.paper.width
        left, right = (start, start + width) if fits else (end - width, end)
        level = next((n for n, row in enumerate(taken) if all(right < a or left > b for a, b in row)), len(taken))
        if level == len(taken):
            taken.append([])
        taken[level].append((left, right))
        labels.append(
            Label(SHOWN[mark.mark], words, start, end, start if fits else end, "start" if fits else "end", level)
        )
    highest = len(taken) - 1
    return [Label(one.tone, one.words, one.start, one.end, one.x, one.anchor, highest - one.level) for one in labels]


def _mark_words(mark: MarkStatus, stretch: Stretch) -> str:
    middle, error = (stretch.start + stretch.end) / 2, (stretch.end - stretch.start) / 2
    about = f" ±{error:.1f}" if error >= 0.05 else ""
    return f"{MARKS[mark.mark]} {middle:.1f} s{about}"


def _bands(labels: Iterable[Label], bottom: float) -> Iterator[str]:
    """What is uncertain is a band as wide as the uncertainty, and never too thin to be seen."""
    for label in labels:
        width = max(label.end - label.start, 1.5)
        left = (label.start + label.end) / 2 - width / 2
        top = label.level * LEVEL + 6
        shift = 3 if label.anchor == "start" else -3
        yield (
            f'<g class="mark {label.tone}"><rect class="band" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}"'
            f' height="{bottom - top:.1f}"/><line x1="{label.x:.1f}" y1="{top:.1f}" x2="{label.x:.1f}"'
            f' y2="{bottom:.1f}"/><text x="{label.x + shift:.1f}" y="{top + 9:.1f}"'
            f' text-anchor="{label.anchor}">{_text(label.words)}</text></g>'
        )


def _name(paper: Paper, words: str, *, y: float | None = None) -> str:
    """A row's name, cut in its middle where the gutter is too small: names of pods differ in their ends."""
    room = int((paper.gutter or paper.width) / LETTER) - 2
    shown = words if len(words) <= room else f"{words[: room // 2 - 1]}…{words[-(room // 2) :]}"
    if paper.gutter:
        return (
            f'<text class="name" x="{paper.gutter:.0f}" y="{17 if y is None else y:.1f}" text-anchor="end">'
            f"<title>{_text(words)}</title>{_text(shown)}</text>"
        )
    return f'<text class="name" x="{MARGIN}" y="12">{_text(shown)}</text>'


def _phases(subject: Subject, scale: Scale) -> tuple[str, float]:
    paper = scale.paper
    parts = [_name(paper, "phase")]
    for phase, time in subject.phases():
        x, width = scale.x(time.start), scale.x(time.end) - scale.x(time.start)
        words = str(phase).lower()
        tip = f"{words}: {seconds(time.start)} to {seconds(time.end)}"
        parts.append(
            f'<rect class="phase {_tone_of_phase(phase)}" x="{x:.1f}" y="{paper.bar}" width="{max(width - 1, 0.5):.1f}"'
            f' height="{THICK}" rx="2"><title>{_text(tip)}</title></rect>'
        )
        if width > len(words) * LETTER + 8:
            parts.append(
                f'<text class="inside" x="{x + width / 2:.1f}" y="{paper.bar + 12}" text-anchor="middle">{words}</text>'
            )
    return "".join(parts), paper.row


def _tone_of_phase(phase: Phase) -> str:
    return "hot" if phase in (Phase.INJECTING, Phase.ACTIVE) else "calm"


def _health(subject: Subject, scale: Scale) -> tuple[str, float]:
    """Healthy until the first symptom, then not until recovered; where each change lies is shaded.

    While nobody looked there is no bar: what was not seen is not filled in.
    """
    paper = scale.paper
    names = ", ".join(check.name for check in subject.status.checks if check.spec.probes)
    if not names:
        return "", 0.0
    bars = "".join(_bar(scale, time, tone, tip) for time, tone, tip in _spells(subject) if time.end > time.start)
    unseen = "".join(
        f'<rect class="unseen" x="{scale.x(time.start):.1f}" y="{paper.bar - 1}" height="{THICK + 2}"'
        f' width="{scale.x(time.end) - scale.x(time.start):.1f}"/>'
        for time in _gap_times(subject)
    )
    return _name(paper, names) + bars + unseen, paper.row


def _spells(subject: Subject) -> Iterator[tuple[Stretch, str, str]]:
    """Times of one tone, one after another."""
    healthy = any(view.healthy_samples for view in subject.status.views)
    begin = next((time.start for phase, time in subject.phases() if phase is Phase.STEADY), 0.0)
    symptom, recovered = subject.mark(Mark.FIRST_SYMPTOM), subject.mark(Mark.RECOVERED)
    if symptom is None:
        yield Stretch(begin, subject.length), "good" if healthy else "bad", "healthy" if healthy else "never healthy"
        return
    fell = subject.stretch(symptom)
    back = subject.stretch(recovered) if recovered else None
    yield Stretch(begin, fell.start), "good", "healthy"
    yield fell, "fall", "became unhealthy in this time"
    yield Stretch(fell.end, back.start if back else subject.length), "bad", "unhealthy"
    if back is not None:
        yield back, "rise", "recovered in this time"
        yield Stretch(back.end, subject.length), "good", "healthy"


def _gap_times(subject: Subject) -> list[Stretch]:
    return [Stretch(subject.seconds(gap[0]), subject.seconds(gap[-1])) for gap in subject.status.gaps]


def _injections(subject: Subject, scale: Scale) -> Iterator[tuple[str, float]]:
    listed = subject.status.injections
    if len(listed) <= MOST_ROWS:
        for injection in listed:
            name = _name(scale.paper, f"{injection.fault} · {injection.on}")
            yield name + _force(subject, scale, injection, scale.paper.bar, THICK), scale.paper.row
        return
    for fault in subject.spec.faults:
        of_fault = [injection for injection in listed if injection.fault == fault.name]
        if not of_fault:
            continue
        thin = BLOCK / len(of_fault)
        name = _name(scale.paper, f"{fault.name} · {count(len(of_fault), 'pod')}", y=scale.paper.bar + BLOCK / 2 + 4)
        bars = "".join(
            _force(subject, scale, injection, scale.paper.bar + number * thin, max(thin - 0.4, 0.4))
            for number, injection in enumerate(of_fault)
        )
        yield name + bars, scale.paper.bar + BLOCK + 6


def _force(subject: Subject, scale: Scale, injection: InjectionStatus, y: float, height: float) -> str:
    """From when it was in force to when it was reverted; the first hit is a tick."""
    if injection.in_force_at is None:
        told = f"{injection.fault} on {injection.on} was never in force: {injection.reason}"
        hollow = f'<rect class="never" x="{scale.x(0):.1f}" y="{y + height / 2 - 0.5:.1f}" height="1"'
        width = scale.x(subject.length) - scale.x(0)
        return f'{hollow} width="{width:.1f}"><title>{_text(told)}</title></rect>'
    start = subject.on_target(injection, injection.in_force_at)
    cleared = injection.cleared_at
    end = subject.on_target(injection, cleared) if cleared else subject.length
    tone = "failed" if injection.state is InjectionState.FAILED or injection.leftovers else "force"
    tip = f"{injection.fault} on {injection.on}: {seconds(end - start)}, {injection.hits:,} hits, {injection.reason}"
    x, width = scale.x(start), max(scale.x(end) - scale.x(start), 1.0)
    bar = (
        f'<rect class="{tone}" x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}"'
        f' rx="{min(2.0, height / 2):.1f}"><title>{_text(tip)}</title></rect>'
    )
    if injection.first_hit_at is None or height < THICK:
        return bar
    hit = scale.x(subject.on_target(injection, injection.first_hit_at))
    return f'{bar}<line class="hit" x1="{hit:.1f}" x2="{hit:.1f}" y1="{y:.1f}" y2="{y + height:.1f}"/>'


def _bar(scale: Scale, time: Stretch, tone: str, tip: str) -> str:
    x, width = scale.x(time.start), scale.x(time.end) - scale.x(time.start)
    fill = f' fill="url(#{tone}-{scale.paper.name})"' if tone in ("fall", "rise") else ""
    return (
        f'<rect class="health {tone}"{fill} x="{x:.1f}" y="{scale.paper.bar}" width="{max(width, 0):.1f}"'
        f' height="{THICK}"><title>{_text(tip)}: {seconds(time.start)} to {seconds(time.end)}</title></rect>'
    )


def _gaps(subject: Subject, scale: Scale, top: float, bottom: float) -> Iterator[str]:
    for time in _gap_times(subject):
        x, width = scale.x(time.start), max(scale.x(time.end) - scale.x(time.start), 2.0)
        tip = f"nobody was looking: {seconds(time.start)} to {seconds(time.end)}"
        yield (
            f'<rect class="gap" fill="url(#hatch-{scale.paper.name})" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}"'
            f' height="{bottom - top:.1f}"><title>{_text(tip)}</title></rect>'
        )


def _axis(scale: Scale, top: float, bottom: float) -> Iterator[str]:
    """A tick at round figures, at most eight of them (four on narrow paper)."""
    most = 8 if scale.paper.gutter else 4
    step = next((tick for tick in TICKS if scale.length / tick <= most), scale.length / most)
    at = 0.0
    while at <= scale.length:
        x = scale.x(at)
        words = f"{at:.1f} s" if step < 1 else f"{at:.0f} s" if scale.length < 600 else f"{at / 60:.0f} min"
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
        anchor = "end" if x > scale.paper.width - 30 else "middle"
        yield f'<text class="tick" x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="{anchor}">{words}</text>'
        at += step


def _patterns(paper: Paper) -> str:
    """Shades for what is uncertain; their ids differ, because a page holds two pictures."""
    name = paper.name
    return (
        f'<defs><linearGradient id="fall-{name}"><stop class="stop-good" offset="0"/>'
        f'<stop class="stop-bad" offset="1"/></linearGradient>'
        f'<linearGradient id="rise-{name}"><stop class="stop-bad" offset="0"/>'
        f'<stop class="stop-good" offset="1"/></linearGradient>'
        f'<pattern id="hatch-{name}" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<line class="hatch" x1="0" y1="0" x2="0" y2="7"/></pattern></defs>'
    )


def _text(text: str) -> str:
    return escape(shown(text), quote=True)
