"""What a relay does to the connections that pass through it: rules, each with its direction and its choice.

Egress is what the client sends to the upstream, Ingress what it gets from there. Times are in microseconds, sizes in
bytes, rates in bytes a second, probabilities from 0 to 1, correlations in percent (as in plan.Netem).
Standard library only: the agent imports this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Final

from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Direction

RULES_VERSION: Final = 1


class Drawn(StrEnum):
    """What a choice is made for. A connection of UDP is what one client address sends and gets (until it is idle)."""

    CONNECTION = "Connection"
    SEGMENT = "Segment"  # a piece of a stream as it was read, or one datagram


class Connections(StrEnum):
    """Which connections a rule is for, seen from the moment that it came into force."""

    ALL = "All"
    NEW = "New"
    EXISTING = "Existing"


@dataclass(frozen=True, slots=True)
class Hold:
    """Each segment arrives this much later, in order on TCP; the opening of a connection and its end do, too."""

    drawn: ClassVar[Drawn] = Drawn.CONNECTION
    delay_us: int
    jitter_us: int = 0
    correlation: float = 0.0
    distribution: str = ""  # "" (uniform), "normal", "pareto" or "paretonormal"
    spike_probability: float = 0.0
    spike_multiplier: float = 1.0
    does: str = field(default="Hold", init=False)


@dataclass(frozen=True, slots=True)
class Throttle:
    """No more than `rate`, after a burst at once; `shared`: by all connections of the rule together, each way.

    Datagrams that would have to wait longer than `latency_us` are lost; streams are made to wait.
    """

    drawn: ClassVar[Drawn] = Drawn.CONNECTION
    rate: int
    burst: int = 0  # 0: what the rate carries in 50 ms
    shared: bool = False
    latency_us: int = 400_000
    does: str = field(default="Throttle", init=False)


@dataclass(frozen=True, slots=True)
class Lose:
    """Segments are lost: at random, or in bursts (Gilbert-Elliott) where `burst_begins` is above 0.

    A lost datagram is gone. A stream cannot lack a piece: what TCP makes of a loss is a pause until the piece is sent
    again, and that is what happens here: `recovery_us`, twice that if it is lost again, and so on (RFC 6298, 5.5).
    """

    drawn: ClassVar[Drawn] = Drawn.SEGMENT
    probability: float = 0.0
    correlation: float = 0.0
    burst_begins: float = 0.0  # p: from the good state to the bad one
    burst_ends: float = 1.0  # r: and back
    lost_in_burst: float = 1.0  # 1-h
    lost_outside: float = 0.0  # 1-k
    recovery_us: int = 200_000
    does: str = field(default="Lose", init=False)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Datagrams arrive twice. Does nothing to TCP, which would take the second one away."""

    drawn: ClassVar[Drawn] = Drawn.SEGMENT
    probability: float
    correlation: float = 0.0
    does: str = field(default="Duplicate", init=False)


@dataclass(frozen=True, slots=True)
class Corrupt:
    """One bit of a segment is changed, and delivered like that, with a checksum that fits."""

    drawn: ClassVar[Drawn] = Drawn.SEGMENT
    probability: float
    correlation: float = 0.0
    does: str = field(default="Corrupt", init=False)


@dataclass(frozen=True, slots=True)
class Reorder:
    """Datagrams overtake those before them, which wait for `delay_us`. Does nothing to TCP, which sorts."""

    drawn: ClassVar[Drawn] = Drawn.SEGMENT
    probability: float
    correlation: float = 0.0
    delay_us: int = 10_000
    does: str = field(default="Reorder", init=False)


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing passes. What was kept back goes on when the rule is lifted; what was swallowed is gone for good.

    A stream that lost bytes is reset when the rule is lifted: it must not go on as if it were whole.
    """

    drawn: ClassVar[Drawn] = Drawn.CONNECTION
    swallow: bool = False
    close_after_us: int = 0  # close both sides after this long; 0: never
    does: str = field(default="Silence", init=False)


@dataclass(frozen=True, slots=True)
class Reset:
    """Both sides get an RST: at once, or after so much data that way, or after so much time, whichever is first."""

    drawn: ClassVar[Drawn] = Drawn.CONNECTION
    after_bytes: int = 0
    after_us: int = 0
    does: str = field(default="Reset", init=False)

    @property
    def at_once(self) -> bool:
        return not self.after_bytes and not self.after_us


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody listens: connecting is refused (what the choice spares is let in, and the others are reset then)."""

    drawn: ClassVar[Drawn] = Drawn.CONNECTION
    does: str = field(default="Refuse", init=False)


@dataclass(frozen=True, slots=True)
class SlowClose:
    """The end of the stream (FIN) arrives this much later."""

    drawn: ClassVar[Drawn] = Drawn.CONNECTION
    delay_us: int
    does: str = field(default="SlowClose", init=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """Segments are cut into small ones, sent one by one with a pause between them."""

    drawn: ClassVar[Drawn] = Drawn.CONNECTION
    size: int
    variation: int = 0  # each piece is this much smaller or larger at most
    pause_us: int = 0
    does: str = field(default="Slice", init=False)


@dataclass(frozen=True, slots=True)
class LimitData:
    """The connection is closed, or reset, once exactly so many bytes have passed that way."""

    drawn: ClassVar[Drawn] = Drawn.CONNECTION
    size: int
    reset: bool = False
    does: str = field(default="LimitData", init=False)


Act = Hold | Throttle | Lose | Duplicate | Corrupt | Reorder | Silence | Reset | Refuse | SlowClose | Slice | LimitData
ACTS: Final[dict[str, type[Act]]] = {
    kind.__name__: kind
    for kind in (
        Hold,
        Throttle,
        Lose,
        Duplicate,
        Corrupt,
        Reorder,
        Silence,
        Reset,
        Refuse,
        SlowClose,
        Slice,
        LimitData,
    )
}
OF_SEGMENTS: Final = (Hold, Lose, Duplicate, Corrupt, Reorder)
"""Acts on single segments, which a choice may be among."""
DATAGRAM_ONLY: Final = (Duplicate, Reorder)
STREAM_ONLY: Final = (Reset, Refuse, SlowClose, Slice, LimitData)


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that the relay does. Names are unique in a relay: under the same name a rule is changed, not added.

    The choice is made among the connections or the segments that the rule sees (`per`; None: as the act has it),
    which are numbered for each rule in the order in which it sees them. A connection keeps its number when the rule is
    changed: with a larger probability those that were hit still are, and more.
    """

    name: str
    act: Act
    direction: Direction = Direction.BOTH
    choice: Choice = ALWAYS
    per: Drawn | None = None
    connections: Connections = Connections.ALL
    listener: str = ""  # only connections that this listener took; "": those of all

    def goes(self, way: Direction) -> bool:
        """Whether it is for that way's data."""
        return self.direction in (Direction.BOTH, way)

    @property
    def drawn(self) -> Drawn:
        return self.per or self.act.drawn

    def scaled(self, share: float) -> Rule:
        """With that share of its strength (above 0, at most 1), for a fault that grows or fades."""
        act = self.act
        match act:
            case Hold():
                scaled: Act = replace(act, delay_us=round(act.delay_us * share), jitter_us=round(act.jitter_us * share))
            case Throttle():
                scaled = replace(act, rate=round(act.rate / share))
            case Lose():
                scaled = replace(
                    act,
                    probability=act.probability * share,
                    lost_in_burst=act.lost_in_burst * share,
                    lost_outside=act.lost_outside * share,
                )
            case Duplicate() | Corrupt() | Reorder():
                scaled = replace(act, probability=act.probability * share)
            case SlowClose():
                scaled = replace(act, delay_us=round(act.delay_us * share))
            case _:
                return replace(self, choice=replace(self.choice, probability=self.choice.probability * share))
        return replace(self, act=scaled)


def to_json(rules: Iterable[Rule]) -> str:
    return json.dumps({"version": RULES_VERSION, "rules": [asdict(rule) for rule in rules]}, separators=(",", ":"))


def from_json(text: str) -> tuple[Rule, ...]:
    """Raises ValueError for rules of another version or shape."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("version") != RULES_VERSION:
        raise ValueError(f"not rules of version {RULES_VERSION}")
    try:
        return tuple(rule_from(entry) for entry in data["rules"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not rules: {error}") from error


def rule_from(data: dict[str, Any]) -> Rule:
    """From what `asdict` made of it. Raises KeyError, TypeError or ValueError."""
    act = dict(data["act"])
    kind = ACTS[act.pop("does")]
    return Rule(
        data["name"],
        kind(**act),
        Direction(data["direction"]),
        Choice(**data["choice"]),
        data["per"] and Drawn(data["per"]),
        Connections(data["connections"]),
        data["listener"],
    )
