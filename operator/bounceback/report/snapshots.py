"""What reports say of what was observed: when and how much, never the values; they may be secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import Field

from bounceback.report.redact import redact
from bounceback.report.subject import Subject
from bounceback.types.fields import Model

SNAPSHOTS: Final = ("observed", "how many", "when", "not read")


class RecordUnread(Model):
    """An observation that could not be read."""

    check: str = Field(description="The check.")
    name: str = Field(description="The observation.")
    message: str = Field(description="Why.")


class RecordSnapshot(Model):
    """What was observed at one time."""

    when: str = Field(description="before, clear or after.")
    read: int = Field(description="So many observations.")
    unread: list[RecordUnread] = Field(description="Those that could not be read.")
    least_seconds: float | None = Field(None, description="Of clear: not sooner after the end of the last fault.")
    most_seconds: float | None = Field(None, description="And not later.")


def snapshots(subject: Subject) -> Iterator[RecordSnapshot]:
    observed = subject.status.observed
    for when in ("before", "clear", "after"):
        values, unread = observed.get(when), list(_unread(subject, when))
        if unread or any((values or {}).values()):
            least, most = observed.get("clearSeconds") or (None, None) if when == "clear" else (None, None)
            read = sum(len(each) for each in (values or {}).values())
            yield RecordSnapshot(when=when, read=read, unread=unread, least_seconds=least, most_seconds=most)


def _unread(subject: Subject, when: str) -> Iterator[RecordUnread]:
    for check, problems in (subject.status.observed.get(f"{when}Problems") or {}).items():
        for name, why in problems.items():
            yield RecordUnread(check=check, name=name, message=redact(why))


def snapshot_rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    for each in snapshots(subject):
        told = (
            f"{each.least_seconds:.1f} to {each.most_seconds:.1f} s after all was cleared" if each.most_seconds else ""
        )
        unread = "; ".join(f"{u.check}/{u.name}: {u.message}" for u in each.unread)
        yield "at clear" if each.when == "clear" else each.when, str(each.read), told, unread
