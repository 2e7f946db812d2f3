"""What becomes of workloads: none of it runs, or what is to run cannot start."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from bounceback.faults.object_kinds.base import ByWhom, ObjectKind, changed, named
from bounceback.types.fields import Name
from bounceback.types.objects import Change, Json
from bounceback.types.pointers import MISSING, Parts, value_at

NO_PROGRAM: Final = "/bounceback/no-such-program"
NO_IMAGE: Final = "registry.invalid/bounceback/no-such-image:none"
"""RFC 2606 keeps .invalid free of names: nobody can come to have that registry."""
TEMPLATES: Final[tuple[Parts, ...]] = (
    ("spec", "template", "spec"),
    ("spec", "jobTemplate", "spec", "template", "spec"),
    ("template", "spec"),
)
CONTAINER: Final = "The container's name; unset: the first one."


class ScaledToZero(ObjectKind):
    """`spec.replicas` is 0: of a Deployment, a StatefulSet, or any other object that has the field."""

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        replicas = value_at(target, ("spec", "replicas"))
        if not isinstance(replicas, int):
            raise ValueError(f"{named(target)} has no spec.replicas: there is nothing to scale")
        if not replicas:
            raise ValueError(f"spec.replicas of {named(target)} is 0 already")
        return [changed(target, {("spec", "replicas"): 0})]


class CrashLoop(ObjectKind):
    """A container's command is replaced by one that fails at once: new pods end in CrashLoopBackOff."""

    container: Name | None = Field(None, description=CONTAINER)
    command: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(min_length=1, max_length=20)] = Field(
        default_factory=lambda: [NO_PROGRAM],
        description="The command that it gets; its args stay. Unset: a program that no image has.",
    )

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        if target["kind"] in ("Pod", "Job"):
            raise ValueError(f"{named(target)} cannot get another command: it is fixed when a {target['kind']} is made")
        way = (*_container(target, self.container, ("containers",)), "command")
        if value_at(target, way) == self.command:
            raise ValueError(f"the command of {named(target)} is {self.command} already")
        return [changed(target, {way: list(self.command)})]


class BadImage(ObjectKind):
    """A container's image is replaced by one that cannot be pulled: new pods end in ImagePullBackOff."""

    container: Name | None = Field(None, description=f"{CONTAINER} An init container can be named too.")
    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        NO_IMAGE, description="The image that it gets; by default one of a registry that nobody can have."
    )

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        if target["kind"] == "Job":
            raise ValueError(f"{named(target)} cannot get another image: it is fixed when a Job is made")
        way = (*_container(target, self.container, ("containers", "initContainers")), "image")
        if value_at(target, way) == self.image:
            raise ValueError(f"the image of {named(target)} is {self.image} already")
        return [changed(target, {way: self.image})]


def _container(target: Json, name: str | None, lists: tuple[str, ...]) -> Parts:
    """The way to a container. Raises ValueError where there is none of that name."""
    pod = _pod(target)
    known: list[str] = []
    for each in lists:
        containers: Any = value_at(target, (*pod, each))
        for index, container in enumerate(containers if containers is not MISSING else ()):
            known.append(container["name"])
            if name in (None, container["name"]):
                return (*pod, each, str(index))
    raise ValueError(f"{named(target)} has no container {name}; it has {', '.join(known)}")


def _pod(target: Json) -> Parts:
    """The way to the spec of its pods."""
    ways = (("spec",),) if target["kind"] == "Pod" else TEMPLATES
    for way in ways:
        if isinstance(value_at(target, (*way, "containers")), list):
            return way
    raise ValueError(f"{named(target)} has no pod template with containers")
