"""What a check that watches by itself has to report: its outages, and how much of the time the system was up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from bounceback.api.check_status import ContinuousStatus, Outage, RecoveryCheckStatus, Times
from bounceback.report.markdown import escaped, table
from bounceback.report.redact import shown
from bounceback.report.words import count, figure, seconds

HEAD: Final = ("OUTAGE", "BEGAN", "LASTED", "DETECTED AFTER", "BUDGETS", "EXPERIMENTS", "SYMPTOM")


@dataclass(frozen=True)
class Record:
    """A RecoveryCheck as the API server gives it, and what it saw by itself."""

    namespace: str
    name: str
    seen: ContinuousStatus

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Record:
        """Raises ValueError for what is not a check that has watched by itself, or not one that we understand."""
        if body.get("kind") != "RecoveryCheck":
            raise ValueError(f"must be a RecoveryCheck, and is {body.get('kind')!r}")
        try:
            seen = RecoveryCheckStatus.model_validate(body.get("status") or {}).continuous
        except ValidationError as error:
            raise ValueError(f"is of a version of Bounceback that this one does not understand: {error}") from error
        if seen is None:
            raise ValueError(
                "has not watched by itself yet: spec.mode must be Continuous, and its conditions tell more"
            )
        return cls(body["metadata"].get("namespace", ""), body["metadata"]["name"], seen)


def summary(record: Record) -> list[str]:
    """What a terminal shows above the outages."""
    seen, totals = record.seen, record.seen.totals
    as_of = f", as of {seen.written_at}" if seen.written_at else ""
    lines = [f"{record.name}  {seen.state}{as_of}{': ' if seen.message else ''}{shown(seen.message)}"]
    if seen.window is not None:
        share = f"up {seen.availability} of the known time" if seen.availability else "nothing is known"
        lines.append(
            f"since {seen.window.since}: {share}, {count(seen.window.outages, 'outage')}, {_times(seen.window)}"
        )
    told = f"since {seen.since.time}: {count(totals.outages, 'outage')}, {totals.by_experiments} as experiments ran"
    if totals.longest is not None:
        told += f"; the longest, {totals.longest_number}, lasted {figure(totals.longest)}"
    if totals.ended:
        told += f"; {seconds(totals.lasted_milliseconds / totals.ended / 1000)} to recover on average"
    if totals.detected:
        mean = seconds(totals.detection_milliseconds / totals.detected / 1000)
        told += f"; {totals.detected} detected by the system itself, after {mean} on average"
    return [*lines, told]


def _times(times: Times) -> str:
    parts = (
        ("down", times.down_milliseconds),
        ("uncertain", times.uncertain_milliseconds),
        ("unknown", times.unknown_milliseconds),
    )
    return ", ".join(f"{seconds(value / 1000)} {name}" for name, value in parts)


def outages(record: Record) -> Iterator[Sequence[str]]:
    """Newest first, the one that lasts before them."""
    lasting = [record.seen.outage] if record.seen.outage else []
    for outage in (*lasting, *record.seen.outages):
        yield (
            str(outage.number),
            outage.began.latest.rfc3339(),
            _lasted(outage),
            figure(outage.detection) if outage.detection else "",
            str(outage.budgets or ""),
            ", ".join(outage.experiments),
            shown(outage.symptom),
        )


def _lasted(outage: Outage) -> str:
    if outage.lasted is None:
        return "goes on"
    words = figure(outage.lasted)
    if outage.unknown_milliseconds:
        words += f" ({seconds(outage.unknown_milliseconds / 1000)} of it nobody looked)"
    return f"{words} (the check was changed)" if outage.check_changed else words


def as_markdown(record: Record) -> str:
    """For a ticket, or a review of the month."""
    first, *others = summary(record)
    lines = [f"# {escaped(record.namespace)}/{escaped(record.name)}", "", escaped(first), ""]
    lines += [f"- {escaped(line)}" for line in others]
    rows = list(outages(record))
    lines += ["", *table([word.lower() for word in HEAD], rows)] if rows else [""]
    dropped = record.seen.totals.ended - len(record.seen.outages)
    if dropped:
        lines += [f"{count(dropped, 'older outage')} are in the totals only.", ""]
    return "\n".join(lines)


def as_json(record: Record) -> str:
    """The record as the status has it, without what the operator keeps there for itself."""
    kept = record.seen.to_json()
    for internal in ("histories", "probes", "revision", "healthyFrom"):
        kept.pop(internal, None)
    return json.dumps({"namespace": record.namespace, "name": record.name, **kept}, indent=2, ensure_ascii=False) + "\n"
