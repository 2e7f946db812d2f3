"""Probes: one way to look at the system, sampled over time, or watched where the API offers a watch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bounceback.types.fields import Cel, Model, Name, ObjectName, Port
from bounceback.types.rules import Rule, exactly_one, one_of, refuse
from bounceback.types.selectors import LabelSelector

NAME_OR_SELECTOR = Rule(
    "!has(self.name) || !has(self.selector)",
    "name and selector must not both be given",
    ".selector",
    reason="FieldValueForbidden",
)
Url = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^https?://[^\s]+$")]


class HttpLook(Model):
    """An HTTP request from the operator; healthy when the answer is as expected."""

    url: Url = Field(
        description="http:// or https:// address; http://web/ is the Service web of this namespace, "
        "http://web.shop.svc/ that of any."
    )
    method: Literal["GET", "HEAD", "POST"] = Field("GET", description="GET, HEAD or POST.")
    expect_status: int = Field(200, ge=100, le=599, description="The status code of a healthy answer.")
    expect_body: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="Text that a healthy answer must contain; unset: any."
    )
    follow_redirects: bool = Field(False, description="Follow 3xx answers instead of judging them.")


class TcpLook(Model):
    """A TCP connection from the operator; healthy when it opens."""

    host: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Host name or address; a name without a dot is a Service of this namespace."
    )
    port: Port = Field(description="The port to connect to.")


class KubernetesLook(Model):
    """Objects of the experiment's namespace, watched (with their status) as `spec.serviceAccountName`.

    With `name`, the expression sees `object`; with `selector` or neither, it sees `objects`, a list.
    """

    rules: ClassVar[tuple[Rule, ...]] = (NAME_OR_SELECTOR,)

    api_version: Annotated[str, Field(min_length=1, max_length=317)] = Field(
        description="For example v1, apps/v1 or example.com/v1."
    )
    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="For example Deployment.")
    name: ObjectName | None = Field(None, description="One object by name.")
    selector: LabelSelector | None = Field(None, description="Objects by label.")
    expression: Cel = Field(
        description="CEL that is true while healthy, for example object.status.readyReplicas == object.spec.replicas."
    )

    @model_validator(mode="after")
    def _one_way_to_select(self) -> Self:
        if self.name and self.selector:
            raise refuse(NAME_OR_SELECTOR.message, "selector")
        return self


class Look(Model):
    """Exactly one of `http`, `tcp` or `kubernetes`."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(("http", "tcp", "kubernetes")),)

    http: HttpLook | None = Field(None, description="An HTTP request.")
    tcp: TcpLook | None = Field(None, description="A TCP connection.")
    kubernetes: KubernetesLook | None = Field(None, description="A CEL expression over watched objects.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [n for n in ("http", "tcp", "kubernetes") if getattr(self, n) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(("http", "tcp", "kubernetes"), given))
        return self


class Probe(Look):
    """A look at the system, repeated every period; samples overlap when answers are slow."""

    list_keys: ClassVar[tuple[str, ...]] = ("name",)

    name: Name = Field(description="Unique in the check.")
    period_milliseconds: int = Field(
        1000,
        ge=50,
        le=60_000,
        description="Time between two samples; for kubernetes, between reads that confirm the watch (from 1000).",
    )
    timeout_milliseconds: int = Field(
        2000, ge=50, le=60_000, description="A sample without an answer for this long is a failure."
    )
    failure_threshold: int = Field(
        1, ge=1, le=10, description="This many failures in a row are a symptom; the first of them gives its time."
    )


class HttpObservation(Model):
    """The JSON body of an HTTP answer."""

    url: Url = Field(description="http:// or https:// address that answers JSON with status 200.")


class KubernetesObservation(Model):
    """Objects of the experiment's namespace: one by name, or a list."""

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


class Observation(Model):
    """Something that is read before the fault and after the recovery, for the invariants."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(("http", "kubernetes")),)
    list_keys: ClassVar[tuple[str, ...]] = ("name",)

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][a-zA-Z0-9_]*$")] = Field(
        description="Its name in expressions: before.NAME and after.NAME."
    )
    http: HttpObservation | None = Field(None, description="The JSON of an HTTP answer.")
    kubernetes: KubernetesObservation | None = Field(None, description="Kubernetes objects.")
    timeout_milliseconds: int = Field(5000, ge=50, le=60_000, description="An answer must come within this time.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [n for n in ("http", "kubernetes") if getattr(self, n) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(("http", "kubernetes"), given))
        return self


class Invariant(Model):
    """What must hold between what was observed before and after."""

    list_keys: ClassVar[tuple[str, ...]] = ("name",)

    name: Name = Field(description="Unique in the check.")
    expression: Cel = Field(
        description="CEL over before.NAME and after.NAME that must be true: after.orders.count >= before.orders.count."
    )
    message: Annotated[str, Field(max_length=256)] | None = Field(None, description="What a reader is told if not.")
