"""The status of a RecoveryCheck: results of experiments, and what it saw where it watches by itself."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from bounceback.api.meta import Condition
from bounceback.api.status import Figure, MarkStatus, Moment
from bounceback.types.fields import StatusModel
from bounceback.types.instants import Interval
from bounceback.types.outcome import Judgement, Mark, Verdict


class Watched(StrEnum):
    """What is known of the system now."""

    UP = "Up"
    DOWN = "Down"
    UNKNOWN = "Unknown"


class Times(StatusModel):
    """Every millisecond is one of these."""

    up_milliseconds: int = Field(0, description="It was up.")
    down_milliseconds: int = Field(0, description="It was down: from the first symptom to the recovery.")
    uncertain_milliseconds: int = Field(
        0, description="It went down or came back at some moment within this: between two samples."
    )
    unknown_milliseconds: int = Field(0, description="Nobody looked, or could: neither up nor down.")

    @property
    def whole(self) -> int:
        return self.known + self.unknown_milliseconds

    @property
    def known(self) -> int:
        return self.up_milliseconds + self.down_milliseconds + self.uncertain_milliseconds


class Outage(StatusModel):
    """One time that the system was down, as one check saw it."""

    number: int = Field(description="Counts from 1, and is never given twice.")
    marks: list[MarkStatus] = Field(max_length=3, description="FirstSymptom, Detected, Recovered; of what is known.")
    symptom: str = Field("", max_length=256, description="What the probe said that saw it first.")
    experiments: list[str] = Field(
        default_factory=list,
        max_length=10,
        description="Those of the namespace that were under way as it began. None: nobody injected it.",
    )
    failing_at: Moment = Field(description="When it was last seen failing.")
    detection: Figure | None = Field(None, description="First symptom to detected, by a signal of the system's own.")
    lasted: Figure | None = Field(None, description="First symptom to recovered: the time to recover.")
    unknown_milliseconds: int = Field(0, description="For how long nobody looked while it lasted.")
    check_changed: bool = Field(False, description="The check's probes were changed while it lasted.")
    budgets: Judgement | None = Field(
        None, description="Whether it kept within detectSeconds and outageSeconds; unset where there are none."
    )

    def mark(self, mark: Mark) -> Interval | None:
        return next((m.interval() for m in self.marks if m.mark is mark), None)

    @property
    def began(self) -> Interval:
        """Every outage has one."""
        return next(m.interval() for m in self.marks if m.mark is Mark.FIRST_SYMPTOM)


class Slice(Times):
    """A part of the window."""

    utc: float = Field(description="When it begins, UTC seconds since the epoch.")
    outages: int = Field(0, description="Those that began in it.")


class Window(Times):
    """The newest part of the record."""

    since: str = Field(description="When it begins (RFC 3339).")
    outages: int = Field(0, description="Those that began in it.")
    availability_percent: str = Field("", description="Up of the known time, with its uncertainty: 99.95 ±0.01.")


class Totals(Times):
    """All that was ever seen, whatever is kept of it one by one."""

    outages: int = Field(0, description="Those that began.")
    by_experiments: int = Field(0, description="Of those that are over: as an experiment was under way.")
    ended: int = Field(0, description="Those that are over.")
    lasted_milliseconds: int = Field(0, description="Sum over those that are over: the middles.")
    detected: int = Field(0, description="Those that the system itself told of.")
    detection_milliseconds: int = Field(0, description="Sum over these: the middles.")
    longest: Figure | None = Field(None, description="The longest that is over.")
    longest_number: int | None = Field(None, description="Which one that was.")


class ContinuousStatus(StatusModel):
    """The record of a check that watches by itself, and all that a fresh operator needs to go on with it."""

    revision: int = Field(0, description="Counts the operator's writes: how it knows its own from another's.")
    state: Watched = Field(Watched.UNKNOWN, description="Up, Down or Unknown.")
    reason: str = Field("", max_length=64, description="One CamelCase word on the state.")
    message: str = Field("", max_length=1024, description="For people.")
    since: Moment = Field(description="When the first probe looked.")
    until: Moment = Field(description="Up to here every millisecond is counted in totals and slices.")
    healthy_from: Moment = Field(description="Symptoms from here on are a new outage's.")
    written_at: str = Field("", description="The last sign of life (RFC 3339): not older than a heartbeat or two.")
    probes: dict[str, str] = Field(default_factory=dict, description="A digest of each probe: whether it was changed.")
    histories: dict[str, Any] = Field(default_factory=dict, description="What the probes saw, condensed.")
    outage: Outage | None = Field(None, description="The one that lasts.")
    outages: Annotated[list[Outage], Field(max_length=30)] = Field(
        default_factory=list, description="Those that are over, newest first; the oldest are dropped."
    )
    totals: Totals = Field(default_factory=Totals, description="All of them.")
    slices: Annotated[list[Slice], Field(max_length=64)] = Field(
        default_factory=list, description="What the window is made of."
    )
    window: Window | None = Field(None, description="The newest windowHours, and what lasts now.")
    availability: str | None = Field(None, description="For the AVAILABILITY column.")
    longest: str | None = Field(None, description="For the LONGEST column.")


class CheckResult(StatusModel):
    """The verdict of one finished experiment, as this check saw it."""

    experiment: str = Field(description="The experiment's name.")
    uid: str = Field(description="The experiment's UID.")
    verdict: Verdict = Field(description="Its verdict.")
    recovered: str | None = Field(None, description="Time from cleared to recovered, for people.")
    finished_at: str = Field(description="When it finished (RFC 3339).")


class RecoveryCheckStatus(StatusModel):
    """The last results of experiments that used this check."""

    observed_generation: int | None = Field(None, description="The generation that this status speaks of.")
    conditions: list[Condition] = Field(default_factory=list, max_length=16, description="Ready, Stalled, Reconciling.")
    results: list[CheckResult] = Field(default_factory=list, max_length=20, description="Newest first.")
    last_verdict: str | None = Field(None, description="The newest result's verdict.")
    last_recovered: str | None = Field(None, description="The newest result's recovery time.")
    continuous: ContinuousStatus | None = Field(None, description="mode: Continuous: what was seen so far.")
