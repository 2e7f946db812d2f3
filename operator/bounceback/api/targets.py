"""Targets of an experiment: pods, objects, nodes, and how many of those that match."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from bounceback.types.fields import Model, Name, ObjectName
from bounceback.types.objects import ADMISSION, of_cluster
from bounceback.types.rules import Rule, exactly_one, one_of, refuse
from bounceback.types.selectors import LabelSelector


class Mode(StrEnum):
    ALL = "All"
    ONE = "One"
    FIXED = "Fixed"
    PERCENT = "Percent"


VALUE_WITH_MODE = "value must be given with mode Fixed or Percent, and with these only"
VALUE_OF_PERCENT = "value must be 1 to 100 for mode Percent"
TARGETS = ("pods", "objects", "nodes")
NODE_WAYS = ("names", "selector", "ofPods")
OF_CLUSTER_BY_NAME = "names must be given for what has no namespace: rights go by name"
API_VERSION_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[a-z0-9]+$"
KIND_PATTERN = r"^[A-Z][A-Za-z0-9]*$"


class Share(Model):
    """How many of those that match; which of them is decided by `spec.seed`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("(self.mode in ['Fixed', 'Percent']) == has(self.value)", VALUE_WITH_MODE, ".value"),
        Rule("self.mode != 'Percent' || !has(self.value) || self.value <= 100", VALUE_OF_PERCENT, ".value"),
    )

    mode: Mode = Field(
        Mode.ALL, description="All, One, Fixed (value of them) or Percent (value percent of them, rounded up)."
    )
    value: int | None = Field(None, ge=1, le=10_000, description="How many for Fixed, which share for Percent.")
    max_count: int | None = Field(None, ge=1, le=10_000, description="Never more than this, whatever the mode.")

    @model_validator(mode="after")
    def _value_fits_mode(self) -> Self:
        if (self.mode in (Mode.FIXED, Mode.PERCENT)) != (self.value is not None):
            raise refuse(VALUE_WITH_MODE, "value")
        if self.mode is Mode.PERCENT and self.value is not None and self.value > 100:
            raise refuse(VALUE_OF_PERCENT, "value")
        return self


class PodTargets(Share):
    """Running pods of the experiment's namespace."""

    selector: LabelSelector = Field(description="The labels of the pods.")


class ObjectTargets(Share):
    """Objects of one kind in the experiment's namespace, by name or by label: exactly one of names and selector.

    Webhook configurations and Namespaces: a FaultPolicy must allow what is done to them, and they are named.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        *Share.rules,
        one_of(("names", "selector")),
        Rule(
            f"(self.apiVersion != '{ADMISSION}' && !(self.apiVersion == 'v1' && self.kind == 'Namespace')) || "
            "has(self.names)",
            OF_CLUSTER_BY_NAME,
            ".selector",
        ),
    )

    api_version: str = Field(
        min_length=1, max_length=253, pattern=API_VERSION_PATTERN, description="v1, apps/v1, example.com/v1."
    )
    kind: str = Field(min_length=1, max_length=63, pattern=KIND_PATTERN, description="As in a manifest: Deployment.")
    names: Annotated[list[ObjectName], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Their names; each must be there."
    )
    selector: LabelSelector | None = Field(None, description="The labels of the objects.")

    @model_validator(mode="after")
    def _names_or_selector(self) -> Self:
        given = [name for name in ("names", "selector") if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(("names", "selector"), given))
        if (self.api_version == ADMISSION or of_cluster(self.api_version, self.kind)) and self.names is None:
            raise refuse(OF_CLUSTER_BY_NAME, "selector")
        return self


class NodeTargets(Share):
    """Nodes, in one of three ways. A FaultPolicy must allow what is done to them."""

    rules: ClassVar[tuple[Rule, ...]] = (*Share.rules, one_of(NODE_WAYS))

    names: Annotated[list[ObjectName], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Their names; each must be there."
    )
    selector: LabelSelector | None = Field(None, description="The labels of the nodes.")
    of_pods: LabelSelector | None = Field(
        None, description="The nodes on which pods of the experiment's namespace with these labels run."
    )

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        fields = {"names": self.names, "selector": self.selector, "ofPods": self.of_pods}
        given = [name for name, value in fields.items() if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(NODE_WAYS, given))
        return self


class Target(Model):
    """Who is hit: exactly one of pods, objects and nodes."""

    list_keys: ClassVar[tuple[str, ...]] = ("name",)
    rules: ClassVar[tuple[Rule, ...]] = (one_of(TARGETS),)

    name: Name = Field(description="Faults refer to it by this name.")
    pods: PodTargets | None = Field(None, description="Pods by label.")
    objects: ObjectTargets | None = Field(None, description="Objects of the Kubernetes API, for objectFault.")
    nodes: NodeTargets | None = Field(None, description="Nodes, for nodeCordon, nodeDrain and nodeNotReady.")

    @property
    def noun(self) -> str:
        """What one of them is, in a word: pod, Deployment, node."""
        if self.objects is not None:
            return self.objects.kind
        return "node" if self.nodes is not None else "pod"

    @model_validator(mode="after")
    def _is_of_one_sort(self) -> Self:
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(TARGETS, given))
        return self
