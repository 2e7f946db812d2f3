"""Workload: operations on a system that are numbered, and accounted for one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from bounceback.accounting import ledger
from bounceback.accounting.account import SEEN, Flaw
from bounceback.api.looks import Url
from bounceback.faults.api_fault import HEADER_PATTERN, VALUE_PATTERN
from bounceback.types.fields import Milliseconds, Model
from bounceback.types.rules import FieldError, Path, Rule, exactly_one, one_of, refuse

KEY, VALUE = "{key}", "{value}"
LOADS: Final = ("closed", "open", "ramp", "burst", "herd")
PATH_PATTERN: Final = r"^/[!-~]*$"
READS, TAKES = 20, 50
"""Percent of the operations, unless it is said otherwise."""
NEEDED: Final = {
    ledger.Model.REGISTER: ("write", "read"),
    ledger.Model.SET: ("write",),
    ledger.Model.COUNTER: ("write", "read"),
    ledger.Model.QUEUE: ("write", "take"),
}
OFFERED: Final = NEEDED | {ledger.Model.SET: ("write", "read", "list")}
OPERATIONS: Final = ("write", "read", "take", "list")

Rate = Annotated[int, Field(ge=1, le=100_000)]
Connections = Annotated[int, Field(ge=1, le=1000)]
Status = Annotated[int, Field(ge=200, le=599)]
Place = Annotated[str, Field(min_length=1, max_length=200)]


class ClosedLoad(Model):
    """So many clients, each with one operation at a time: a slow system gets fewer of them."""

    clients: int = Field(16, ge=1, le=1000, description="How many; each has a connection of its own.")
    pause_milliseconds: int = Field(0, ge=0, le=60_000, description="Time from an answer to the next operation.")


class OpenLoad(Model):
    """So many operations a second, however slow the system is."""

    per_second: Rate = Field(description="Operations that are due each second.")
    connections: Connections = Field(64, description="At most so many are under way; more of them wait, and are late.")


class RampLoad(Model):
    """A rate that grows, or falls, evenly from the beginning of the load to its end."""

    from_per_second: Rate = Field(description="The rate at first.")
    to_per_second: Rate = Field(description="The rate in the end.")
    connections: Connections = Field(64, description="At most so many are under way; more of them wait, and are late.")


class BurstLoad(Model):
    """Many operations due at the same moment, again and again; between them a fixed rate, or nothing."""

    size: int = Field(ge=2, le=100_000, description="Operations that are due at once.")
    every_seconds: int = Field(ge=1, le=3600, description="From one burst to the next; the first one is at once.")
    per_second: int = Field(0, ge=0, le=100_000, description="Operations that are due each second besides.")
    connections: Connections = Field(64, description="At most so many are under way; more of them wait, and are late.")


class HerdLoad(Model):
    """A thundering herd: many clients that connect anew in the same moment, each for one operation."""

    clients: int = Field(ge=2, le=1000, description="How many.")
    every_seconds: int = Field(ge=1, le=3600, description="From one herd to the next; the first one is at once.")


class Load(Model):
    """How operations come: exactly one way."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(LOADS),)

    closed: ClosedLoad | None = Field(None, description="Clients that wait for their answers.")
    open: OpenLoad | None = Field(None, description="A fixed rate.")
    ramp: RampLoad | None = Field(None, description="A rate that grows or falls.")
    burst: BurstLoad | None = Field(None, description="Many at once, again and again.")
    herd: HerdLoad | None = Field(None, description="Many new connections at once, again and again.")

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        given = [name for name in LOADS if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(LOADS, given))
        return self


class HttpOperation(Model):
    """A request; {key} and {value} in its path and body stand for those of the operation."""

    path: Annotated[str, Field(min_length=1, max_length=2048, pattern=PATH_PATTERN)] = Field(
        description="What follows the address, with a slash first; {key} and {value} stand for those of the operation."
    )
    body: Annotated[str, Field(max_length=65_536)] | None = Field(
        None, description="Sent as it is, but for {key} and {value}; unset: none."
    )

    def has(self, placeholder: str) -> bool:
        return placeholder in self.path or placeholder in (self.body or "")


class HttpWrite(HttpOperation):
    """A request that changes something, and what its answers mean. Any other answer, or none, is unknown."""

    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = Field("PUT", description="The method.")
    acknowledged_statuses: Annotated[list[Status], Field(max_length=20)] = Field(
        default_factory=list, description="Status codes by which the system says that it is done; empty: 200 to 299."
    )
    failed_statuses: Annotated[list[Status], Field(max_length=20)] = Field(
        default_factory=list,
        description="Status codes by which it says that nothing was done and nothing will be; empty: 400 to 499.",
    )

    field: Place | None = Field(
        None,
        description="Where in a JSON answer something must be, and no null, for it to be acknowledged: result, of JSON-RPC. "
        "Without it the operation is unknown.",
    )

    @model_validator(mode="after")
    def _mean_one_thing(self) -> Self:
        if both := set(self.acknowledged_statuses) & set(self.failed_statuses):
            words = ", ".join(map(str, sorted(both)))
            raise refuse(f"must not be among acknowledgedStatuses, too: {words}", "failedStatuses")
        return self


class HttpQuestion(HttpOperation):
    """A request that gets a value: answers of 200 to 299 have it. Any other but that there is none says nothing."""

    field: Place | None = Field(
        None, description="Where in a JSON answer the value is: item.value; unset: the whole answer is the value."
    )


class HttpRead(HttpQuestion):
    """A request that asks for a value."""

    method: Literal["GET", "POST"] = Field("GET", description="The method.")
    absent_statuses: Annotated[list[Status], Field(max_length=20)] = Field(
        default_factory=lambda: [404], description="Status codes by which the system says that there is none."
    )


class HttpTake(HttpQuestion):
    """A request that takes the next value out of the queue."""

    method: Literal["POST", "GET", "DELETE"] = Field("POST", description="The method.")
    absent_statuses: Annotated[list[Status], Field(max_length=20)] = Field(
        default_factory=lambda: [204, 404], description="Status codes by which the system says that it is empty."
    )


class HttpList(Model):
    """A request for all values there are: a JSON list, or a number a line."""

    path: Annotated[str, Field(min_length=1, max_length=2048, pattern=PATH_PATTERN)] = Field(
        description="What follows the address, with a slash first."
    )
    field: Place | None = Field(None, description="Where in a JSON answer the list is: data.items; unset: it is one.")
    value: Place | None = Field(None, description="Where in an entry its value is; unset: an entry is a value.")


class HttpWorkload(Model):
    """How operations are made by HTTP/1.1, with connections that are kept."""

    url: Url = Field(description="http:// or https:// address of the system; the paths of operations follow it.")
    headers: dict[
        Annotated[str, Field(min_length=1, max_length=64, pattern=HEADER_PATTERN)],
        Annotated[str, Field(min_length=1, max_length=1024, pattern=VALUE_PATTERN)],
    ] = Field(
        default_factory=dict,
        max_length=20,
        description="Headers of every request; {key} and {value} stand for those of the operation.",
    )
    write: HttpWrite | None = Field(
        None,
        description="Register: {value} to {key}. Set: {value} added. Counter: 1 added to {key}. Queue: {value} put in.",
    )
    read: HttpRead | None = Field(None, description="Register, Counter: what {key} has. Set: whether {value} is there.")
    take: HttpTake | None = Field(None, description="Queue: the next value, out.")
    list: HttpList | None = Field(
        None, description="Set: all values, at the end; it shows duplicates, which read cannot."
    )


class Workload(Model):
    """Operations that are numbered, each with a value of its own, and read back at the end: what was acknowledged must
    be there, once, and in order."""

    model: ledger.Model = Field(description="What the system promises to be: Register, Set, Counter or Queue.")
    http: HttpWorkload = Field(description="How operations are made.")
    load: Load = Field(default_factory=lambda: Load(closed=ClosedLoad()), description="How operations come.")
    seconds: int = Field(10, ge=1, le=86_400, description="How long operations are begun.")
    read_percent: int | None = Field(
        None,
        ge=0,
        le=99,
        description="Of the operations, those that read (Queue: take); unset: 20, of a Queue 50, and 0 without read.",
    )
    keys: int = Field(16, ge=1, le=10_000, description="Register, Counter: among so many keys operations choose.")
    timeout_milliseconds: Milliseconds = Field(
        2000, description="An operation without an answer for so long is unknown."
    )
    settle_seconds: int = Field(1, ge=0, le=3600, description="From the last operation to the read-back.")
    read_back_seconds: int = Field(
        60, ge=1, le=3600, description="How long the read-back is tried again where it fails."
    )
    seed: int = Field(1, ge=0, le=2_147_483_647, description="Decides which operations follow each other.")
    most_operations: int = Field(
        10_000_000, ge=1, le=10_000_000, description="After so many no more are begun: each takes 38 bytes of memory."
    )
    allow: Annotated[list[Flaw], Field(max_length=5)] = Field(
        default_factory=list, description="What is counted and told, but is no failure; Duplicated, for example."
    )

    @property
    def share_of_reads(self) -> float:
        """From 0 to 1."""
        if self.read_percent is not None:
            return self.read_percent / 100
        if self.model is ledger.Model.QUEUE:
            return TAKES / 100
        return READS / 100 if self.http.read is not None else 0.0

    @model_validator(mode="after")
    def _fits_its_model(self) -> Self:
        if problems := tuple(self._problems()):
            raise FieldError(problems)
        return self

    def _problems(self) -> Iterator[tuple[Path, str]]:
        for name in OPERATIONS:
            given = getattr(self.http, name) is not None
            if name in NEEDED[self.model] and not given:
                yield ("http", name), f"must be given with model {self.model}"
            elif given and name not in OFFERED[self.model]:
                yield ("http", name), f"must be unset with model {self.model}, which has {_and(OFFERED[self.model])}"
        if self.model is ledger.Model.SET:
            if self.http.read is None and self.http.list is None:
                yield ("http",), "must have list or read with model Set: what was added must be read back"
            if self.http.read is None and self.read_percent:
                yield ("readPercent",), "must be 0, or unset, without http.read"
        yield from self._misplaced()
        for n, flaw in enumerate(self.allow):
            if flaw not in SEEN[self.model]:
                yield ("allow", n), f"must be one of {', '.join(SEEN[self.model])}: no other is seen of a {self.model}"

    def _misplaced(self) -> Iterator[tuple[Path, str]]:
        """Operations that would not be about what they are to be about."""
        write, read = self.http.write, self.http.read
        keyed = self.model in (ledger.Model.REGISTER, ledger.Model.COUNTER) and self.keys > 1
        for name, operation in (("write", write), ("read", read)):
            if operation is not None and keyed and not operation.has(KEY):
                yield ("http", name, "path"), f"must have {KEY}, here or in the body, or keys must be 1"
        if write is not None and self.model is not ledger.Model.COUNTER and not write.has(VALUE):
            yield ("http", "write", "body"), f"must have {VALUE}, here or in the path: values tell operations apart"
        if read is not None and self.model is ledger.Model.SET and not read.has(VALUE):
            yield ("http", "read", "path"), f"must have {VALUE}, here or in the body: it asks for that one"


def _and(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
