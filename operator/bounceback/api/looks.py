"""Looks over the network: what the system answers to whoever asks from outside."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bounceback.api.credentials import SecretPart, ServerTls
from bounceback.types.fields import Cel, LabelKey, Milliseconds, Model, Port
from bounceback.types.rules import Rule, exactly_one, one_of, refuse
from bounceback.types.selectors import LabelSelector

Url = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^https?://[^\s]+$")]
Host = Annotated[str, Field(min_length=1, max_length=253)]
HEADER_NAME = r"^[-A-Za-z0-9_]+$"
METRIC_NAME = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"


class AnyLook(Model):
    """What all looks have. `variables` are what expressions over the answer can see."""

    variables: ClassVar[tuple[str, ...]] = ()

    def sees(self) -> tuple[str, ...]:
        return self.variables

    def judges(self) -> str | None:
        """The expression that decides, if there is one."""
        found: str | None = getattr(self, "expression", None)
        return found

    def secrets(self) -> Iterator[SecretPart]:
        """What must be there before anybody can look."""
        yield from ()


class HttpLook(AnyLook):
    """An HTTP request from the operator; healthy when the answer is as expected."""

    variables = ("status", "headers", "json", "milliseconds")

    url: Url = Field(
        description="http:// or https:// address; http://web/ is the Service web of this namespace, "
        "http://web.shop.svc/ that of any."
    )
    method: Literal["GET", "HEAD", "POST"] = Field("GET", description="GET, HEAD or POST.")
    expect_status: int = Field(
        200, ge=0, le=599, description="The status code of a healthy answer; 0: any, for the expression to judge."
    )
    expect_body: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="Text that a healthy answer must contain; unset: any."
    )
    expect_headers: dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=256)]] = (
        Field(
            default_factory=dict,
            max_length=20,
            description="Headers that a healthy answer must have, with these values; in names case does not matter.",
        )
    )
    expect_within_milliseconds: Milliseconds | None = Field(
        None, description="A healthy answer is whole within this time; unset: within the timeout."
    )
    expression: Cel | None = Field(
        None,
        description="CEL over status, headers (names in lower case), json (null where the body is none) and "
        "milliseconds that is true while healthy, for example json.queue.depth < 100.",
    )
    follow_redirects: bool = Field(False, description="Follow 3xx answers instead of judging them.")


class TcpLook(AnyLook):
    """A TCP connection from the operator; healthy when it opens."""

    host: Host = Field(description="Host name or address; a name without a dot is a Service of this namespace.")
    port: Port = Field(description="The port to connect to.")


class RecordType(StrEnum):
    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    NS = "NS"
    PTR = "PTR"
    SRV = "SRV"
    TXT = "TXT"


class DnsLook(AnyLook):
    """A question to a name server; healthy when the answer is as expected."""

    variables = ("code", "answers", "ttl", "milliseconds")

    name: Host = Field(
        description="The name to ask for; one without a dot is a Service of this namespace. The search list of the "
        "operator's pod applies, unless a server is named or the name ends with a dot."
    )
    type: RecordType = Field(RecordType.A, description="The type of the records.")
    expect_code: Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Z]+$")] = Field(
        "NOERROR", description="The code of a healthy answer: NOERROR (with a record), NXDOMAIN, SERVFAIL, REFUSED."
    )
    expect_answers: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=50)] = Field(
        default_factory=list, description="The records of a healthy answer, in any order, and no others; empty: any."
    )
    server: Host | None = Field(None, description="The name server's address or host name; unset: the cluster's.")
    port: Port = Field(53, description="The server's port.")
    protocol: Literal["UDP", "TCP"] = Field("UDP", description="UDP (TCP after a truncated answer) or TCP.")
    expression: Cel | None = Field(
        None, description="CEL over code, answers, ttl (seconds, the least) and milliseconds; true while healthy."
    )


class TlsLook(AnyLook):
    """A TLS handshake; healthy when the certificate is trusted, for the name, and the whole chain that is shown valid
    for long enough and in order."""

    variables = ("daysLeft", "names", "issuer", "subject", "chain", "version", "cipher", "milliseconds")

    host: Host = Field(description="Host name or address; a name without a dot is a Service of this namespace.")
    port: Port = Field(443, description="The port to connect to.")
    tls: ServerTls = Field(default_factory=ServerTls, description="Whom to trust, and for which name.")
    valid_days: int = Field(
        0, ge=0, le=3650, description="Every certificate that a healthy server shows is valid for so many days yet."
    )
    any_order: bool = Field(
        False,
        description="Healthy also where a certificate is not followed by that of its issuer, as TLS 1.2 demands and "
        "some clients insist.",
    )
    expression: Cel | None = Field(
        None,
        description="CEL over daysLeft, names, issuer and subject of the server's own certificate, chain (of each one "
        "shown, the server's first: daysLeft, issuer, subject), version, cipher and milliseconds; true while healthy.",
    )

    def secrets(self) -> Iterator[SecretPart]:
        yield from self.tls.secrets("tls")


class GrpcLook(AnyLook):
    """A health check by grpc.health.v1; healthy when the service says SERVING."""

    variables = ("status", "milliseconds")

    host: Host = Field(description="Host name or address; a name without a dot is a Service of this namespace.")
    port: Port = Field(description="The port to connect to.")
    service: Annotated[str, Field(max_length=256)] = Field("", description="The service asked about; empty: all.")
    tls: ServerTls | None = Field(None, description="TLS; unset: plain HTTP/2.")
    expression: Cel | None = Field(
        None, description="CEL over status and milliseconds that is true while healthy; unset: status == 'SERVING'."
    )

    def secrets(self) -> Iterator[SecretPart]:
        if self.tls:
            yield from self.tls.secrets("tls")


class MetricPods(Model):
    """Pods whose metrics pages are read, each by itself."""

    selector: LabelSelector = Field(description="The labels of the pods, in the experiment's namespace.")
    port: Port = Field(description="The port of the page.")
    path: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^/\S*$")] = Field(
        "/metrics", description="Its path."
    )


SERIES_OF = one_of(("query", "metric"))
PAGE_OF = one_of(("url", "pods"))
QUERY_AT = Rule("!has(self.query) || has(self.url)", "url must be given with query: a Prometheus server's", ".url")


class PrometheusLook(AnyLook):
    """Figures of the system: by PromQL from a Prometheus server, or a metric straight from the page that shows it.

    Healthy when the expression is true of each series.
    """

    variables = ("value", "labels")
    rules: ClassVar[tuple[Rule, ...]] = (SERIES_OF, PAGE_OF, QUERY_AT)

    url: Url | None = Field(
        None, description="With query, a Prometheus server: http://prometheus.monitoring.svc:9090; with metric, a page."
    )
    pods: MetricPods | None = Field(None, description="Instead of url: the pages of these pods.")
    query: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, description="PromQL whose result is a scalar or a vector; one that returns nothing is an error."
    )
    metric: Annotated[str, Field(min_length=1, max_length=256, pattern=METRIC_NAME)] | None = Field(
        None, description="A metric's name, as it stands on the page."
    )
    labels: dict[LabelKey, Annotated[str, Field(max_length=256)]] = Field(
        default_factory=dict, max_length=20, description="With metric: only series with these labels."
    )
    expression: Cel = Field(description="CEL over value and labels that is true while healthy: value < 0.05.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for fields, given in (
            (("query", "metric"), (self.query, self.metric)),
            (("url", "pods"), (self.url, self.pods)),
        ):
            found = [name for name, value in zip(fields, given, strict=True) if value is not None]
            if len(found) != 1:
                raise refuse(exactly_one(fields, found))
        if self.query and not self.url:
            raise refuse(QUERY_AT.message, "url")
        return self
