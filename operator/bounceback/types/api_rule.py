"""What the API proxy does to requests and their answers: rules, each with the requests it is about and its choice.

Times are in microseconds, probabilities from 0 to 1. Standard library only: the proxy in a pod imports this.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from bounceback.types.api_request import ApiRequest
from bounceback.types.choice import ALWAYS, Choice

RULES_VERSION: Final = 1


class Body(StrEnum):
    """What an answer of ours consists of."""

    STATUS = "Status"  # as the API server tells errors
    TEXT = "Text"  # as its filters and load balancers before it do
    EMPTY = "Empty"


class Ending(StrEnum):
    """How the client sees a connection end."""

    RESET = "Reset"  # an RST
    CLOSE = "Close"  # an orderly end, where an answer or more of one was to come
    SILENCE = "Silence"  # not at all: nothing comes any more, until the rule is lifted; then an RST


class Where(StrEnum):
    """Where in a watch it is cut."""

    BETWEEN_EVENTS = "BetweenEvents"
    MID_LINE = "MidLine"  # an event is begun and not finished


class Token(StrEnum):
    """Which bearer tokens are spoilt."""

    CURRENT = "Current"  # those that were seen before or first while the rule is in force: a new one is let through
    ALL = "All"


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that have all of these; what is empty, or holds "*", does not choose.

    `resources` are as in RBAC rules: "pods" (without subresources), "pods/log", "*/scale", "pods/*".
    """

    verbs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()  # of what is not a resource: "/version", "/openapi/*"

    def match(self, request: ApiRequest) -> bool:
        if self.paths and not request.resource:
            return any(_path_fits(path, request.path) for path in self.paths) and _in(self.verbs, request.verb)
        return (
            (bool(request.resource) or not (self.groups or self.resources or self.namespaces or self.names))
            and not self.paths
            and _in(self.verbs, request.verb)
            and _in(self.groups, request.group)
            and self._resource_fits(request)
            and _in(self.namespaces, request.namespace)
            and _in(self.names, request.name)
        )

    def _resource_fits(self, request: ApiRequest) -> bool:
        wanted = self.resources
        if not wanted or "*" in wanted or request.kind in wanted:
            return True
        if not request.subresource:
            return False
        return f"*/{request.subresource}" in wanted or f"{request.resource}/*" in wanted


def _in(wanted: tuple[str, ...], found: str) -> bool:
    return not wanted or found in wanted or "*" in wanted


def _path_fits(wanted: str, path: str) -> bool:
    return path.startswith(wanted[:-1]) if wanted.endswith("*") else path == wanted


# What is done to a request before the API server sees it. At most one of these ends it: the first that is hit.


@dataclass(frozen=True, slots=True)
class Answer:
    """We answer, and the API server never hears of it. What is empty is as the API server would have it."""

    code: int
    reason: str = ""
    message: str = ""
    retry_after: int | None = None  # seconds
    retry_date: bool = False  # Retry-After as an HTTP-date (RFC 9110 section 10.2.3)
    body: Body = Body.STATUS
    headers: tuple[tuple[str, str], ...] = ()
    does: str = field(default="Answer", init=False)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """No more than so many requests a second, after a burst; the others get the 429 that the API server's own
    priority-and-fairness filter gives, with a Retry-After that grows while they keep coming."""

    per_second: float
    burst: int = 1
    does: str = field(default="RateLimit", init=False)


@dataclass(frozen=True, slots=True)
class Cut:
    """The request goes nowhere and the connection ends."""

    ending: Ending = Ending.RESET
    does: str = field(default="Cut", init=False)


@dataclass(frozen=True, slots=True)
class Delay:
    """The request goes on later, or its answer comes later, or both; connections and order stay."""

    before_us: int = 0
    after_us: int = 0
    jitter_us: int = 0  # of each, evenly spread around it
    does: str = field(default="Delay", init=False)


@dataclass(frozen=True, slots=True)
class LoseReply:
    """The API server does what it is asked to; the client sees the connection end and never learns of it."""

    ending: Ending = Ending.RESET
    does: str = field(default="LoseReply", init=False)


@dataclass(frozen=True, slots=True)
class Crash:
    """The client is killed: before the request goes on, or when it is done and the answer is not there yet."""

    done: bool = True
    does: str = field(default="Crash", init=False)


@dataclass(frozen=True, slots=True)
class SpoilToken:
    """The bearer token is spoilt on its way: the API server itself answers 401."""

    which: Token = Token.ALL
    does: str = field(default="SpoilToken", init=False)


@dataclass(frozen=True, slots=True)
class OldVersion:
    """The request names a resourceVersion of long ago: the API server itself answers 409, or 410 for watches and lists.

    Bodies of PUT, PATCH and DELETE that are JSON are changed; what cannot be is let through and not counted.
    """

    version: str = "1"
    does: str = field(default="OldVersion", init=False)


@dataclass(frozen=True, slots=True)
class OtherNamespace:
    """The request is for that namespace instead of its own."""

    namespace: str
    does: str = field(default="OtherNamespace", init=False)


# What is done to a watch.


@dataclass(frozen=True, slots=True)
class Stall:
    """The watch stays open and nothing comes through it any more; what came meanwhile comes at the end.

    With `drop` it never comes: the connection is reset when the rule is lifted.
    """

    drop: bool = False
    does: str = field(default="Stall", init=False)


@dataclass(frozen=True, slots=True)
class CutWatch:
    """The watch ends after so many events and no sooner than after so long; 0 and 0: at once, each time."""

    where: Where = Where.BETWEEN_EVENTS
    ending: Ending = Ending.CLOSE
    after_events: int = 0
    after_us: int = 0
    does: str = field(default="CutWatch", init=False)


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The watch gets an ERROR event with a Status of that code (410: Expired, else InternalError), and ends."""

    code: int = 410
    message: str = ""
    after_events: int = 0
    does: str = field(default="ErrorEvent", init=False)


class Event(StrEnum):
    """What becomes of an event of a watch."""

    DROP = "Drop"
    REPEAT = "Repeat"
    DELAY = "Delay"  # those after it wait too: the order stays
    REORDER = "Reorder"  # it comes after the one that follows it, or after `delay_us` where none does
    REPLAY = "Replay"  # before it, the events that the watch had earlier come again, oldest first


@dataclass(frozen=True, slots=True)
class Events:
    """Events of watches are lost, repeated, late, or out of order; the rule's choice is among events.

    `types`: ADDED, MODIFIED, DELETED, BOOKMARK, ERROR; empty: all but bookmarks.
    """

    do: Event
    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the objects in them
    delay_us: int = 0
    does: str = field(default="Events", init=False)


Act = (
    Answer
    | RateLimit
    | Cut
    | Delay
    | LoseReply
    | Crash
    | SpoilToken
    | OldVersion
    | OtherNamespace
    | Stall
    | CutWatch
    | ErrorEvent
    | Events
)
OF_WATCHES: Final = (Stall, CutWatch, ErrorEvent, Events)
"""Acts on the answer of a watch, those that are open when the rule comes into force included."""
_ACTS: Final[dict[str, type[Act]]] = {
    kind.__name__: kind
    for kind in (
        Answer,
        RateLimit,
        Cut,
        Delay,
        LoseReply,
        Crash,
        SpoilToken,
        OldVersion,
        OtherNamespace,
        Stall,
        CutWatch,
        ErrorEvent,
        Events,
    )
}


@dataclass(frozen=True, slots=True)
class ApiRule:
    """One thing that the proxy does. Names are unique in a proxy.

    The requests (events, for `Events`) that it is about are numbered from 1 in the order in which they come; the first
    `after` are let through, and the choice is made among those that follow. `requests`: any of them; none: all.
    `users`: only requests of these, as the API server names them (system:serviceaccount:shop:web); none: everybody's.
    """

    name: str
    act: Act
    requests: tuple[Requests, ...] = ()
    users: tuple[str, ...] = ()
    choice: Choice = ALWAYS
    after: int = 0
    draws: str = ""  # the name that its draws follow from, where it is not its own

    def scaled(self, share: float) -> ApiRule:
        """That share of what it is about is hit; delays are that much shorter instead."""
        if isinstance(self.act, Delay):
            act = self.act
            shorter = (round(value * share) for value in (act.before_us, act.after_us, act.jitter_us))
            return replace(self, act=Delay(*shorter))
        return replace(self, choice=replace(self.choice, probability=self.choice.probability * share))

    def match(self, request: ApiRequest) -> bool:
        if isinstance(self.act, OF_WATCHES) and request.verb != "watch":
            return False
        return not self.requests or any(each.match(request) for each in self.requests)


def rule_from(data: dict[str, Any]) -> ApiRule:
    """From what `asdict` made of it, by way of JSON. Raises KeyError, TypeError or ValueError."""
    act = dict(data["act"])
    kind = _ACTS[act.pop("does")]
    return ApiRule(
        data["name"],
        kind(**{key: _typed(kind, key, value) for key, value in act.items()}),
        tuple(Requests(**{key: tuple(value) for key, value in each.items()}) for each in data["requests"]),
        tuple(data["users"]),
        Choice(**data["choice"]),
        data["after"],
        data.get("draws", ""),
    )


_ENUMS: Final[dict[tuple[type[Act], str], type[StrEnum]]] = {
    (Answer, "body"): Body,
    (Cut, "ending"): Ending,
    (LoseReply, "ending"): Ending,
    (SpoilToken, "which"): Token,
    (CutWatch, "where"): Where,
    (CutWatch, "ending"): Ending,
    (Events, "do"): Event,
}


def _typed(kind: type[Act], key: str, value: Any) -> Any:
    if (enum := _ENUMS.get((kind, key))) is not None:
        return enum(value)
    if isinstance(value, list):
        return tuple(tuple(each) if isinstance(each, list) else each for each in value)
    return value
