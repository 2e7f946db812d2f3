"""Probes: one way to look at the system, sampled over time, or watched where the API offers a watch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from bounceback.api.credentials import SecretPart
from bounceback.api.looks import AnyLook, DnsLook, GrpcLook, HttpLook, PrometheusLook, TcpLook, TlsLook, Url
from bounceback.api.looks_inside import (
    NAME_OR_SELECTOR,
    Command,
    EventLook,
    ExecLook,
    JobLook,
    KubernetesLook,
    LogLook,
)
from bounceback.api.looks_stores import NatsLook, NatsSource, RedisLook, RedisSource, SqlLook, SqlSource
from bounceback.api.reference_run import NEVER_COMPARED, OF_STATUS, Mask
from bounceback.types.fields import Cel, Model, Name, ObjectName
from bounceback.types.rules import Path, Rule, exactly_one, one_of, refuse
from bounceback.types.selectors import LabelSelector

LOOKS: Final = (
    "http",
    "tcp",
    "dns",
    "tls",
    "grpc",
    "prometheus",
    "kubernetes",
    "event",
    "log",
    "exec",
    "job",
    "sql",
    "redis",
    "nats",
)
MOMENTS: Final = ("event", "log")
"""What happens and is over; all others are states."""
READINGS: Final = ("http", "kubernetes", "exec", "sql", "redis", "nats")

MOMENTS_READ: Final = ("before", "clear", "after")
"""When observations are read, and the variables of invariants."""

Expression = tuple[Path, str, Collection[str]]
"""The way to the field, the CEL in it, and the variables that it can see; a mapping tells what these have."""


class Look(Model):
    """Exactly one way to look."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(LOOKS),)

    http: HttpLook | None = Field(None, description="An HTTP request.")
    tcp: TcpLook | None = Field(None, description="A TCP connection.")
    dns: DnsLook | None = Field(None, description="A question to a name server.")
    tls: TlsLook | None = Field(None, description="A TLS handshake, and the certificate that it shows.")
    grpc: GrpcLook | None = Field(None, description="A health check by grpc.health.v1.")
    prometheus: PrometheusLook | None = Field(None, description="PromQL, or a metric of a page.")
    kubernetes: KubernetesLook | None = Field(None, description="A CEL expression over watched objects.")
    event: EventLook | None = Field(None, description="A Kubernetes Event that appears.")
    log: LogLook | None = Field(None, description="A line in a pod's log.")
    exec: ExecLook | None = Field(None, description="A command in a pod.")
    job: JobLook | None = Field(None, description="A Job that is made and must complete.")
    sql: SqlLook | None = Field(None, description="A query to PostgreSQL or MySQL.")
    redis: RedisLook | None = Field(None, description="A command to Redis.")
    nats: NatsLook | None = Field(None, description="The state of a JetStream stream and consumer.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [n for n in LOOKS if getattr(self, n) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(LOOKS, given))
        return self

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(name for name in LOOKS if getattr(self, name) is not None)

    @property
    def look(self) -> AnyLook:
        found: AnyLook = getattr(self, self.kind)
        return found


FROM_PODS: Final = ("http", "tcp", "dns", "tls", "grpc")
"""What a prober pod can do, which may ask the API nothing."""
NO_POD = f"vantage: Pod is for {', '.join(FROM_PODS)}: all else is asked of the API, or takes a Secret"
NO_SECRETS = "vantage: Pod takes no Secret: a prober pod may read none"


class Probe(Look):
    """A look at the system, repeated every period; samples overlap when answers are slow."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *Look.rules,
        Rule(
            f"!has(self.vantage) || self.vantage != 'Pod' || {' || '.join(f'has(self.{kind})' for kind in FROM_PODS)}",
            NO_POD,
            ".vantage",
        ),
    )
    list_keys: ClassVar[tuple[str, ...]] = ("name",)

    name: Name = Field(description="Unique in the check.")
    period_milliseconds: int = Field(
        1000,
        ge=50,
        le=60_000,
        description="Time between two samples; for kubernetes, event and log, between reads (from 1000).",
    )
    timeout_milliseconds: int = Field(
        2000, ge=50, le=60_000, description="A sample without an answer for this long is a failure."
    )
    vantage: Literal["Operator", "Pod"] = Field(
        "Operator",
        description="Where it looks from: the operator, which no fault hits, or a prober pod in the experiment's "
        "namespace, which is in the network like any client. Pod is for http, tcp, dns, tls and grpc.",
    )
    failure_threshold: int = Field(
        1, ge=1, le=10, description="This many failures in a row are a symptom; the first of them gives its time."
    )

    @model_validator(mode="after")
    def _can_look_from_there(self) -> Self:
        if self.vantage == "Pod" and self.kind not in FROM_PODS:
            raise refuse(NO_POD, "vantage")
        if self.vantage == "Pod" and any(self.secrets()):
            raise refuse(NO_SECRETS, "vantage")
        return self

    @property
    def is_moment(self) -> bool:
        """Whether it tells of something that happens, and not of a state that lasts."""
        moment = self.event or self.log
        return moment is not None and moment.absent_seconds is None

    def expressions(self) -> Iterator[Expression]:
        if text := self.look.judges():
            yield (self.kind, "expression"), text, self.look.sees()

    def secrets(self) -> Iterator[SecretPart]:
        for path, name, key in self.look.secrets():
            yield (self.kind, *path), name, key


NO_CATEGORY = Rule(
    "!has(self.category) || !has(self.tcp)",
    "category must be unset with tcp: an open connection says nothing",
    ".category",
    reason="FieldValueForbidden",
)


FAR_CATEGORY = Rule(
    "!has(self.category) || !has(self.vantage) || self.vantage != 'Pod'",
    "category must be unset with vantage: Pod: only what is healthy comes from there",
    ".category",
    reason="FieldValueForbidden",
)


NO_STRATEGY = Rule(
    "!has(self.category) || !has(self.tells) || self.tells != 'Strategy'",
    "category must be unset with tells: Strategy: it is about what names the trouble",
    ".category",
    reason="FieldValueForbidden",
)


class Signal(Probe):
    """A probe by which the system itself says that something is wrong, or what it does about it."""

    rules: ClassVar[tuple[Rule, ...]] = (*Probe.rules, NO_CATEGORY, FAR_CATEGORY, NO_STRATEGY)

    tells: Literal["Trouble", "Strategy"] = Field(
        "Trouble",
        description="Trouble: that something is wrong; any one is detection. Strategy: that the system reacts as it "
        "should (it tries again, fails over, opens a circuit): each must come to hold after the fault, none is "
        "detection.",
    )

    category: Cel | None = Field(
        None,
        description="CEL over what this kind of probe sees, true if the system names the trouble rightly: "
        "event.reason == 'StoreUnavailable'. It is asked each time that the signal holds.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.category and self.tcp:
            raise refuse(NO_CATEGORY.message, "category")
        if self.category and self.vantage == "Pod":
            raise refuse(FAR_CATEGORY.message, "category")
        if self.category and self.tells == "Strategy":
            raise refuse(NO_STRATEGY.message, "category")
        return self

    def expressions(self) -> Iterator[Expression]:
        yield from super().expressions()
        if self.category:
            yield ("category",), self.category, self.look.sees()


class HttpObservation(Model):
    """The JSON body of an HTTP answer."""

    url: Url = Field(description="http:// or https:// address that answers JSON with status 200.")


class KubernetesObservation(Model):
    """Objects of the experiment's namespace: one by name, or a list. Of Secrets digests of their values."""

    rules: ClassVar[tuple[Rule, ...]] = (NAME_OR_SELECTOR,)

    api_version: Annotated[str, Field(min_length=1, max_length=317)] = Field(description="For example v1.")
    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="For example ConfigMap.")
    name: ObjectName | None = Field(None, description="One object by name; unset: all that the selector matches.")
    selector: LabelSelector | None = Field(None, description="Objects by label; unset: all of the kind.")

    @model_validator(mode="after")
    def _one_way_to_select(self) -> Self:
        if self.name and self.selector:
            raise refuse(NAME_OR_SELECTOR.message, "selector")
        return self


class ExecObservation(Command):
    """What a command in a pod writes to its output; it must end with 0."""

    format: Literal["Json", "Text"] = Field("Json", description="Json: the output is JSON. Text: it is taken as it is.")


NO_STATUS = "statusFields must be unset but with kubernetes: nothing else has a status"


class Unchanged(Model):
    """What is read after the recovery must be what was read before the fault, but for what masks name."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.statusFields) || self.statusFields.all(f, f.startsWith('/status'))", OF_STATUS, ".statusFields"
        ),
    )

    masks: Annotated[list[Mask], Field(max_length=50)] = Field(
        default_factory=list,
        description="JSON pointers to what may differ, with all that is under it: of each object with kubernetes, "
        "where what the cluster itself gives out is left out anyway; else of what was read: /*/seen_at.",
    )
    status_fields: Annotated[list[Mask], Field(max_length=20)] = Field(
        default_factory=list,
        description="With kubernetes: the parts of the status that are compared: /status/readyReplicas. No others are.",
    )

    @model_validator(mode="after")
    def _fields_of_the_status(self) -> Self:
        if not all(each.startswith("/status") for each in self.status_fields):
            raise refuse(OF_STATUS, "statusFields")
        return self


class Observation(Model):
    """Something that is read before the fault, at clear and after the recovery, for the invariants."""

    rules: ClassVar[tuple[Rule, ...]] = (
        one_of(READINGS),
        Rule(
            "has(self.kubernetes) || !has(self.unchanged) || !has(self.unchanged.statusFields)"
            " || size(self.unchanged.statusFields) == 0",
            NO_STATUS,
            ".unchanged.statusFields",
            reason="FieldValueForbidden",
        ),
        Rule(
            "!has(self.kubernetes) || !has(self.unchanged) || !has(self.unchanged.masks)"
            " || self.unchanged.masks.all(m, !m.startsWith('/status'))",
            NEVER_COMPARED,
            ".unchanged.masks",
        ),
    )
    list_keys: ClassVar[tuple[str, ...]] = ("name",)

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][a-zA-Z0-9_]*$")] = Field(
        description="Its name in expressions: before.NAME, clear.NAME and after.NAME."
    )
    http: HttpObservation | None = Field(None, description="The JSON of an HTTP answer.")
    kubernetes: KubernetesObservation | None = Field(None, description="Kubernetes objects.")
    exec: ExecObservation | None = Field(None, description="The output of a command in a pod.")
    sql: SqlSource | None = Field(None, description="The rows of a query, a list of maps by column.")
    redis: RedisSource | None = Field(None, description="The reply to a command.")
    nats: NatsSource | None = Field(None, description="server, stream and consumer, as the server tells them.")
    timeout_milliseconds: int = Field(5000, ge=50, le=60_000, description="An answer must come within this time.")
    unchanged: Unchanged | None = Field(
        None, description="It must be the same before the fault and after the recovery. {}: all of it."
    )

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [n for n in READINGS if getattr(self, n) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(READINGS, given))
        return self

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        if self.unchanged is None:
            return self
        if self.unchanged.status_fields and self.kubernetes is None:
            raise refuse(NO_STATUS, "unchanged", "statusFields")
        if self.kubernetes is not None and any(mask.startswith("/status") for mask in self.unchanged.masks):
            raise refuse(NEVER_COMPARED, "unchanged", "masks")
        return self

    def secrets(self) -> Iterator[SecretPart]:
        for kind, source in (("sql", self.sql), ("redis", self.redis), ("nats", self.nats)):
            for path, name, key in source.secrets() if source else ():
                yield (kind, *path), name, key


class Invariant(Model):
    """What must hold between what was observed before the fault, at clear and after the recovery."""

    list_keys: ClassVar[tuple[str, ...]] = ("name",)

    name: Name = Field(description="Unique in the check.")
    expression: Cel = Field(
        description="CEL over before.NAME, clear.NAME and after.NAME that must be true: "
        "after.orders.count >= before.orders.count. It must speak of clear or after."
    )
    message: Annotated[str, Field(max_length=256)] | None = Field(None, description="What a reader is told if not.")
