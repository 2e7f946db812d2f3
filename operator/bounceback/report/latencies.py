"""How long answers took over the run, as a picture: a column a moment, with the span and the middle of its samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

from bounceback.report.picture import MARGIN, Paper, Scale
from bounceback.report.redact import shown
from bounceback.report.subject import Subject
from bounceback.types.outcome import Mark

COLUMNS: Final = 160
MOST: Final = 6
"""Probes that are drawn; the table has all of them."""
FEWEST: Final = 10
"""Healthy samples below which a picture says nothing."""
HEIGHT: Final = 74.0
TOP, FOOT = 20.0, 6.0


@dataclass(frozen=True, slots=True)
class Column:
    """The samples that began in one part of the run; times of the healthy ones, in milliseconds."""

    least: float | None
    middle: float | None
    most: float | None
    failed: int


@dataclass(frozen=True, slots=True)
class Course:
    """One probe's answers over the run."""

    probe: str
    columns: tuple[Column, ...]

    @property
    def drawn(self) -> list[Column]:
        return [each for each in self.columns if each.middle is not None]


def course(probe: str, samples: Sequence[tuple[float, float, bool]], length: float) -> Course | None:
    """`samples`: seconds since the start, milliseconds, whether healthy. None where there are too few."""
    if sum(healthy for _, _, healthy in samples) < FEWEST or length <= 0:
        return None
    parts: list[list[tuple[float, bool]]] = [[] for _ in range(COLUMNS)]
    for start, took, healthy in samples:
        parts[min(max(floor(start / length * COLUMNS), 0), COLUMNS - 1)].append((took, healthy))
    return Course(probe, tuple(_column(part) for part in parts))


def _column(part: Sequence[tuple[float, bool]]) -> Column:
    took = sorted(each for each, healthy in part if healthy)
    if not took:
        return Column(None, None, None, len(part))
    return Column(took[0], took[(len(took) - 1) // 2], took[-1], len(part) - len(took))


def latency_picture(subject: Subject, courses: Sequence[Course], paper: Paper) -> str:
    """An <svg> with a strip for each probe; "" where there is none. Each has a scale of its own, of powers of ten."""
    shown_ = [each for each in courses if each.drawn][:MOST]
    if not shown_:
        return ""
    scale = Scale(paper, max(subject.length, 0.1) * 1.01)
    height = len(shown_) * (HEIGHT + TOP + FOOT)
    strips = "".join(
        f'<g transform="translate(0 {number * (HEIGHT + TOP + FOOT):.1f})">{"".join(_strip(subject, each, scale))}</g>'
        for number, each in enumerate(shown_)
    )
    title = "How long answers took, and which failed"
    return (
        f'<svg class="timeline latency {paper.name}" viewBox="0 0 {paper.width:.0f} {height:.0f}" role="img"'
        f' aria-label="{title}"><title>{title}</title>{strips}</svg>'
    )


def _strip(subject: Subject, each: Course, scale: Scale) -> Iterator[str]:
    left, right = scale.x(0), scale.x(scale.length)
    low, high = _decades(each)
    yield f'<text class="name" x="{left if scale.paper.gutter else MARGIN:.1f}" y="13">{_text(each.probe)}</text>'
    for decade in range(low, high + 1):
        y = _height(10.0**decade, low, high)
        yield f'<line class="tick" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        words = f"{10**decade:,} ms" if decade >= 0 else f"{10.0**decade:g} ms"
        if scale.paper.gutter:
            yield f'<text class="tick" x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{words}</text>'
        else:
            yield f'<text class="tick" x="{right:.1f}" y="{y - 2:.1f}" text-anchor="end">{words}</text>'
    yield from _in_force(subject, scale)
    width = max(subject.length / COLUMNS, 0.0)
    for number, column in enumerate(each.columns):
        x, end = scale.x(number * width), scale.x((number + 1) * width)
        if column.middle is not None and column.least is not None and column.most is not None:
            top, bottom = _height(column.most, low, high), _height(column.least, low, high)
            yield (
                f'<rect class="span" x="{x:.1f}" y="{top:.1f}" width="{max(end - x - 0.6, 0.8):.1f}"'
                f' height="{max(bottom - top, 1.2):.1f}"/>'
                f'<rect class="middle" x="{x:.1f}" y="{_height(column.middle, low, high) - 1:.1f}"'
                f' width="{max(end - x, 1.2):.1f}" height="2"/>'
            )
        if column.failed:
            yield (
                f'<rect class="failed" x="{x:.1f}" y="{TOP - 4:.1f}" width="{max(end - x - 0.6, 1.2):.1f}" height="4">'
                f"<title>{column.failed} failed</title></rect>"
            )


def _in_force(subject: Subject, scale: Scale) -> Iterator[str]:
    active, cleared = subject.mark(Mark.ACTIVE), subject.mark(Mark.CLEARED)
    if active is not None:
        start = scale.x(subject.stretch(active).start)
        end = scale.x(subject.stretch(cleared).end if cleared else subject.length)
        yield f'<rect class="hit-time" x="{start:.1f}" y="{TOP}" width="{end - start:.1f}" height="{HEIGHT}"/>'


def _decades(each: Course) -> tuple[int, int]:
    """The powers of ten, in milliseconds, that all of it lies between; one at the least."""
    least = min(column.least or 0.001 for column in each.drawn)
    most = max(column.most or 0.001 for column in each.drawn)
    low = floor(log10(max(least, 0.001)))
    return low, max(-floor(-log10(max(most, 0.001))), low + 1)


def _height(milliseconds: float, low: int, high: int) -> float:
    share = (log10(max(milliseconds, 0.001)) - low) / (high - low)
    return TOP + HEIGHT * (1 - min(max(share, 0.0), 1.0))


def _text(text: str) -> str:
    return escape(shown(text), quote=True)
