"""What an agent is told to do. What it tells in return: types/told.py.

A plan goes to the agent as JSON in the environment variable BOUNCEBACK_PLAN; nothing else passes to it but `control`
requests, which go through pods/exec. Standard library only: the agent imports this.
"""

from __future__ import annotations

import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from importlib import import_module
from typing import Any, Final

from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.inside import InsideAct
from bounceback.types.pattern import Pattern, pattern_from

PLAN_VERSION: Final = 1
PLAN_VARIABLE: Final = "BOUNCEBACK_PLAN"
NOTES_VARIABLE: Final = "BOUNCEBACK_NOTES"
"""For `agent verify`: notes by injection, of those that were in force. What is left of them is undone."""
LONGEST_PLAIN: Final = 16 * 1024  # bytes of JSON that are handed over as they are, so that a reader can see them


class Feature(StrEnum):
    """Something that a node's kernel may or may not be able to do; probed by `agent probe`, never assumed."""

    NFT_INET = "nft-inet"  # nf_tables family inet
    NFT_IP = "nft-ip"  # nf_tables family ip (and ip6)
    NFT_OWNER = "nft-owner"  # tables that the kernel removes when their owner's socket closes
    NFT_REJECT = "nft-reject"
    NFT_NUMGEN = "nft-numgen"
    NFT_LIMIT = "nft-limit"
    NFT_REDIRECT = "nft-redirect"  # nat in an output chain
    NFT_ZONE = "nft-ct-zone"  # conntrack keeps flows apart as it is told to (CONFIG_NF_CONNTRACK_ZONES)
    NETEM = "sch_netem"
    TBF = "sch_tbf"
    PRIO = "sch_prio"
    HTB = "sch_htb"
    U32 = "cls_u32"
    INGRESS = "sch_ingress"
    MIRRED = "act_mirred"
    IFB = "ifb"
    SOCK_DESTROY = "sock-destroy"  # open connections ended from outside (CONFIG_INET_DIAG_DESTROY)
    FANOTIFY = "fanotify-perm"  # who opens or reads a file waits for an answer (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)
    FANOTIFY_ERRNO = "fanotify-errno"  # and the answer can be another error than EPERM (Linux 6.14)


class Rung(StrEnum):
    """How a fault is carried out on a node; a fault names the rungs that it can use, best first."""

    NETEM = "Netem"
    TBF = "Tbf"
    NFT = "Nft"
    SOCKETS = "Sockets"
    RELAY = "Relay"  # connections are led through a relay of ours in the target's network
    PROXY = "Proxy"  # the API proxy of an armed pod follows rules
    ADMISSION = "Admission"  # the API server asks the operator about writes before it carries them out
    NODE = "Node"  # from the pod's node, on its processes, cgroups and files
    API = "Api"  # no kernel needed: the fault is a request to the Kubernetes API


BY_OPERATOR: Final = frozenset({Rung.API, Rung.ADMISSION})
"""Those that the operator carries out by itself: no agent is anywhere."""


class Direction(StrEnum):
    EGRESS = "Egress"
    INGRESS = "Ingress"
    BOTH = "Both"


@dataclass(frozen=True, slots=True)
class Flow:
    """Traffic with one peer. `protocol` is "" (any), "TCP" or "UDP"; no ports means all of them.

    The port is the peer's: the destination of what the target sends, the source of what it gets.
    """

    cidr: str
    protocol: str = ""
    ports: tuple[int, ...] = ()


class Packets(StrEnum):
    """Which packets of its flows a drop is about."""

    ALL = "all"
    OPENING = "opening"  # those that open a TCP connection (SYN)
    OPEN = "open"  # those of TCP connections that were open when it began


@dataclass(frozen=True, slots=True)
class Drop:
    """Packets are lost: all of them (a partition) or those chosen. `reject`: answered by RST or ICMP, not silence."""

    reject: bool = False
    packets: Packets = Packets.ALL
    choice: Choice = ALWAYS
    driver: str = field(default="nft", init=False)

    def scaled(self, share: float) -> Drop:
        """That share of those that are hit; `nth` and `first_n` stay."""
        return replace(self, choice=replace(self.choice, probability=self.choice.probability * share))


@dataclass(frozen=True, slots=True)
class Netem:
    """What tc-netem(8) does to packets: times in microseconds, shares of the packets in percent.

    A delay is `delay_us`, spread by `jitter_us`: its largest deviation, or its standard deviation for a `distribution`.
    `delayed_percent` of the packets are delayed at all, and `spike_percent` of these `spike_factor` times as long.
    Loss in bursts (Gilbert-Elliott): the share of packets at which a burst begins, at which it ends, and the loss in it
    and outside of it. A reordered packet is not delayed, so it comes before those that are.
    """

    delay_us: int = 0
    jitter_us: int = 0
    delay_correlation: float = 0.0
    distribution: str = ""  # uniform, or "normal", "pareto", "paretonormal"
    delayed_percent: float = 100.0
    spike_percent: float = 0.0
    spike_factor: float = 1.0
    loss_percent: float = 0.0
    loss_correlation: float = 0.0
    burst_begins_percent: float = 0.0
    burst_ends_percent: float = 100.0
    burst_loss_percent: float = 0.0
    calm_loss_percent: float = 0.0
    duplicate_percent: float = 0.0
    duplicate_correlation: float = 0.0
    corrupt_percent: float = 0.0
    corrupt_correlation: float = 0.0
    reorder_percent: float = 0.0
    reorder_correlation: float = 0.0
    reorder_gap: int = 1
    limit: int = 100_000
    driver: str = field(default="netem", init=False)

    def scaled(self, share: float) -> Netem:
        """Delays that much shorter; of loss, duplicates, corruption and reordering that share. Bursts stay as long."""
        return replace(
            self,
            delay_us=round(self.delay_us * share) if not self.reorder_percent else self.delay_us,
            jitter_us=round(self.jitter_us * share) if not self.reorder_percent else self.jitter_us,
            loss_percent=self.loss_percent * share,
            burst_loss_percent=self.burst_loss_percent * share,
            calm_loss_percent=self.calm_loss_percent * share,
            duplicate_percent=self.duplicate_percent * share,
            corrupt_percent=self.corrupt_percent * share,
            reorder_percent=self.reorder_percent * share,
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """No more than so many bytes a second pass (tc-tbf(8)); what is over it waits, for `latency_us` at most."""

    bytes_per_second: int
    burst_bytes: int
    latency_us: int = 400_000
    driver: str = field(default="rate", init=False)

    def scaled(self, share: float) -> Rate:
        """A limit that is that much less of one: half the share, twice the rate."""
        return replace(self, bytes_per_second=round(self.bytes_per_second / share))


@dataclass(frozen=True, slots=True)
class Reset:
    """Open TCP connections are ended (sock_diag(7)), those chosen; with `refuse_new` others cannot be opened."""

    refuse_new: bool = False
    choice: Choice = ALWAYS
    driver: str = field(default="sockets", init=False)

    def scaled(self, share: float) -> Reset:
        """That share of the connections."""
        return replace(self, choice=replace(self.choice, probability=self.choice.probability * share))


@dataclass(frozen=True, slots=True)
class Redirect:
    """New connections are led through a relay.

    `rules` is a JSON list of what `speaks` is about: types.relay ("tcp") or types.names ("dns", "tls").
    `existing`: connections that are open already are reset ("Reset") or not touched ("Keep"). `drain`: seconds that
    those in the relay have at the end, before they are reset.
    """

    speaks: str
    rules: str
    existing: str = "Keep"
    drain: float = 5.0
    driver: str = field(default="relay", init=False)

    def scaled(self, share: float) -> Redirect:
        """As the rules are scaled (types/relay.py); of names and handshakes that share is hit."""
        listed = json.loads(self.rules)
        if self.speaks == "tcp":
            from bounceback.types import relay  # it imports this module

            return replace(self, rules=json.dumps([asdict(relay.rule_from(each).scaled(share)) for each in listed]))
        for each in listed:
            each["choice"]["probability"] *= share
        return replace(self, rules=json.dumps(listed))


@dataclass(frozen=True, slots=True)
class ApiRules:
    """The API proxy in the pod follows these: a JSON list of types.api_rule."""

    rules: str
    driver: str = field(default="api", init=False)

    @property
    def kills(self) -> bool:
        """Whether clients are killed, which takes an agent on their node."""
        return any(each["act"]["does"] == "Crash" for each in json.loads(self.rules))

    @property
    def capabilities(self) -> tuple[str, ...]:
        """As those of acts inside a pod: /proc/PID/fd, which tells who holds a connection, is its owner's (proc(5))."""
        return ("DAC_READ_SEARCH", "KILL") if self.kills else ()

    def scaled(self, share: float) -> ApiRules:
        """As the rules are scaled."""
        from bounceback.types import api_rule  # only who has such rules needs it

        listed = [api_rule.rule_from(each).scaled(share) for each in json.loads(self.rules)]
        return replace(self, rules=json.dumps([asdict(rule) for rule in listed]))


Act = Drop | Netem | Rate | Reset | Redirect | ApiRules | InsideAct
Queued = Netem | Rate
"""Acts that are qdiscs: they have a place among those of their target, and outlive the process that made them."""

_ACTS: Final[dict[str, type[Drop | Netem | Rate | Reset | Redirect | ApiRules]]] = {
    "nft": Drop,
    "netem": Netem,
    "rate": Rate,
    "sockets": Reset,
    "relay": Redirect,
    "api": ApiRules,
}
_INSIDE: Final[dict[str, str]] = {
    "access": "access.Access",
    "cpu": "pressure.Cpu",
    "disk": "scarce.Fill",
    "backlog": "scarce.Backlog",
    "clock": "clock.Skew",
    "crowd": "scarce.Crowd",
    "descriptors": "scarce.Descriptors",
    "files": "files.Spoil",
    "freeze": "signals.Freeze",
    "kubelet": "kubelet.StopKubelet",
    "kubelet_service": "kubelet.StopKubeletService",
    "memory": "pressure.Memory",
    "pids": "pressure.Pids",
    "signals": "signals.Signal",
}
"""Drivers to their acts, module.Class: imported only where an order needs them."""


@dataclass(frozen=True, slots=True)
class Order:
    """One injection: one fault on one target. Times are UTC seconds since the epoch, made by the operator.

    The agent applies it at `start_at`, refuses when it is already later than `start_before`, and reverts at the first
    of: `duration` seconds after it was in force, `not_after`, a stop, SIGTERM. One that `waits` is told when to
    begin by its operator (agent control: `begin`); until then its times are the latest that there can be.
    """

    injection: str
    fault: str
    pod_namespace: str
    pod_name: str
    pod_uid: str
    act: Act
    direction: Direction
    flows: tuple[Flow, ...]  # empty: every peer
    start_at: float
    start_before: float
    not_after: float
    duration: float
    pattern: Pattern | None = None  # None: all of it, all the time
    host_network: bool = False  # the pod may have its node's own network: a policy allows the fault there
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All orders of one agent: those on one pod (sidecar: `on_node` False) or on one node (NodePod: True)."""

    run: str  # the experiment's UID
    agent: str  # the deterministic name of the container or pod
    on_node: bool
    orders: tuple[Order, ...]
    exempt: tuple[str, ...] = ()  # CIDRs never touched: the node, Bounceback's own probes
    guarded: bool = False  # a guard runs beside: do not apply before it is there
    version: int = PLAN_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    def packed(self) -> str:
        """For the environment variable: JSON, compressed where it is long (many targets with the same many peers)."""
        plain = self.to_json()
        if len(plain) <= LONGEST_PLAIN:
            return plain
        return binascii.b2a_base64(zlib.compress(plain.encode(), 9), newline=False).decode()

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """From either form. Raises ValueError for a plan of another version or shape."""
        if not text.startswith("{"):
            try:
                text = zlib.decompress(binascii.a2b_base64(text)).decode()
            except zlib.error as error:
                raise ValueError(f"not a plan: {error}") from error
        data = json.loads(text)
        if data.get("version") != PLAN_VERSION:
            raise ValueError(f"plan version {data.get('version')!r}; this agent understands {PLAN_VERSION}")
        try:
            orders = tuple(_order(entry) for entry in data.pop("orders"))
            return cls(orders=orders, exempt=tuple(data.pop("exempt")), **data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a plan: {error}") from error


def flow_from(data: Mapping[str, Any]) -> Flow:
    return Flow(data["cidr"], data["protocol"], tuple(data["ports"]))


def act_from(data: Mapping[str, Any]) -> Act:
    fields = dict(data)
    driver = fields.pop("driver")
    if driver in _INSIDE:
        module, _, name = _INSIDE[driver].partition(".")
        inside: type[InsideAct] = getattr(import_module(f"bounceback.types.{module}"), name)
        return inside.from_json(fields)
    kind = _ACTS[driver]
    if "choice" in fields:
        fields["choice"] = Choice(**fields["choice"])
    if "packets" in fields:
        fields["packets"] = Packets(fields["packets"])
    return kind(**fields)


def _order(data: dict[str, Any]) -> Order:
    act = act_from(data.pop("act"))
    flows = tuple(flow_from(f) for f in data.pop("flows"))
    direction, pattern = Direction(data.pop("direction")), pattern_from(data.pop("pattern"))
    return Order(act=act, direction=direction, flows=flows, pattern=pattern, **data)
