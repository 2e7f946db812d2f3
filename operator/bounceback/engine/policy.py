"""What policies allow: additive, as RBAC is. Without one that allows it, nothing outside of a namespace is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bounceback.api.policy import FaultPolicySpec, NodeAllowance
from bounceback.faults.node_fault import NodeFaultKind

WAY_OUT = "who looks after the cluster can allow it with a FaultPolicy (docs/policy.md)"


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    spec: FaultPolicySpec


@dataclass(frozen=True, slots=True)
class Labelled:
    """A namespace or a node, as policies look at it."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NodeUse:
    """One fault on one node; `entry` is the fault's name."""

    entry: str
    fault: NodeFaultKind
    node: Labelled


@dataclass(frozen=True, slots=True)
class Withheld:
    """What no policy allows, and why, in words."""

    use: NodeUse
    words: str


def withheld(policies: Sequence[Policy], namespace: Labelled, uses: Sequence[NodeUse]) -> Withheld | None:
    """The first thing that no policy allows experiments of that namespace; None: all of it is allowed."""
    ours = [p for p in policies if p.spec.experiments.namespaces.matches(namespace.name, dict(namespace.labels))]
    for use in uses:
        reasons = [against for policy in ours if (against := _against(policy.spec.allow.nodes, use, uses)) is not None]
        if len(reasons) == len(ours):
            told = [f"{policy.name} is {reason}" for policy, reason in zip(ours, reasons, strict=True)]
            why = "; ".join(told[:5]) or f"of {len(policies)} policies none is for namespace {namespace.name}"
            return Withheld(use, f"no FaultPolicy allows {use.fault} on node {use.node.name}: {why}; {WAY_OUT}")
    return None


def _against(allowed: NodeAllowance, use: NodeUse, uses: Sequence[NodeUse]) -> str | None:
    """Why this entry does not allow that."""
    if use.fault not in allowed.faults:
        return f"about {', '.join(allowed.faults)}"
    if not allowed.matches(use.node.name, dict(use.node.labels)):
        return f"about nodes {allowed}"
    wanted = {each.node.name for each in uses if allowed.matches(each.node.name, dict(each.node.labels))}
    if allowed.max_count is not None and len(wanted) > allowed.max_count:
        return f"about {allowed.max_count} of these nodes at most, and the experiment wants {len(wanted)}"
    return None
