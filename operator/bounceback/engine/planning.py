"""From what was found in the cluster to what is written ahead: injections, and the plan of each agent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.status import CheckCopy, InjectionStatus, ObjectStatus, held
from bounceback.engine.model import AgentRef, ObjectInfo, PodInfo
from bounceback.engine.naming import agent_name, injection_name
from bounceback.faults import PodRemoval
from bounceback.faults.base import Fault, NetworkFault, first_possible
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.inside import InsideFault
from bounceback.faults.name_fault import NameFault
from bounceback.faults.node_not_ready import NodeNotReady
from bounceback.faults.relayed import not_relayed, rules
from bounceback.types.inside import InsideAct
from bounceback.types.names import Leaf, TlsRule
from bounceback.types.objects import Change
from bounceback.types.outcome import NOT_STARTED, VehicleKind
from bounceback.types.plan import (
    BY_OPERATOR,
    Act,
    ApiRules,
    Direction,
    Feature,
    Flow,
    Order,
    Plan,
    Queued,
    Redirect,
    Rung,
)
from bounceback.types.realms import Realm

START_GRACE: Final = 60.0
"""Seconds that an agent may start late: a slow image pull is waited for, a leader that slept is not."""


@dataclass(frozen=True)
class Chosen:
    """One pod or object that one fault will hit, and how."""

    fault: FaultTiming
    on: PodInfo | ObjectInfo
    vehicle: VehicleKind
    vehicle_reason: str
    rung: Rung
    flows: tuple[Flow, ...] = ()
    guarded: bool = False  # what it leaves in the kernel is not bound to the agent's life
    leaf: Leaf | None = None  # for tlsFault with an authority: what it has signed
    changes: tuple[Change, ...] = ()  # what is done to which objects, of faults that change some
    beside: bool = False  # it comes along with a target: a pod on a node that is drained
    owner: str = ""  # the UID of what keeps the pod there
    replaces: str = ""  # the injection whose target's place it took

    @property
    def node(self) -> str:
        """The node that is hit, or that what is hit is on; "" where that makes no difference."""
        return self.on.node if isinstance(self.on, PodInfo) else self.on.name if self.on.key.kind == "Node" else ""

    @property
    def host_network(self) -> bool:
        """What is hit is the network of the node, which the pod has for its own."""
        return isinstance(self.on, PodInfo) and self.on.host_network and isinstance(self.fault.fault, NetworkFault)

    @property
    def holds(self) -> tuple[str, ...]:
        """What no other experiment may hit meanwhile: as InjectionStatus.holds."""
        return held(self.on.uid, self.node if self.host_network else "")

    @property
    def pod(self) -> PodInfo:
        """For a fault on pods."""
        assert isinstance(self.on, PodInfo)
        return self.on


@dataclass(frozen=True)
class Preparation:
    """All that was found out before anything is touched; valid for a moment only."""

    chosen: tuple[Chosen, ...]
    checks: tuple[CheckCopy, ...] = ()
    exempt: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by node
    at: float = 0.0  # UTC seconds
    matching: Mapping[str, int] = field(default_factory=dict)  # by target: how many there were to choose from
    bystanders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by target: UIDs of pods not chosen

    @property
    def per_target(self) -> dict[str, int]:
        found: dict[str, set[str]] = {}
        for choice in (each for each in self.chosen if not each.beside):
            found.setdefault(choice.fault.target, set()).add(choice.on.uid)
        return {target: len(uids) for target, uids in found.items()}


NOTHING_FOUND: Final = Preparation(())


@dataclass(frozen=True)
class Carried:
    """An agent, and what it is told."""

    ref: AgentRef
    plan: Plan


def rung_for(entry: FaultTiming, has: Set[Feature], flows: Iterable[Flow] = ()) -> tuple[Rung | None, str]:
    """The best rung of a node with these features, or None and what each of them lacks, in words.

    `flows` are the peers' where these have been looked up.
    """
    fault, choice = entry.fault, entry.choice()
    if isinstance(fault, ClientFault):
        return entry.mechanism or Rung.PROXY, ""  # no kernel has a part in it
    if isinstance(fault, NodeNotReady):
        return Rung.NODE, ""
    if isinstance(fault, InsideFault):
        missing = sorted(fault.needs() - has)
        return (None, f"{Rung.NODE} needs {', '.join(missing)}") if missing else (Rung.NODE, "")
    assert isinstance(fault, NetworkFault)
    allowed = (entry.mechanism,) if entry.mechanism else fault.rungs(choice)
    obstacle = not_relayed(fault, flows) if Rung.RELAY in allowed else ""
    possible = [rung for rung in allowed if rung is not Rung.RELAY or not obstacle]
    rung, lacking = first_possible(fault, has, possible, choice)
    words = [f"{way} needs {', '.join(parts)}" for way, parts in lacking.items()]
    return rung, "; ".join([*words, obstacle] if obstacle else words)


def realm_of(fault: Fault) -> Realm | None:
    """What the kernels of its targets' nodes must be probed for; None: for nothing."""
    if isinstance(fault, NetworkFault):
        return Realm.NETWORK
    return Realm.FILES if isinstance(fault, InsideFault) and fault.needs() else None


def act_of(entry: FaultTiming, rung: Rung, leaf: Leaf | None = None) -> Act:
    """What the agent is to do on that rung; `leaf` is what an authority has signed for it."""
    fault, choice = entry.fault, entry.choice()
    if isinstance(fault, ClientFault):
        return ApiRules(json.dumps([asdict(fault.rule(entry.name, choice))]))
    if isinstance(fault, InsideFault):
        inside = fault.act(entry.name, choice)
        return inside.following() if entry.follow_replacements else inside
    if isinstance(fault, NodeNotReady):
        return fault.act()
    assert isinstance(fault, NetworkFault)
    if rung is not Rung.RELAY:
        return fault.act(rung, choice)
    if isinstance(fault, NameFault):
        rule = fault.rule(choice)
        if leaf is not None and isinstance(rule, TlsRule):
            rule = rule.signed(leaf)
        act = Redirect(rule.speaks, json.dumps([{"name": entry.name, **rule.to_json()}]))  # draws depend on the name
    else:
        act = Redirect("tcp", json.dumps([asdict(rule) for rule in rules(fault, entry.name, choice)]))
    return replace(act, existing=str(entry.relay.existing_connections), drain=float(entry.relay.drain_seconds))


def lasts(entry: FaultTiming, rung: Rung) -> float:
    """Seconds from when it is in force until nothing of it is there any more: a relay drains."""
    return entry.duration_seconds + (entry.relay.drain_seconds if rung is Rung.RELAY else 0)


def rest_of(entry: FaultTiming, injection: InjectionStatus) -> float:
    """Seconds that were left of its fault's time when that injection was planned."""
    after = lasts(entry, injection.rung) - entry.duration_seconds
    return min(float(entry.duration_seconds), injection.not_after - injection.start_before - after)


def repeats_until(spec: FaultExperimentSpec, planned: Iterable[InjectionStatus]) -> float:
    """UTC seconds: when the last of the faults that repeat or follow is over; 0 where none does."""
    first = {i.fault: i.start_at for i in reversed(list(planned)) if i.reason != NOT_STARTED}
    repeating = (
        f for f in spec.faults if f.follow_replacements or (isinstance(f.fault, PodRemoval) and f.fault.every_seconds)
    )
    return max((first[f.name] + f.duration_seconds for f in repeating if f.name in first), default=0.0)


def limits(entry: FaultTiming, rung: Rung, start_at: float) -> dict[str, float]:
    """The times of an injection of that fault that begins at `start_at` (UTC seconds), as the status has them."""
    start_before = start_at + START_GRACE
    return {"start_at": start_at, "start_before": start_before, "not_after": start_before + lasts(entry, rung)}


def needs_guard(act: Act, has: Set[Feature]) -> bool:
    """Qdiscs outlive the process that made them, and so do nft tables where the kernel knows no owner of a table."""
    if isinstance(act, InsideAct):
        return act.outlives
    return isinstance(act, Queued) or (Feature.NFT_OWNER not in has and not isinstance(act, ApiRules))


def injections(run: str, chosen: Iterable[Chosen], now: float, boot: str = "") -> tuple[InjectionStatus, ...]:
    """Planned under names that do not change when planned again."""
    listed = list(chosen)
    later = {node: min(c.on.uid for c in listed if c.replaces and c.node == node) for node in _later_on(listed)}
    planned = (_injection(run, choice, now, later.get(choice.node, "")) for choice in listed)
    return tuple(injection.model_copy(update={"clock_against": boot}) for injection in planned)


def _later_on(chosen: Iterable[Chosen]) -> set[str]:
    """Nodes that take one more agent, for pods that came later: a plan is never changed once an agent has it."""
    return {c.node for c in chosen if c.replaces and c.vehicle is VehicleKind.NODE_POD}


def _injection(run: str, choice: Chosen, now: float, later: str) -> InjectionStatus:
    return InjectionStatus(
        name=injection_name(run, choice.fault.name, choice.on.uid),
        fault=choice.fault.name,
        **_place(run, choice, later if choice.replaces else ""),
        owner=choice.owner,
        replaces=choice.replaces,
        restarts_before=choice.on.restarts if isinstance(choice.on, PodInfo) else 0,
        vehicle=choice.vehicle,
        vehicle_reason=choice.vehicle_reason,
        rung=choice.rung,
        planned_utc=now,
        waiting=choice.fault.start_when is not None,
        **limits(choice.fault, choice.rung, now + choice.fault.latest_start_seconds),
    )


def _place(run: str, choice: Chosen, later: str) -> dict[str, Any]:
    """The fields of the injection that say where it is; `later` tells a node's later agents apart."""
    on = choice.on
    place = f"{choice.node} {later}".strip() if choice.vehicle is VehicleKind.NODE_POD else on.uid
    agent = "" if choice.rung in BY_OPERATOR else agent_name(run, place)
    if isinstance(on, ObjectInfo):
        return {"object": ObjectStatus.of(on.key, on.uid), "node": choice.node, "agent": agent}
    shared = choice.host_network
    return {"pod": on.name, "pod_uid": on.uid, "node": on.node, "agent": agent, "host_network": shared}


def agents(
    run: str, preparation: Preparation, planned: Sequence[InjectionStatus], operator_namespace: str
) -> tuple[Carried, ...]:
    """One agent for each pod (Sidecar) or node (NodePod), with all its orders; none for faults by API alone."""
    by_name = {injection.name: injection for injection in planned}
    grouped: dict[str, list[tuple[Chosen, InjectionStatus]]] = {}
    for choice in preparation.chosen:
        injection = by_name[injection_name(run, choice.fault.name, choice.on.uid)]
        if injection.agent:
            grouped.setdefault(injection.agent, []).append((choice, injection))
    return tuple(_carried(run, name, group, preparation, operator_namespace) for name, group in grouped.items())


def _carried(
    run: str, name: str, group: list[tuple[Chosen, InjectionStatus]], preparation: Preparation, operator_namespace: str
) -> Carried:
    first = group[0][0]
    on_node = first.vehicle is VehicleKind.NODE_POD
    orders = tuple(_order(choice, injection) for choice, injection in group)
    guarded = any(choice.guarded for choice, _ in group)
    ref = AgentRef(
        vehicle=first.vehicle,
        namespace=operator_namespace if on_node else first.pod.namespace,
        pod=name if on_node else first.pod.name,
        container="agent" if on_node else name,
        node=first.node,
        guarded=guarded,
    )
    exempt = preparation.exempt.get(first.node, ())
    return Carried(ref, Plan(run=run, agent=name, on_node=on_node, orders=orders, exempt=exempt, guarded=guarded))


def _order(choice: Chosen, injection: InjectionStatus) -> Order:
    fault = choice.fault.fault
    return Order(
        injection=injection.name,
        fault=injection.fault,
        pod_namespace=choice.on.namespace if isinstance(choice.on, PodInfo) else "",
        pod_name=injection.pod,
        pod_uid=injection.pod_uid,
        act=_act(choice),
        direction=fault.ways() if isinstance(fault, NetworkFault) else Direction.BOTH,
        flows=choice.flows,
        start_at=injection.start_at,
        start_before=injection.start_before,
        not_after=injection.not_after,
        duration=float(choice.fault.duration_seconds),
        pattern=choice.fault.pattern.planned() if choice.fault.pattern else None,
        host_network=injection.host_network,
        waits=injection.waiting,
    )


def _act(choice: Chosen) -> Act:
    act = act_of(choice.fault, choice.rung, choice.leaf)
    return act.taking_place() if isinstance(act, InsideAct) and choice.replaces else act
