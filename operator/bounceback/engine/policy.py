"""What policies allow: additive, as RBAC is. Without one that allows it, nothing outside of a namespace is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.policy import FaultPolicySpec, ObjectAllowance, PolicyAllowances
from bounceback.api.status import InjectionStatus
from bounceback.api.targets import ObjectTargets
from bounceback.faults import ObjectFault
from bounceback.faults.node_fault import NodeFault, NodeFaultKind
from bounceback.types.objects import of_cluster

WAY_OUT = "who looks after the cluster can allow it with a FaultPolicy (docs/policy.md)"


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    spec: FaultPolicySpec


@dataclass(frozen=True, slots=True)
class Labelled:
    """A namespace, a node or an object, as policies look at it."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NodeUse:
    """One fault on one node; `entry` is the fault's name."""

    entry: str
    fault: NodeFaultKind
    node: Labelled

    @property
    def on(self) -> str:
        return f"node {self.node.name}"


@dataclass(frozen=True, slots=True)
class ObjectUse:
    """One change of one object that has no namespace; `fault` is the field of objectFault."""

    entry: str
    fault: str
    kind: str
    object: Labelled

    @property
    def on(self) -> str:
        return f"{self.kind} {self.object.name}"


Use = NodeUse | ObjectUse


@dataclass(frozen=True, slots=True)
class Withheld:
    """What no policy allows, and why, in words."""

    use: Use
    words: str


def changes_of_cluster(spec: FaultExperimentSpec) -> dict[str, ObjectTargets]:
    """By the fault's name: the targets of objectFaults that are of no namespace."""
    targets = {target.name: target.objects for target in spec.targets}
    found = {each.name: targets.get(each.target) for each in spec.faults if isinstance(each.fault, ObjectFault)}
    return {name: on for name, on in found.items() if on is not None and of_cluster(on.api_version, on.kind)}


def takes_policy(spec: FaultExperimentSpec, planned: Iterable[InjectionStatus]) -> bool:
    """It goes beyond its namespace, by what it asks for or because some target has its node's own network."""
    asked = bool(changes_of_cluster(spec)) or any(isinstance(entry.fault, NodeFault) for entry in spec.faults)
    return asked or any(injection.host_network for injection in planned)


def withheld(policies: Sequence[Policy], namespace: Labelled, uses: Sequence[Use]) -> Withheld | None:
    """The first thing that no policy allows experiments of that namespace; None: all of it is allowed."""
    ours = [p for p in policies if p.spec.experiments.namespaces.matches(namespace.name, dict(namespace.labels))]
    for use in uses:
        reasons = [against for policy in ours if (against := _against(policy.spec.allow, use, uses)) is not None]
        if len(reasons) == len(ours):
            told = [f"{policy.name} is {reason}" for policy, reason in zip(ours, reasons, strict=True)]
            why = "; ".join(told[:5]) or f"of {len(policies)} policies none is for namespace {namespace.name}"
            return Withheld(use, f"no FaultPolicy allows {use.fault} on {use.on}: {why}; {WAY_OUT}")
    return None


def _against(allow: PolicyAllowances, use: Use, uses: Sequence[Use]) -> str | None:
    """Why this policy does not allow that."""
    if isinstance(use, NodeUse):
        return _against_node(allow, use, [each for each in uses if isinstance(each, NodeUse)])
    reasons = [_against_object(allowed, use) for allowed in allow.objects or ()]
    told = [reason for reason in reasons if reason is not None]
    return None if len(told) < len(reasons) else "; ".join(told[:5]) or "about nodes only"


def _against_node(allow: PolicyAllowances, use: NodeUse, uses: Sequence[NodeUse]) -> str | None:
    allowed = allow.nodes
    if allowed is None:
        return "about no nodes"
    if use.fault not in allowed.faults:
        return f"about {', '.join(allowed.faults)}"
    if not allowed.matches(use.node.name, dict(use.node.labels)):
        return f"about nodes {allowed}"
    wanted = {each.node.name for each in uses if allowed.matches(each.node.name, dict(each.node.labels))}
    if allowed.max_count is not None and len(wanted) > allowed.max_count:
        return f"about {allowed.max_count} of these nodes at most, and the experiment wants {len(wanted)}"
    return None


def _against_object(allowed: ObjectAllowance, use: ObjectUse) -> str | None:
    if use.fault not in allowed.faults:
        return f"about {', '.join(allowed.faults)}"
    if use.kind != allowed.kind or not allowed.matches(use.object.name, dict(use.object.labels)):
        return f"about {allowed.kind} {allowed}"
    return None
