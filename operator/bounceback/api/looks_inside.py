"""Looks inside the cluster, through the Kubernetes API: objects, events, logs, commands, Jobs.

All of them act as `spec.serviceAccountName`, with its rights and no others.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bounceback.api.looks import AnyLook
from bounceback.types.fields import Cel, Model, Name, ObjectName
from bounceback.types.rules import Rule, one_of, refuse
from bounceback.types.selectors import LabelSelector

NAME_OR_SELECTOR = Rule(
    "!has(self.name) || !has(self.selector)",
    "name and selector must not both be given",
    ".selector",
    reason="FieldValueForbidden",
)
ONE_WAY = one_of(("name", "selector"))
SOME_LINE = Rule(
    "has(self.contains) || has(self.expression)",
    "contains or expression must be given: every line matches otherwise",
    ".contains",
    reason="FieldValueRequired",
)
AbsentSeconds = Annotated[int, Field(ge=1, le=3600)]


class KubernetesLook(AnyLook):
    """Objects of the experiment's namespace, watched (with their status) as `spec.serviceAccountName`.

    With `name`, the expression sees `object`; with `selector` or neither, it sees `objects`, a list.
    """

    rules: ClassVar[tuple[Rule, ...]] = (NAME_OR_SELECTOR,)

    api_version: Annotated[str, Field(min_length=1, max_length=317)] = Field(
        description="For example v1, apps/v1 or example.com/v1."
    )
    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="For example Deployment.")
    name: ObjectName | None = Field(None, description="One object by name.")
    selector: LabelSelector | None = Field(None, description="Objects by label.")
    expression: Cel = Field(
        description="CEL that is true while healthy, for example object.status.readyReplicas == object.spec.replicas."
    )

    @model_validator(mode="after")
    def _one_way_to_select(self) -> Self:
        if self.name and self.selector:
            raise refuse(NAME_OR_SELECTOR.message, "selector")
        return self

    def sees(self) -> tuple[str, ...]:
        return ("object",) if self.name else ("objects",)


class EventLook(AnyLook):
    """A Kubernetes Event of the experiment's namespace that appears, or is repeated: a moment, and no state."""

    variables = ("event",)

    reason: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None, description="Its reason, for example BackOff; unset: any."
    )
    type: Literal["Normal", "Warning"] | None = Field(None, description="Normal or Warning; unset: any.")
    kind: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        None, description="The kind of the object that it is about; unset: any."
    )
    name: ObjectName | None = Field(None, description="The name of that object; unset: any.")
    expression: Cel | None = Field(
        None, description="CEL over event that is true of the one meant: event.message.contains('redis')."
    )
    absent_seconds: AbsentSeconds | None = Field(
        None, description="Healthy while there was none for so long. Unset: it holds for the moment of each one."
    )


class PodChoice(Model):
    """A pod by name, or pods by label; in the experiment's namespace."""

    rules: ClassVar[tuple[Rule, ...]] = (ONE_WAY,)

    name: ObjectName | None = Field(None, description="One pod by name.")
    selector: LabelSelector | None = Field(None, description="Pods by label.")

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if (self.name is None) == (self.selector is None):
            raise refuse(ONE_WAY.message)
        return self

    def __str__(self) -> str:
        return f"pod {self.name}" if self.name else f"pods {self.selector}"


class LogLook(AnyLook):
    """A line that a pod writes to its log: a moment, and no state. Lines from before the run do not count."""

    variables = ("line", "json", "pod")
    rules: ClassVar[tuple[Rule, ...]] = (SOME_LINE,)

    pods: PodChoice = Field(description="Whose log; of several, each one's.")
    container: Name | None = Field(None, description="The container; unset: the pod's first.")
    contains: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="Text that the line contains; what lacks it is not looked at any further."
    )
    expression: Cel | None = Field(
        None,
        description="CEL over line, json (of a line that is an object; else null) and pod (a name) that is true of the "
        "line meant: json.level == 'error'.",
    )
    absent_seconds: AbsentSeconds | None = Field(
        None, description="Healthy while there was none for so long. Unset: it holds for the moment of each one."
    )

    @model_validator(mode="after")
    def _means_some_line(self) -> Self:
        if not self.contains and not self.expression:
            raise refuse(SOME_LINE.message, "contains")
        return self


class Command(Model):
    """A command in a container of a pod that is running: the first by name, where there are several."""

    pods: PodChoice = Field(description="In which pod; of several, the first by name that is ready.")
    container: Name | None = Field(None, description="The container; unset: the pod's first.")
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=50)] = Field(
        description="The program and its arguments; no shell, unless it is one: [sh, -c, ...]."
    )


class ExecLook(AnyLook, Command):
    """A command in a pod; healthy when it ends with 0, or as the expression says."""

    variables = ("exitCode", "output", "errors", "json", "milliseconds")

    expression: Cel | None = Field(
        None,
        description="CEL over exitCode, output, errors (text, 64 KiB of each), json (of an output that is JSON; else "
        "null) and milliseconds that is true while healthy; unset: exitCode == 0.",
    )


class JobTemplate(Model):
    """A Job that we make, by what its pods are."""

    template: dict[str, Any] = Field(
        description="The spec of the Job's pods, as in spec.template.spec of a Job; restartPolicy Never if unset."
    )


class JobLook(AnyLook, JobTemplate):
    """A Job that is made for each sample and deleted after; healthy when it completes."""

    variables = ("milliseconds",)

    expression: Cel | None = Field(None, description="CEL over milliseconds that must be true as well.")
