"""API fault: requests of a client to the Kubernetes API fail, come late or lose their answers; its watches break."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.by_admission import obstacle
from bounceback.faults.client_fault import ClientFault, check_resources, check_verbs, narrowed, of_resources, with_verbs
from bounceback.faults.watch_fault import WatchFault
from bounceback.types import api_rule
from bounceback.types.api_rule import Act, Body, Ending, Requests
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Model, Text
from bounceback.types.plan import Rung
from bounceback.types.rules import Rule, exactly_one, one_of, refuse

FIELDS: Final = ("answer", "rateLimit", "delay", "loseReply", "cut", "crash", "genuine", "watch")
OWN_HEADERS: Final = (
    "connection",
    "content-length",
    "content-type",
    "retry-after",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
"""What follows from the rest of an answer, or would break it."""
HEADER_PATTERN: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"  # token of RFC 9110 section 5.6.2
VALUE_PATTERN: Final = r"^([!-~]([ -~]*[!-~])?)?$"
REASON_PATTERN: Final = r"^([A-Z][A-Za-z]*)?$"

DATE_WITH: Final = "retryAfterDate must be false or unset where retryAfterSeconds is not given"
WORDS_WITH: Final = "reason and message must be unset with body Text or Empty: they are parts of a Status"
HEADERS_NOT: Final = f"headers must not be {', '.join(OWN_HEADERS)}: those follow from the other fields"
SOME_DELAY: Final = "beforeMilliseconds or afterMilliseconds must be above 0"
JITTER_WITHIN: Final = (
    "jitterMilliseconds must not be above beforeMilliseconds or afterMilliseconds, where those are given"
)
CONFLICT_VERBS: Final = ("update", "patch", "delete")
EXPIRED_VERBS: Final = ("list", "watch")
VERBS_OF_CONFLICT: Final = f"verbs must be among {', '.join(CONFLICT_VERBS)}, or unset, with genuine Conflict"
VERBS_OF_EXPIRED: Final = f"verbs must be among {', '.join(EXPIRED_VERBS)}, or unset, with genuine Expired"
VERBS_OF_WATCH: Final = "verbs must be watch, or unset, with watch"
KILLED_FROM_NODE: Final = "vehicle must be Auto or NodePod, or unset, with crash: a client is killed from its node"
ALL_THE_TIME: Final = "pattern must be unset with mechanism Admission"
NO_VEHICLE: Final = "vehicle must be Auto, or unset, with mechanism Admission: no agent is anywhere"
NO_PATHS: Final = "nonResourcePaths must be unset with genuine and watch: those are about resources"


class Code(IntEnum):
    """HTTP status codes that the API server, or what stands before it, answers with."""

    BAD_REQUEST = 400
    UNAUTHORIZED = 401
    FORBIDDEN = 403
    NOT_FOUND = 404
    METHOD_NOT_ALLOWED = 405
    CONFLICT = 409
    GONE = 410
    TOO_LARGE = 413
    UNSUPPORTED_MEDIA_TYPE = 415
    INVALID = 422
    TOO_MANY_REQUESTS = 429
    INTERNAL_ERROR = 500
    BAD_GATEWAY = 502
    UNAVAILABLE = 503
    TIMEOUT = 504


class Genuine(StrEnum):
    """Errors that the API server is brought to give itself."""

    CONFLICT = "Conflict"
    EXPIRED = "Expired"


class AnswerHeader(Model):
    """One more header of an answer."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=HEADER_PATTERN)] = Field(description="Its name.")
    value: Annotated[str, Field(max_length=1024, pattern=VALUE_PATTERN)] = Field(
        description="Its value, in printable ASCII."
    )


class ApiAnswer(Model):
    """An answer that the API server never gave; it never hears of the request."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!self.retryAfterDate || has(self.retryAfterSeconds)", DATE_WITH, ".retryAfterDate"),
        Rule("self.body == 'Status' || (self.reason == '' && self.message == '')", WORDS_WITH, ".body"),
        Rule(
            "!has(self.headers) || self.headers.all(h, !(h.name.lowerAscii() in "
            f"[{', '.join(repr(name) for name in OWN_HEADERS)}]))",
            HEADERS_NOT,
            ".headers",
        ),
    )

    code: Code = Field(description="The HTTP status code.")
    reason: Annotated[str, Field(max_length=63, pattern=REASON_PATTERN)] = Field(
        "", description="The Status' reason, by which client libraries tell errors apart. Empty: the API server's own."
    )
    message: Text = Field("", description="The Status' message. Empty: the API server's own.")
    retry_after_seconds: int | None = Field(
        None,
        ge=0,
        le=86_400,
        description="The Retry-After header. Unset: there is none, and client-go hands the error on at once; else it "
        "waits and tries again up to ten times by itself.",
    )
    retry_after_date: bool = Field(
        False, description="Retry-After as an HTTP-date instead of a number; many clients cannot read it."
    )
    body: Body = Field(
        Body.STATUS,
        description="Status (as the API server tells errors), Text (as its filters and load balancers do) or Empty.",
    )
    headers: list[AnswerHeader] = Field(default_factory=list, max_length=20, description="Further headers.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.retry_after_date and self.retry_after_seconds is None:
            raise refuse(DATE_WITH, "retryAfterDate")
        if self.body is not Body.STATUS and (self.reason or self.message):
            raise refuse(WORDS_WITH, "body")
        for index, header in enumerate(self.headers):
            if header.name.lower() in OWN_HEADERS:
                raise refuse(HEADERS_NOT, "headers", index)
        return self

    def act(self) -> api_rule.Answer:
        return api_rule.Answer(
            int(self.code),
            self.reason,
            self.message,
            self.retry_after_seconds,
            self.retry_after_date,
            self.body,
            tuple((header.name, header.value) for header in self.headers),
        )


class ApiRateLimit(Model):
    """What is above the rate gets 429 with a Retry-After that grows, as from the API server's own limits."""

    requests_per_second: int = Field(
        ge=1, le=100_000, description="How many a second are let through, in the long run."
    )
    burst: int = Field(1, ge=1, le=100_000, description="How many are let through at once after a pause.")


class ApiDelay(Model):
    """Requests reach the API server late, or their answers the client, or both."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.beforeMilliseconds + self.afterMilliseconds > 0", SOME_DELAY, ".beforeMilliseconds"),
        Rule(
            "(self.beforeMilliseconds == 0 || self.jitterMilliseconds <= self.beforeMilliseconds)"
            " && (self.afterMilliseconds == 0 || self.jitterMilliseconds <= self.afterMilliseconds)",
            JITTER_WITHIN,
            ".jitterMilliseconds",
        ),
    )

    before_milliseconds: int = Field(0, ge=0, le=600_000, description="The API server gets the request so much later.")
    after_milliseconds: int = Field(
        0, ge=0, le=600_000, description="What it is asked to is done, and the client is told so much later."
    )
    jitter_milliseconds: int = Field(
        0, ge=0, le=600_000, description="Largest deviation of each from its length, evenly spread."
    )

    @model_validator(mode="after")
    def _is_some(self) -> Self:
        given = [length for length in (self.before_milliseconds, self.after_milliseconds) if length]
        if not given:
            raise refuse(SOME_DELAY, "beforeMilliseconds")
        if self.jitter_milliseconds > min(given):
            raise refuse(JITTER_WITHIN, "jitterMilliseconds")
        return self


class LostReply(Model):
    """The API server does what it is asked to, and the client never learns of it."""

    ending: Ending = Field(
        Ending.RESET,
        description="Reset (RST), Close (without an answer) or Silence (nothing, until the fault ends).",
    )


class Moment(StrEnum):
    """Of a request."""

    BEFORE = "Before"
    DONE = "Done"


class ClientCrash(Model):
    """The client is killed (SIGKILL) in the middle of its work, and starts again as it does after any crash.

    Killed is the process of the pod that holds the connection with the request, or every one that does.
    """

    when: Moment = Field(
        Moment.DONE,
        description="Done: the API server has done what it was asked to, the client has not heard of it yet. Before: "
        "the API server has not heard of it either.",
    )


class RequestCut(Model):
    """The request never reaches the API server."""

    ending: Ending = Field(
        Ending.RESET, description="Reset (RST), Close (without an answer) or Silence (nothing, until the fault ends)."
    )


class ApiFault(ClientFault):
    """Requests of a client to the Kubernetes API are answered with errors, limited, late, lost or cut; watches break.

    The client's code, its image and its rights stay as they are: a proxy in its path does it, to nobody else, and
    passes on what the fault is not about, byte for byte. Errors carry the Status that the API server itself would
    send, so that client libraries take them for real. Of pods that have no proxy, writes can be answered or delayed by
    admission: the API server asks us about them (mechanism Admission). Proof is the number of requests (events) hit.
    """

    kind: ClassVar[str] = "apiFault"
    entry_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.apiFault) || !has(self.apiFault.crash) || self.vehicle != 'Sidecar'",
            KILLED_FROM_NODE,
            ".vehicle",
        ),
        Rule(
            "!has(self.apiFault) || !has(self.mechanism) || self.mechanism != 'Admission' || !has(self.pattern)",
            ALL_THE_TIME,
            ".pattern",
        ),
        Rule(
            "!has(self.apiFault) || !has(self.mechanism) || self.mechanism != 'Admission' || self.vehicle == 'Auto'",
            NO_VEHICLE,
            ".vehicle",
        ),
    )
    rules: ClassVar[tuple[Rule, ...]] = (
        one_of(FIELDS),
        Rule(
            with_verbs("has(self.genuine) && self.genuine == 'Conflict'", CONFLICT_VERBS),
            VERBS_OF_CONFLICT,
            ".requests",
        ),
        Rule(
            with_verbs("has(self.genuine) && self.genuine == 'Expired'", EXPIRED_VERBS), VERBS_OF_EXPIRED, ".requests"
        ),
        Rule(with_verbs("has(self.watch)", ("watch",)), VERBS_OF_WATCH, ".requests"),
        Rule(f"({of_resources('genuine')}) && ({of_resources('watch')})", NO_PATHS, ".requests"),
    )

    answer: ApiAnswer | None = Field(None, description="An error is answered; the API server never hears of it.")
    rate_limit: ApiRateLimit | None = Field(None, description="429 for what is above a rate.")
    delay: ApiDelay | None = Field(None, description="Requests or answers come late.")
    lose_reply: LostReply | None = Field(None, description="What is asked is done, and the answer is lost.")
    cut: RequestCut | None = Field(None, description="The request is lost.")
    crash: ClientCrash | None = Field(
        None, description="The client is killed at this request; with nth: at every nth. For states in between."
    )
    genuine: Genuine | None = Field(
        None,
        description="The API server's own error, by an old resourceVersion: Conflict (409, for update, patch and "
        "delete) or Expired (410, for list and watch).",
    )
    watch: WatchFault | None = Field(None, description="What becomes of watches.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        acts = (
            self.answer,
            self.rate_limit,
            self.delay,
            self.lose_reply,
            self.cut,
            self.crash,
            self.genuine,
            self.watch,
        )
        given = [name for name, value in zip(FIELDS, acts, strict=True) if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(FIELDS, given))
        if self.genuine is Genuine.CONFLICT:
            check_verbs(self.requests, CONFLICT_VERBS, VERBS_OF_CONFLICT)
        if self.genuine is Genuine.EXPIRED:
            check_verbs(self.requests, EXPIRED_VERBS, VERBS_OF_EXPIRED)
        if self.watch is not None:
            check_verbs(self.requests, ("watch",), VERBS_OF_WATCH)
        if self.genuine is not None or self.watch is not None:
            check_resources(self.requests, NO_PATHS)
        return self

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.PROXY,) if self.not_by_admission() else (Rung.PROXY, Rung.ADMISSION)

    @classmethod
    def all_rungs(cls) -> tuple[Rung, ...]:
        return (Rung.PROXY, Rung.ADMISSION)

    @property
    def from_node(self) -> bool:
        return self.crash is not None

    def not_by_admission(self) -> str:
        """Why no webhook can do it, or nothing."""
        return obstacle(self.act(), self.about())

    def about(self) -> tuple[Requests, ...]:
        """What the API server can be brought to refuse, and watches, are of certain verbs."""
        verbs: tuple[str, ...] = ("watch",) if self.watch is not None else ()
        if self.genuine is not None:
            verbs = CONFLICT_VERBS if self.genuine is Genuine.CONFLICT else EXPIRED_VERBS
        return tuple(narrowed(each, verbs) if verbs else each for each in super().about())

    def act(self) -> Act:
        if self.answer is not None:
            return self.answer.act()
        if (limit := self.rate_limit) is not None:
            return api_rule.RateLimit(limit.requests_per_second, limit.burst)
        if (delay := self.delay) is not None:
            lengths = (delay.before_milliseconds, delay.after_milliseconds, delay.jitter_milliseconds)
            return api_rule.Delay(*(length * 1000 for length in lengths))
        if self.lose_reply is not None:
            return api_rule.LoseReply(self.lose_reply.ending)
        if self.cut is not None:
            return api_rule.Cut(self.cut.ending)
        if self.crash is not None:
            return api_rule.Crash(self.crash.when is Moment.DONE)
        if self.watch is not None:
            return self.watch.act()
        return api_rule.OldVersion()
