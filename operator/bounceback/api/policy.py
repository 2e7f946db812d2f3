"""FaultPolicy: what experiments may do beyond their own namespace, and those of which namespaces."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.node_fault import NodeFaultKind
from bounceback.types.fields import Model, ObjectName
from bounceback.types.objects import OF_CLUSTER, ClusterFaultKind, ClusterKind
from bounceback.types.rules import Rule, exactly_one, one_of, refuse
from bounceback.types.selectors import LabelSelector

WAYS = ("names", "selector")
OF_CLUSTER_FAULTS = {kind: fault for (_, kind), fault in OF_CLUSTER.items()}
SOMETHING = "nodes or objects must be given: what is allowed?"


class Chosen(Model):
    """Objects of the whole cluster, by name or by label: exactly one of names and selector."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(WAYS),)

    names: Annotated[list[ObjectName], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Their names."
    )
    selector: LabelSelector | None = Field(None, description="Their labels.")

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        given = [name for name in WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(WAYS, given))
        return self

    def matches(self, name: str, labels: dict[str, str]) -> bool:
        if self.selector is not None:
            return self.selector.matches(labels)
        return name in (self.names or ())

    def __str__(self) -> str:
        return str(self.selector) if self.selector is not None else ", ".join(self.names or ())


class PolicyExperiments(Model):
    """Whose experiments a policy is for."""

    namespaces: Chosen = Field(description="The namespaces that they are in.")


class NodeAllowance(Chosen):
    """Nodes, and what may be done to them."""

    faults: Annotated[list[NodeFaultKind], Field(min_length=1, max_length=10)] = Field(
        description="The kinds of faults that may hit them; hostNetwork: network faults on pods that have their node's "
        "own network."
    )
    max_count: int | None = Field(
        None, ge=1, le=10_000, description="An experiment that wants more of these nodes than this gets none of them."
    )


FOR_ITS_KIND = "faults must be deleted for a Namespace, webhookFailurePolicyChanged for all others"


class ObjectAllowance(Chosen):
    """Objects of one kind that has no namespace, and what may be done to them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *Chosen.rules,
        Rule(
            "self.faults.all(f, (f == 'deleted') == (self.kind == 'Namespace'))",
            FOR_ITS_KIND,
            ".faults",
        ),
    )

    kind: ClusterKind = Field(description="Their kind: Namespace, or one of admissionregistration.k8s.io/v1.")
    faults: Annotated[list[ClusterFaultKind], Field(min_length=1, max_length=10)] = Field(
        description="The fields of objectFault that may hit them."
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if any(OF_CLUSTER_FAULTS[self.kind] != fault for fault in self.faults):
            raise refuse(FOR_ITS_KIND, "faults")
        return self


class PolicyAllowances(Model):
    """What is allowed beyond an experiment's own namespace. What several policies allow adds up."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.nodes) || has(self.objects)", SOMETHING, reason="FieldValueRequired"),
    )

    nodes: NodeAllowance | None = Field(None, description="Nodes, and what may be done to them.")
    objects: Annotated[list[ObjectAllowance], Field(min_length=1, max_length=20)] | None = Field(
        None, description="Objects without a namespace, and what may be done to them."
    )

    @model_validator(mode="after")
    def _allows_something(self) -> Self:
        if self.nodes is None and self.objects is None:
            raise refuse(SOMETHING)
        return self


class FaultPolicySpec(Model):
    """What experiments may do beyond their own namespace; without a policy that is nothing."""

    experiments: PolicyExperiments = Field(description="Whose experiments this is for.")
    allow: PolicyAllowances = Field(description="What is allowed to them.")
