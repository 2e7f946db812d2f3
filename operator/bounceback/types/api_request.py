"""What a request to the Kubernetes API asks for, read off its method and its target as the API server reads them.

The rules are those of `RequestInfoFactory` in k8s.io/apiserver/pkg/endpoints/request. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qs, unquote

VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_BY_METHOD: Final = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_OF_NAMESPACE: Final = frozenset({"status", "finalize"})  # subresources of a namespace itself
_TRUE: Final = frozenset({"true", "1", "t"})

Sort = tuple[str, str, str, str]
"""Verb, group, resource and subresource."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request; of one that is not for a resource (`/healthz`, `/openapi/v3`) only `verb` and `path` say something.

    `verb` is as in RBAC rules; where it is not for a resource it is the method in lower case.
    """

    verb: str
    path: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    lists: bool = False  # a watch that is told all that is there first, in place of a list (KEP-3157)
    sort: Sort = field(init=False, repr=False, compare=False)  # here, because it is asked for at every request

    def __post_init__(self) -> None:
        object.__setattr__(self, "sort", (self.verb, self.group, self.resource, self.subresource))

    @property
    def kind(self) -> str:
        """The resource as RBAC rules name it, with its subresource: pods/log."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    @property
    def qualified(self) -> str:
        """The resource as messages of the API server name it: deployments.apps."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


@lru_cache(1024)
def read(method: str, target: str) -> ApiRequest:
    """From the method and the target of the request line."""
    path, _, query = target.partition("?")
    parts = [unquote(part) if "%" in part else part for part in path.split("/")[1:]]
    if parts and not parts[-1]:
        parts.pop()
    group = ""
    if len(parts) >= 3 and parts[0] == "api":
        version, *rest = parts[1:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, *rest = parts[1:]
    else:
        return ApiRequest(method.lower(), path)
    return _resource(_BY_METHOD.get(method, ""), path, group, version, rest, query)


def _resource(verb: str, path: str, group: str, version: str, parts: list[str], query: str) -> ApiRequest:
    if parts[0] == "watch" and len(parts) > 1:  # the old form of watches
        verb, parts = "watch", parts[1:]
    namespace, lists = "", False
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _OF_NAMESPACE:
            parts = parts[2:]
    resource, name, subresource, *_ = (*parts, "", "")
    if not name and verb == "get":
        options = parse_qs(query)
        verb = "watch" if options.get("watch", ["false"])[-1] in _TRUE else "list"
        lists = verb == "watch" and options.get("sendInitialEvents", ["false"])[-1] in _TRUE
        name = _selected_name(options.get("fieldSelector", [""])[-1])
    elif not name and verb == "delete":
        verb = "deletecollection"
    return ApiRequest(verb, path, group, version, resource, subresource, namespace, name, lists)


def _selected_name(selector: str) -> str:
    """A list or watch of one object is one of that name."""
    for part in selector.split(","):
        key, equals, value = part.partition("=")
        if equals and key == "metadata.name":
            return value.removeprefix("=")
    return ""
