"""What all probes of all checks say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bounceback.api.status import CheckView
from bounceback.types.instants import Interval


@dataclass(frozen=True)
class Health:
    """A reading of the histories at one moment; `since` was when the first injection was in force, if any was."""

    watching: bool = False  # sampling has begun
    healthy_for: float = 0.0  # seconds without a failure or a gap, all probes together
    unhealthy: tuple[str, ...] = ()  # "check/probe: what was seen", for those that fail now
    never_healthy: tuple[str, ...] = ()  # "check/probe: what was seen", for those that never succeeded
    problems: tuple[str, ...] = ()  # probes that cannot work at all, with the reason
    failing_for: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (check, probe) -> seconds
    holding_for: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (check, signal) -> seconds
    counted: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)  # samples, and healthy ones
    symptom: Interval | None = None
    symptom_source: str = ""
    detected: Interval | None = None
    detected_source: str = ""
    named_rightly: bool | None = None  # the system said what the trouble is; None: nobody declared what is right
    named_wrongly: tuple[str, ...] = ()  # "check/signal: what it said instead"
    reacting: frozenset[tuple[str, str]] = frozenset()  # of the signals those that show a strategy: no detection
    strategy_missed: tuple[str, ...] = ()  # signals of a strategy that never came to hold, with what was seen instead
    strategy_unseen: tuple[str, ...] = ()  # those that may have, while nobody looked
    recovered: Interval | None = None  # last failure -> healthy, where it is stable since
    stable_seconds: float = 0.0  # the longest that any check asks for
    error_state: bool | None = (
        None  # FailSafe: reached and held while active; Manual: until the repair; None: nothing declared or seen
    )
    gaps: tuple[Interval, ...] = ()
    error_state_gaps: tuple[Interval, ...] = ()  # while it was to hold, once it was reached
    views: tuple[CheckView, ...] = ()


NOTHING_SEEN: Final = Health()
