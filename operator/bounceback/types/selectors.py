"""Who: label selectors and peers."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from bounceback.types.fields import LabelKey, LabelValue, Model, ObjectName, Port
from bounceback.types.rules import Rule, exactly_one, one_of, refuse


class Operator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(Model):
    """One condition on a label."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "values must be given with In and NotIn, and with these only",
            ".values",
        ),
    )

    key: LabelKey = Field(description="The label's key.")
    operator: Operator = Field(description="How they compare.")
    values: list[LabelValue] = Field(default_factory=list, max_length=50, description="For In and NotIn only.")

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if (self.operator in (Operator.IN, Operator.NOT_IN)) != bool(self.values):
            raise refuse("values must be given with In and NotIn, and with these only", "values")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels

    def __str__(self) -> str:
        match self.operator:
            case Operator.IN | Operator.NOT_IN:
                word = "in" if self.operator is Operator.IN else "notin"
                return f"{self.key} {word} ({','.join(self.values)})"
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"


class LabelSelector(Model):
    """Kubernetes' label selector; all parts must hold. An empty one would select everything and is refused."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.matchLabels) && size(self.matchLabels) > 0)"
            " || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
            "matchLabels or matchExpressions must name at least one label",
            reason="FieldValueRequired",
        ),
    )

    match_labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=20, description="Labels with these values."
    )
    match_expressions: list[Requirement] = Field(default_factory=list, max_length=20, description="Further conditions.")

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if not self.match_labels and not self.match_expressions:
            raise refuse("matchLabels or matchExpressions must name at least one label")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(k) == v for k, v in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )

    def __str__(self) -> str:
        """The form that the API's labelSelector parameter takes."""
        return ",".join([*(f"{k}={v}" for k, v in self.match_labels.items()), *map(str, self.match_expressions)])


class Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"


class PeerPort(Model):
    """A port of the peer."""

    port: Port = Field(description="On the peer's side.")
    protocol: Protocol = Field(Protocol.TCP, description="TCP or UDP.")


class PeerPods(Model):
    """Pods of the experiment's namespace, by their labels."""

    selector: LabelSelector = Field(description="The labels of the peer's pods.")


class PeerService(Model):
    """A Service of the experiment's namespace: its cluster IPs and its endpoints, followed as they change."""

    name: ObjectName = Field(description="The Service's name.")


class Peer(Model):
    """Exactly one of `pods`, `service`, `cidr` or `host`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        one_of(("pods", "service", "cidr", "host")),
        Rule(
            "!has(self.cidr) || isCIDR(self.cidr) || isIP(self.cidr)",
            "cidr must be an IP network or address, for example 10.0.0.0/8",
            ".cidr",
        ),
    )

    pods: PeerPods | None = Field(None, description="Pods by label.")
    service: PeerService | None = Field(None, description="A Service: its cluster IPs and its endpoints.")
    cidr: Annotated[str, Field(max_length=49)] | None = Field(None, description="An IP network or address: 10.0.0.0/8.")
    host: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None, description="A host name; its addresses are followed."
    )
    ports: list[PeerPort] = Field(
        default_factory=list, max_length=20, description="The peer's ports; empty: all of them."
    )

    @field_validator("cidr")
    @classmethod
    def _is_network(cls, value: str | None) -> str | None:
        if value is not None:
            address, _, bits = value.partition("/")
            try:
                if "%" in address or (bits and not bits.isdecimal()):
                    raise ValueError("neither zones nor netmasks are known to the API server")
                ipaddress.ip_network(value, strict=False)
            except ValueError:
                raise refuse("cidr must be an IP network or address, for example 10.0.0.0/8") from None
        return value

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [n for n in ("pods", "service", "cidr", "host") if getattr(self, n) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(("pods", "service", "cidr", "host"), given))
        return self

    def __str__(self) -> str:
        name = (
            f"service {self.service.name}"
            if self.service
            else f"pods {self.pods.selector}"
            if self.pods
            else f"host {self.host}"
            if self.host
            else str(self.cidr)
        )
        return name + "".join(f":{p.port}/{p.protocol}" for p in self.ports)
