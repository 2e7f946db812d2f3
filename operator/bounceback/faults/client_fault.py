"""The base of faults on what one client asks of the Kubernetes API, and on what it is told: which requests they hit."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.base import Fault
from bounceback.types.api_request import VERBS
from bounceback.types.api_rule import Act, ApiRule, Requests
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Model, Name, ObjectName
from bounceback.types.plan import Rung
from bounceback.types.rules import Rule, refuse

ANY: Final = "*"
GROUP_PATTERN: Final = r"^(\*|([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?)$"
RESOURCE_PATTERN: Final = r"^(\*|[a-z0-9][-a-z0-9.]*)(/(\*|[a-z0-9][-a-z0-9]*))?$"
PATH_PATTERN: Final = r"^(\*|/[^*?#\s]*\*?)$"
HTTP_METHODS: Final = ("get", "head", "options", "post", "put", "patch", "delete")
"""The verbs of requests that are not for a resource."""

RESOURCE_FIELDS: Final = ("apiGroups", "resources", "namespaces", "names")
VERSION: Final = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")
NO_GROUP: Final = '{} is a version, not a group: that of pods is ""'
NAMELESS: Final = "a create has no name in its path: with names none is hit"
PATHS_ALONE: Final = "nonResourcePaths must stand alone: apiGroups, resources, namespaces and names are of resources"
VERBS_OF_RESOURCES: Final = f"verbs must be among {', '.join(VERBS)} where nonResourcePaths is unset"
VERBS_OF_PATHS: Final = f"verbs must be among {', '.join(HTTP_METHODS)} with nonResourcePaths"

ApiGroup = Annotated[str, Field(max_length=253, pattern=GROUP_PATTERN)]
Resource = Annotated[str, Field(min_length=1, max_length=253, pattern=RESOURCE_PATTERN)]
UrlPath = Annotated[str, Field(min_length=1, max_length=1024, pattern=PATH_PATTERN)]
User = Annotated[str, Field(min_length=1, max_length=512)]


class Verb(StrEnum):
    """As in RBAC rules; for what is not a resource the HTTP method."""

    GET = "get"
    LIST = "list"
    WATCH = "watch"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    DELETECOLLECTION = "deletecollection"
    HEAD = "head"
    OPTIONS = "options"
    POST = "post"
    PUT = "put"
    ANY = ANY


def _among(verbs: tuple[str, ...]) -> str:
    """CEL: the verbs that are given are among these."""
    words = ", ".join(f"'{verb}'" for verb in (*verbs, ANY))
    return f"(!has(self.verbs) || self.verbs.all(v, v in [{words}]))"


def _set(field: str) -> str:
    return f"(has(self.{field}) && size(self.{field}) > 0)"


class ClientRequests(Model):
    """Requests that have all of these; what is unset does not choose. The notation is that of RBAC rules."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!{_set('nonResourcePaths')} || !({' || '.join(map(_set, RESOURCE_FIELDS))})",
            PATHS_ALONE,
            ".nonResourcePaths",
        ),
        Rule(f"{_set('nonResourcePaths')} || {_among(VERBS)}", VERBS_OF_RESOURCES, ".verbs"),
        Rule(f"!{_set('nonResourcePaths')} || {_among(HTTP_METHODS)}", VERBS_OF_PATHS, ".verbs"),
    )

    verbs: list[Verb] = Field(
        default_factory=list,
        max_length=13,
        description="get, list, watch, create, update, patch, delete, deletecollection; with nonResourcePaths HTTP "
        "methods in lower case. Empty, or *: all.",
    )
    api_groups: list[ApiGroup] = Field(
        default_factory=list, max_length=20, description='API groups; "" is that of pods. Empty, or *: all.'
    )
    resources: list[Resource] = Field(
        default_factory=list,
        max_length=20,
        description="pods (without its subresources), pods/log, pods/*, */scale. Empty, or *: all, subresources too.",
    )
    namespaces: list[Name] = Field(
        default_factory=list,
        max_length=20,
        description="Only requests within these; those for all namespaces or cluster-wide are not. Empty: all.",
    )
    names: list[ObjectName] = Field(
        default_factory=list,
        max_length=20,
        description="Only requests for these objects, fieldSelector metadata.name included. A create names none in its "
        "path. Empty: all.",
    )
    non_resource_paths: list[UrlPath] = Field(
        default_factory=list,
        max_length=20,
        description="Instead of resources: /version, /openapi/* (* at the end only).",
    )

    @model_validator(mode="after")
    def _is_of_one_sort(self) -> Self:
        of_paths = bool(self.non_resource_paths)
        if of_paths and (self.api_groups or self.resources or self.namespaces or self.names):
            raise refuse(PATHS_ALONE, "nonResourcePaths")
        allowed: tuple[str, ...] = HTTP_METHODS if of_paths else VERBS
        message = VERBS_OF_PATHS if of_paths else VERBS_OF_RESOURCES
        for index, verb in enumerate(self.verbs):
            if verb not in (*allowed, ANY):
                raise refuse(message, "verbs", index)
        return self

    def doubtful(self) -> Iterator[tuple[str, str]]:
        """Fields by which less is hit than somebody may think, and why."""
        for group in self.api_groups:
            if VERSION.fullmatch(group):
                yield "apiGroups", NO_GROUP.format(group)
        of_subresources = bool(self.resources) and all("/" in each for each in self.resources)
        if self.names and Verb.CREATE in self.verbs and not of_subresources:
            yield "names", NAMELESS

    def planned(self) -> Requests:
        """As the proxy is told: what names no path is about resources."""
        groups = tuple(self.api_groups) or (() if self.non_resource_paths else (ANY,))
        return Requests(
            tuple(map(str, self.verbs)),
            groups,
            tuple(self.resources),
            tuple(self.namespaces),
            tuple(self.names),
            tuple(self.non_resource_paths),
        )


RESOURCES: Final = Requests(groups=(ANY,))
"""All requests that are for a resource."""


class ClientFault(Fault):
    """Carried out by a proxy between a client and the Kubernetes API: that of an armed pod, or `bounceback proxy`."""

    hit_words: ClassVar[str] = "requests hit"

    requests: list[ClientRequests] = Field(
        default_factory=list,
        max_length=20,
        description="Which requests: those that fit any of these. Empty: all for resources; with a token fault all.",
    )
    users: list[User] = Field(
        default_factory=list,
        max_length=20,
        description="Only requests of these, as the API server names them: system:serviceaccount:shop:web. Empty: "
        "everybody's.",
    )
    after_requests: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="So many that fit are let through first; nth and probability count from there. For watch.events "
        "these are events.",
    )

    @abstractmethod
    def act(self) -> Act:
        """What the proxy does to what is hit."""

    @property
    def from_node(self) -> bool:
        """It takes what only a pod of ours on the node can do: reach the clients' processes."""
        return False

    def about(self) -> tuple[Requests, ...]:
        """Which requests, as the proxy is told; none: whatever comes."""
        return tuple(each.planned() for each in self.requests) or (RESOURCES,)

    def why_idle(self) -> str:
        told = [
            f"requests[{n}].{field}: {why}" for n, each in enumerate(self.requests) for field, why in each.doubtful()
        ]
        return "; ".join(("does the client ask for that meanwhile? What it reads from its cache asks nobody", *told))

    def rule(self, name: str, choice: Choice = ALWAYS) -> ApiRule:
        """All of it, under the name of the fault that it is for."""
        return ApiRule(name, self.act(), self.about(), tuple(self.users), choice, self.after_requests)

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.PROXY,)


def narrowed(requests: Requests, verbs: tuple[str, ...]) -> Requests:
    """The same with no other verbs than these."""
    named = requests.verbs if ANY not in requests.verbs else ()
    return Requests(
        tuple(verb for verb in verbs if not named or verb in named),
        requests.groups,
        requests.resources,
        requests.namespaces,
        requests.names,
        requests.paths,
    )


def of_resources(field: str) -> str:
    """CEL on a client fault: with that field no requests are for paths."""
    return (
        f"!has(self.{field}) || !has(self.requests) || self.requests.all(r, "
        "!has(r.nonResourcePaths) || size(r.nonResourcePaths) == 0)"
    )


def with_verbs(condition: str, verbs: tuple[str, ...]) -> str:
    """CEL on a client fault: where the condition holds, all verbs that requests name are among these."""
    words = ", ".join(f"'{verb}'" for verb in (*verbs, ANY))
    return (
        f"!({condition}) || !has(self.requests) || self.requests.all(r, "
        f"!has(r.verbs) || r.verbs.all(v, v in [{words}]))"
    )


def check_verbs(requests: list[ClientRequests], verbs: tuple[str, ...], message: str) -> None:
    """Raises FieldError where one names another verb."""
    for number, each in enumerate(requests):
        for index, verb in enumerate(each.verbs):
            if verb not in (*verbs, ANY):
                raise refuse(message, "requests", number, "verbs", index)


def check_resources(requests: list[ClientRequests], message: str) -> None:
    """Raises FieldError where one is for paths."""
    for number, each in enumerate(requests):
        if each.non_resource_paths:
            raise refuse(message, "requests", number, "nonResourcePaths")
