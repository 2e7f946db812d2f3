"""Workload: operations on a system that are numbered, and accounted for one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.accounting import ledger
from bounceback.accounting.account import SEEN, Flaw
from bounceback.api.operations import KEY, VALUE, HttpOperation, HttpWorkload
from bounceback.api.operations_objects import KubernetesWorkload
from bounceback.api.operations_stores import NatsWorkload, RedisWorkload, SqlWorkload
from bounceback.types.fields import Milliseconds, Model
from bounceback.types.rules import FieldError, Path, Rule, exactly_one, one_of, refuse

LOADS: Final = ("closed", "open", "ramp", "burst", "herd")
READS, TAKES = 20, 50
"""Percent of the operations, unless it is said otherwise."""
NEEDED: Final = {
    ledger.Model.REGISTER: ("write", "read"),
    ledger.Model.SET: ("write",),
    ledger.Model.COUNTER: ("write", "read"),
    ledger.Model.QUEUE: ("write", "take"),
}
OFFERED: Final = NEEDED | {ledger.Model.SET: ("write", "read", "list")}
SYSTEMS: Final = ("http", "redis", "sql", "nats", "kubernetes")
STORES: Final = ("redis", "sql", "nats")
"""Those of them that are logged in to, and are spoken to by TLS where `tls` says so."""
NO_SECRET: Final = "must be unset but in a check: without a cluster there is no Secret; give authoritiesFile"
OPERATIONS: Final = ("write", "read", "take", "list")

Rate = Annotated[int, Field(ge=1, le=100_000)]
Connections = Annotated[int, Field(ge=1, le=1000)]


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


class Workload(Model):
    """Operations that are numbered, each with a value of its own, and read back at the end: what was acknowledged must
    be there, once, and in order."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(SYSTEMS),)
    in_a_check: ClassVar[bool] = False

    model: ledger.Model = Field(description="What the system promises to be: Register, Set, Counter or Queue.")
    http: HttpWorkload | None = Field(None, description="Operations by HTTP; JSON-RPC, too.")
    redis: RedisWorkload | None = Field(None, description="Operations on a Redis server.")
    sql: SqlWorkload | None = Field(None, description="Statements on a PostgreSQL or MySQL server.")
    nats: NatsWorkload | None = Field(None, description="Messages of a NATS JetStream stream; Set or Queue.")
    kubernetes: KubernetesWorkload | None = Field(None, description="Objects of the Kubernetes API; Register or Set.")
    load: Load = Field(
        default_factory=lambda: Load(closed=ClosedLoad()),
        description="How operations come.",
        json_schema_extra={"default": {"closed": {"clients": 16}}},
    )
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
    def address(self) -> str:
        """Where the system is."""
        if self.redis is not None:
            return f"redis://{self.redis.host}:{self.redis.port}/{self.redis.database}"
        if self.sql is not None:
            return f"{self.sql.kind} {self.sql.host}:{self.sql.at_port}/{self.sql.database}"
        if self.nats is not None:
            return f"nats://{self.nats.host}:{self.nats.port}"
        if self.kubernetes is not None:
            return f"Kubernetes, namespace {self.kubernetes.namespace}"
        return self.http.url if self.http is not None else ""

    @property
    def spelled_out(self) -> HttpWorkload | SqlWorkload | None:
        """The system, where the file says how each operation is made."""
        return self.http or self.sql

    @property
    def stores(self) -> dict[str, RedisWorkload | SqlWorkload | NatsWorkload]:
        """The system, by its field's name, where it is one of STORES; one at most, once the workload is valid."""
        given = {"redis": self.redis, "sql": self.sql, "nats": self.nats}
        return {name: store for name, store in given.items() if store is not None}

    @property
    def has_read(self) -> bool:
        """Whether single keys or values can be read."""
        if self.model is ledger.Model.QUEUE or self.nats is not None:
            return False
        return (system := self.spelled_out) is None or system.read is not None

    @property
    def has_list(self) -> bool:
        system = self.spelled_out
        return self.model is ledger.Model.SET and (system is None or system.list is not None)

    @property
    def share_of_reads(self) -> float:
        """From 0 to 1."""
        if self.read_percent is not None:
            return self.read_percent / 100
        if self.model is ledger.Model.QUEUE:
            return TAKES / 100
        return READS / 100 if self.has_read else 0.0

    @model_validator(mode="after")
    def _fits_its_model(self) -> Self:
        if problems := tuple(self._problems()):
            raise FieldError(problems)
        return self

    def _problems(self) -> Iterator[tuple[Path, str]]:
        given = [name for name in SYSTEMS if getattr(self, name) is not None]
        if len(given) != 1:
            yield (), exactly_one(SYSTEMS, given)
        if (system := self.spelled_out) is not None:
            name = "http" if self.http is not None else "sql"
            for below, message in self._unfit(system):
                yield (name, *below), message
            if not self.has_read and self.model is ledger.Model.SET and self.read_percent:
                yield ("readPercent",), f"must be 0, or unset, without {name}.read"
        if self.nats is not None:
            yield from self._unfit_for_nats(self.nats)
        if self.kubernetes is not None and self.model not in (ledger.Model.REGISTER, ledger.Model.SET):
            yield ("model",), "must be Register or Set with kubernetes: objects are no other"
        for name, store in self.stores.items():
            if not self.in_a_check and store.tls is not None and store.tls.authorities is not None:
                yield (name, "tls", "authorities"), NO_SECRET
        for n, flaw in enumerate(self.allow):
            if flaw not in SEEN[self.model]:
                yield ("allow", n), f"must be one of {', '.join(SEEN[self.model])}: no other is seen of a {self.model}"

    def _unfit_for_nats(self, nats: NatsWorkload) -> Iterator[tuple[Path, str]]:
        if self.model not in (ledger.Model.SET, ledger.Model.QUEUE):
            yield ("model",), "must be Set or Queue with nats: a stream is no other"
        elif self.model is ledger.Model.SET and self.read_percent:
            yield ("readPercent",), "must be 0, or unset, with nats and model Set: a stream is read at the end"
        if (self.model is ledger.Model.QUEUE) != (nats.consumer is not None):
            must = "given with model Queue: it takes" if nats.consumer is None else "unset but with model Queue"
            yield ("nats", "consumer"), f"must be {must}"

    def _unfit(self, system: HttpWorkload | SqlWorkload) -> Iterator[tuple[Path, str]]:
        """What the model needs, and what would not be about what it is to be about."""
        for name in OPERATIONS:
            given = getattr(system, name) is not None
            if name in NEEDED[self.model] and not given:
                yield (name,), f"must be given with model {self.model}"
            elif given and name not in OFFERED[self.model]:
                yield (name,), f"must be unset with model {self.model}, which has {_and(OFFERED[self.model])}"
        is_set = self.model is ledger.Model.SET
        if is_set and system.read is None and system.list is None:
            yield (), "must have list or read with model Set: what was added must be read back"
        keyed = self.model in (ledger.Model.REGISTER, ledger.Model.COUNTER) and self.keys > 1
        for name, operation in (("write", system.write), ("read", system.read)):
            if operation is not None and keyed and not _has(operation, KEY):
                yield _place(name, "path", operation), f"must have {KEY}{_here('body', operation)}, or keys must be 1"
        if system.write is not None and self.model is not ledger.Model.COUNTER and not _has(system.write, VALUE):
            here = _here("path", system.write)
            yield _place("write", "body", system.write), f"must have {VALUE}{here}: values tell operations apart"
        if system.read is not None and is_set and not _has(system.read, VALUE):
            here = _here("body", system.read)
            yield _place("read", "path", system.read), f"must have {VALUE}{here}: it asks for that one"


def _has(operation: HttpOperation | str, placeholder: str) -> bool:
    return placeholder in operation if isinstance(operation, str) else operation.has(placeholder)


def _place(name: str, part: str, operation: HttpOperation | str) -> Path:
    """Of a statement, which is one text, or of a part of a request."""
    return (name,) if isinstance(operation, str) else (name, part)


def _here(other: str, operation: HttpOperation | str) -> str:
    return "" if isinstance(operation, str) else f", here or in the {other}"


def _and(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
