"""What becomes of a client's watches: they stall, end, tell an error, or lose and mix up events."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.types.api_rule import CutWatch, Ending, ErrorEvent, Event, Events, Stall, Where
from bounceback.types.fields import Model, ObjectName, Text
from bounceback.types.rules import Rule, exactly_one, one_of, refuse

FIELDS: Final = ("stall", "cut", "error", "events")
DELAY_WITH: Final = "delayMilliseconds must be above 0 with do Delay or Reorder, and 0 or unset with any other"
_HELD: Final = (Event.DELAY, Event.REORDER)

Act = Stall | CutWatch | ErrorEvent | Events


class EventType(StrEnum):
    """As they stand in a watch."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


class ErrorCode(IntEnum):
    """What the API server tells of in a watch that it must end."""

    EXPIRED = 410
    INTERNAL = 500


class WatchStall(Model):
    """The watch stays open, and nothing comes any more: no event, no bookmark, no end."""

    drop: bool = Field(
        False,
        description="What came meanwhile is lost, and the watch is reset when the fault ends; else it comes then.",
    )


class WatchCut(Model):
    """The watch ends after afterEvents events, and not before afterSeconds; with both 0 at once, each time."""

    where: Where = Field(
        Where.BETWEEN_EVENTS, description="BetweenEvents, or MidLine: an event is begun and not finished."
    )
    ending: Ending = Field(Ending.CLOSE, description="Close (an orderly end), Reset (RST) or Silence (no end).")
    after_events: int = Field(0, ge=0, le=1_000_000, description="How many events each watch gets before.")
    after_seconds: int = Field(0, ge=0, le=86_400, description="How long each watch goes on at least.")


class WatchError(Model):
    """The watch gets an ERROR event with a true Status, and ends."""

    code: ErrorCode = Field(
        ErrorCode.EXPIRED, description="410 (Expired: the client must list again) or 500 (InternalError)."
    )
    message: Text = Field("", description="Instead of the API server's own words.")
    after_events: int = Field(0, ge=0, le=1_000_000, description="How many events each watch gets before.")


class WatchEvents(Model):
    """Events are lost, repeated, late or out of order; probability, nth and firstN choose among events."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("(self.do in ['Delay', 'Reorder']) == (self.delayMilliseconds > 0)", DELAY_WITH, ".delayMilliseconds"),
    )

    do: Event = Field(
        description="Drop; Repeat; Delay (those that follow wait too); Reorder (it comes after the one that follows "
        "it); or Replay (before it, those that the watch had earlier come again)."
    )
    types: list[EventType] = Field(
        default_factory=list,
        max_length=5,
        description="ADDED, MODIFIED, DELETED, BOOKMARK, ERROR. Empty: all but bookmarks.",
    )
    names: list[ObjectName] = Field(
        default_factory=list, max_length=20, description="Only events of these objects. Empty: all."
    )
    delay_milliseconds: int = Field(
        0,
        ge=0,
        le=600_000,
        description="For Delay: how late. For Reorder: how long it waits for another to come before it.",
    )

    @model_validator(mode="after")
    def _delay_fits(self) -> Self:
        if (self.do in _HELD) != bool(self.delay_milliseconds):
            raise refuse(DELAY_WITH, "delayMilliseconds")
        return self


class WatchFault(Model):
    """What becomes of watches, those that are open when it begins included; exactly one of the four."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(FIELDS),)

    stall: WatchStall | None = Field(None, description="They stay open, and nothing comes any more.")
    cut: WatchCut | None = Field(None, description="They end.")
    error: WatchError | None = Field(None, description="They get an ERROR event and end.")
    events: WatchEvents | None = Field(None, description="Events are lost, repeated, late or out of order.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name in FIELDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(FIELDS, given))
        return self

    def act(self) -> Act:
        """As the proxy is told."""
        if self.stall is not None:
            return Stall(self.stall.drop)
        if (cut := self.cut) is not None:
            return CutWatch(cut.where, cut.ending, cut.after_events, cut.after_seconds * 1_000_000)
        if (error := self.error) is not None:
            return ErrorEvent(int(error.code), error.message, error.after_events)
        events = self.events
        assert events is not None
        types = tuple(map(str, events.types))
        return Events(events.do, types, tuple(events.names), events.delay_milliseconds * 1000)
