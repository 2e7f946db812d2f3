"""What `bounceback proxy` is told by its file and its control API: listeners, and faults as experiments have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import Field, create_model, model_validator

from bounceback.api.client_behavior import ClientBehavior
from bounceback.api.meta import repeated
from bounceback.api.pattern import Pattern
from bounceback.api.problems import Problem, parse
from bounceback.cli.proxy_names import NameRule
from bounceback.faults import API_KINDS, KINDS, Fault
from bounceback.faults.base import NetworkFault
from bounceback.faults.chosen import Chosen
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.connection_fault import ConnectionFault
from bounceback.faults.dns_fault import DnsFault
from bounceback.faults.name_fault import NameFault
from bounceback.faults.relayed import can_be_relayed, rules
from bounceback.faults.tls_fault import AUTHORITY_WITH, SIGNED, AnyTlsFault
from bounceback.types import relay
from bounceback.types.api_rule import ApiRule, Crash
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Model, Name
from bounceback.types.names import TlsRule
from bounceback.types.rules import FieldError, exactly_one, refuse

ADDRESS: Final = "must be HOST:PORT, for example 127.0.0.1:5433 or [::1]:5433"
NO_COMMAND: Final = "must be with -- COMMAND: nobody else's process is killed"
RAMP_NEEDS: Final = "durationSeconds must be given with pattern.ramp: its steps are parts of it"
Spot = Annotated[str, Field(min_length=1, max_length=300)]


def address(text: str, *, any_port: bool = False) -> tuple[str, int]:
    """Host and port; port 0, any that is free, only with `any_port`. Raises ValueError with what must be."""
    host, colon, digits = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not bare or not digits.isdecimal() or (":" in bare and bare == host) or len(digits) > 5:
        raise ValueError(ADDRESS)
    if not (0 if any_port else 1) <= int(digits) <= 65535:
        raise ValueError(f"must have a port from {0 if any_port else 1} to 65535")
    return bare, int(digits)


class Protocol(StrEnum):
    """What a listener takes."""

    TCP = "TCP"
    UDP = "UDP"
    DNS = "DNS"  # queries by UDP and TCP, on one port
    KUBERNETES = "Kubernetes"  # the listener of --write-kubeconfig


class ProxyListener(Model):
    """A port that connections come to, and where they go on to."""

    name: Name = Field(description="Faults refer to it by this name.")
    listen: Spot = Field(description="HOST:PORT to listen on; port 0 is any that is free.")
    upstream: Spot = Field(description="HOST:PORT that what comes is passed on to.")
    protocol: Protocol = Field(
        Protocol.TCP, description="TCP, UDP, or DNS: queries by both, for an upstream that is a DNS server."
    )

    @model_validator(mode="after")
    def _are_addresses(self) -> Self:
        problems = []
        for field, text, any_port in (("listen", self.listen, True), ("upstream", self.upstream, False)):
            try:
                address(text, any_port=any_port)
            except ValueError as error:
                problems.append(((field,), str(error)))
        if self.protocol is Protocol.KUBERNETES:
            problems.append((("protocol",), "must be TCP, UDP or DNS; --write-kubeconfig makes one for a cluster"))
        if problems:
            raise FieldError(problems)
        return self


class FileAuthority(Model):
    """Who signs the bad certificates: files in PEM, read when the fault is taken up."""

    certificate_file: Spot = Field(description="Its certificate, with CA:TRUE; a path from the fault file's folder.")
    key_file: Spot = Field(description="Its key, without a password.")

    @property
    def name(self) -> str:
        """What rules call it."""
        return f"{self.certificate_file}\0{self.key_file}"


class ProxyTlsFault(AnyTlsFault):
    """tlsFault, with an authority whose key is at hand: certificates are made for whatever name is asked for."""

    authority: FileAuthority | None = Field(
        None, description="One that the clients trust, so that the certificate is wrong in one thing only."
    )

    @model_validator(mode="after")
    def _is_signed(self) -> Self:
        if self.authority is not None and self.answer not in SIGNED:
            raise refuse(AUTHORITY_WITH, "authority")
        return self

    def rule(self, choice: Choice = ALWAYS) -> TlsRule:
        return replace(super().rule(choice), authority=self.authority.name if self.authority else "")


OFFERED: Final[tuple[type[NetworkFault | ClientFault], ...]] = (
    *(kind for kind in KINDS if issubclass(kind, NetworkFault) and can_be_relayed(kind)),
    DnsFault,
    ProxyTlsFault,
    *API_KINDS,
)


class ProxyTiming(Chosen):
    """What every entry of `faults` has beside the one field that names its kind."""

    name: Name = Field(description="Unique; what the rule that it makes is called in the counters.")
    listener: Name | None = Field(None, description="Only connections of this listener; unset: of all.")
    start_after_seconds: int = Field(0, ge=0, le=86_400, description="Time from when it is taken up.")
    duration_seconds: int | None = Field(
        None, ge=1, le=86_400, description="How long it lasts; unset: as long as it is there."
    )
    pattern: Pattern | None = Field(None, description="How it comes and goes, or grows.")
    per: relay.Drawn | None = Field(
        None,
        description="What probability, nth and firstN choose among: Connection, or Segment (also: datagram); unset: "
        "Connection for faults on connections, Segment for those on packets. dnsFault chooses among queries, apiFault "
        "and authFault among requests.",
    )

    @property
    def fault(self) -> NetworkFault | ClientFault:
        """The one kind that is set."""
        kinds: dict[str, NetworkFault | ClientFault | None] = {kind.kind: getattr(self, kind.kind) for kind in OFFERED}
        return next(value for value in kinds.values() if value is not None)

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [kind.kind for kind in OFFERED if getattr(self, kind.kind) is not None]
        if len(given) != 1:
            raise refuse(exactly_one((kind.kind for kind in OFFERED), given))
        if isinstance(self.fault, NetworkFault) and self.fault.peers:
            message = "must be unset here: the peer is the upstream of the listener"
            raise refuse(message, self.fault.kind, "peers")
        if self.per is relay.Drawn.SEGMENT and isinstance(self.fault, ConnectionFault):
            raise refuse(f"must be Connection, or unset, for {self.fault.kind}", "per")
        if self.per is not None and isinstance(self.fault, NameFault | ClientFault):
            raise refuse(f"must be unset for {self.fault.kind}", "per")
        if self.pattern is not None and self.pattern.ramp is not None and self.duration_seconds is None:
            raise refuse(RAMP_NEEDS, "durationSeconds")
        return self

    @property
    def kills(self) -> bool:
        """Whether it ends the client's process."""
        return any(isinstance(rule, ApiRule) and isinstance(rule.act, Crash) for rule in self.all_rules)

    @property
    def authority(self) -> FileAuthority | None:
        return self.fault.authority if isinstance(self.fault, ProxyTlsFault) else None

    @property
    def all_rules(self) -> tuple[relay.Rule | NameRule | ApiRule, ...]:
        """At its full strength."""
        if isinstance(self.fault, ClientFault):
            return (self.fault.rule(self.name, self.choice()),)
        if isinstance(self.fault, NameFault):
            return (NameRule(self.name, self.fault.rule(self.choice()), self.listener or ""),)
        return rules(self.fault, self.name, self.choice(), self.listener or "", self.per)


if TYPE_CHECKING:
    ProxyFault = ProxyTiming
else:

    def _summary(kind: type[Fault]) -> str:
        return " ".join((kind.__doc__ or "").split())

    ProxyFault = create_model(
        "ProxyFault",
        __base__=ProxyTiming,
        __doc__="One fault: exactly one kind, and which connections it hits.",
        **{kind.kind: (kind | None, Field(None, alias=kind.kind, description=_summary(kind))) for kind in OFFERED},
    )


class ProxyFile(Model):
    """What the file of `bounceback proxy --fault` holds."""

    listeners: Annotated[list[ProxyListener], Field(max_length=100)] = Field(
        default_factory=list, description="Beside those of the command line."
    )
    faults: Annotated[list[ProxyFault], Field(max_length=100)] = Field(
        default_factory=list, description="What happens to the connections."
    )
    client_behavior: ClientBehavior | None = Field(
        None,
        description="How the client of the Kubernetes API must take it; judged at the end. With --write-kubeconfig.",
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        problems = [
            *repeated("listeners", [listener.name for listener in self.listeners]),
            *repeated("faults", [fault.name for fault in self.faults]),
        ]
        if problems:
            raise FieldError(problems)
        return self


def file_of(data: object, known: Mapping[str, Protocol]) -> tuple[ProxyFile | None, tuple[Problem, ...]]:
    """The file, or what stands against it; `known` are the listeners of the command line."""
    found, problems = parse(ProxyFile, data, ())
    if found is None:
        return None, problems
    listeners = {**known, **{listener.name: listener.protocol for listener in found.listeners}}
    problems = tuple(
        problem for n, fault in enumerate(found.faults) for problem in _unfit(fault, listeners, ("faults", n))
    )
    if found.client_behavior is not None and Protocol.KUBERNETES not in listeners.values():
        problems += (
            Problem(("clientBehavior",), "must be with --write-kubeconfig: it is of a Kubernetes API's client"),
        )
    return (None, problems) if problems else (found, ())


def fault_of(data: object, known: Mapping[str, Protocol]) -> tuple[ProxyFault | None, tuple[Problem, ...]]:
    """One entry, or what stands against it."""
    found, problems = parse(ProxyFault, data, ())
    problems = problems or tuple(_unfit(found, known, ())) if found else problems
    return (None, problems) if problems else (found, ())


def _unfit(fault: ProxyFault, listeners: Mapping[str, Protocol], root: tuple[str | int, ...]) -> Iterator[Problem]:
    """What only the listeners can tell."""
    if fault.listener is not None and fault.listener not in listeners:
        yield Problem((*root, "listener"), f"must be one of the listeners: {', '.join(listeners)}")
        return
    protocols = {listeners[fault.listener]} if fault.listener else set(listeners.values())
    if isinstance(fault.fault, ClientFault) and Protocol.KUBERNETES not in protocols:
        yield Problem((*root, fault.fault.kind), "must be with --write-kubeconfig: it is for a Kubernetes API")
        return
    if protocols and not (fits := _protocols(fault)) & protocols:
        words = ", ".join(name for name in listeners if fault.listener in (None, name))
        needed = " or ".join(sorted(fits))
        yield Problem((*root, fault.fault.kind), f"must be for a listener with protocol {needed}; {words} is not")


def _protocols(fault: ProxyFault) -> set[Protocol]:
    """Those that it can do something to."""
    match fault.fault:
        case ClientFault():
            return {Protocol.KUBERNETES}
        case DnsFault():
            return {Protocol.DNS}
        case AnyTlsFault():
            return {Protocol.TCP}
    acts = [rule.act for rule in fault.all_rules if isinstance(rule, relay.Rule)]
    streams = not any(isinstance(act, relay.DATAGRAM_ONLY) for act in acts)
    datagrams = not any(isinstance(act, relay.STREAM_ONLY) for act in acts)
    return {protocol for protocol, fits in ((Protocol.TCP, streams), (Protocol.UDP, datagrams)) if fits}
