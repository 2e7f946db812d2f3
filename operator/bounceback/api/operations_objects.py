"""How the operations of a workload are made on objects of the Kubernetes API."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from bounceback.types.fields import Model, Name
from bounceback.types.rules import refuse

FIELD_PATTERN: Final = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
TAKEN: Final = ("apiVersion", "kind", "metadata")
"""Of an object: what is said by other fields."""


class KubernetesWorkload(Model):
    """Objects of one kind, each with a value in a field. Register: an object for each key, made or changed by
    server-side apply. Set: an object for each value, created once, and all of them listed at the end."""

    kubeconfig: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        None, description="The file; unset: in a pod its service account, else KUBECONFIG or ~/.kube/config."
    )
    namespace: Name = Field(description="The namespace of the objects; it must be there.")
    api_version: Annotated[str, Field(min_length=1, max_length=317)] = Field(
        "v1", description="For example v1, apps/v1 or example.com/v1."
    )
    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field("ConfigMap", description="For example ConfigMap.")
    field: Annotated[str, Field(min_length=1, max_length=200, pattern=FIELD_PATTERN)] = Field(
        "data.value", description="Where the value stands: spec.replicas."
    )
    text: bool = Field(True, description="The value is text, as in a ConfigMap; false: a whole number.")
    rest: dict[str, Any] = Field(
        default_factory=dict, max_length=100, description="What else an object must have: {spec: {size: 1}}."
    )
    prefix: Name = Field("bounceback", description="What names begin with; the run and the key or value follow it.")

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> Self:
        if taken := sorted({*TAKEN} & {*self.rest}):
            raise refuse(f"must be unset: {taken[0]} is said already, or by us", "rest", taken[0])
        if self.field.split(".")[0] in TAKEN:
            raise refuse(f"must not be within {', '.join(TAKEN)}", "field")
        return self
