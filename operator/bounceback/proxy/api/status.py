"""Answers in the API server's stead: the Status, the text and the headers that it would send. No I/O, no clock.

Reasons, messages and details are those of the constructors in k8s.io/apimachinery/pkg/api/errors, as the handlers and
filters of k8s.io/apiserver v0.36 call them; tests hold them against a running API server. Standard library only.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, Final

from bounceback.types.api_request import WRITES, ApiRequest
from bounceback.types.api_rule import Answer, Body

Status = dict[str, Any]
Details = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

PHRASES: Final = {
    413: "Request Entity Too Large",
    422: "Unprocessable Entity",
}  # as Go's net/http: newer Pythons differ
THROTTLED: Final = "Too many requests, please try again later."
"""tooManyRequests in k8s.io/apiserver/pkg/server/filters."""
MODIFIED: Final = "the object has been modified; please apply your changes to the latest version and try again"
"""OptimisticLockErrorMsg in k8s.io/apiserver/pkg/registry/generic/registry."""
OLD_WATCH: Final = "The resourceVersion for the provided watch is too old."
OLD_LIST: Final = "The resourceVersion for the provided list is too old."
"""Both: k8s.io/apiserver/pkg/storage/etcd3, errors.go. The watch cache adds the versions, which we do not know."""
UNKNOWN_RESOURCE: Final = "the server could not find the requested resource"
BROKEN: Final = "context deadline exceeded"  # the error behind a 500 that nobody described
REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    502: "InternalError",  # the API server has none; so client-go reads it (NewGenericServerResponse)
    503: "ServiceUnavailable",
    504: "Timeout",
}
FIXED: Final = {
    "BadRequest": "the server rejected our request for an unknown reason",
    "Unauthorized": "Unauthorized",
    "MethodNotAllowed": "the server does not allow this method on the requested resource",
    "NotAcceptable": "406: Not Acceptable",
    "RequestEntityTooLarge": "Request entity too large: limit is 3145728",
    "ServiceUnavailable": "apiserver is shutting down",
    "Gone": "the requested object is gone",
}
"""Messages that do not depend on the request."""
TOLD_NOTHING: Final = frozenset({"MethodNotAllowed", "NotAcceptable", "Timeout", "TooManyRequests"})
"""Reasons whose details are there and empty: a Status of go-restful's errors, and one that could say when to retry."""
ACCEPTED: Final = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_GATEWAY: Final = {502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}  # nginx's words
_NAMES: Final = """
ConfigMap Secret Pod Service ServiceAccount Namespace Node Event PersistentVolume PersistentVolumeClaim Binding
ReplicationController ResourceQuota LimitRange Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision
Job CronJob HorizontalPodAutoscaler PodDisruptionBudget Lease Ingress IngressClass EndpointSlice StorageClass
PriorityClass RuntimeClass Role RoleBinding ClusterRole ClusterRoleBinding CustomResourceDefinition
"""
_KINDS: Final = {f"{name.lower()}{'es' if name.endswith('ss') else 's'}": name for name in _NAMES.split()} | {
    "endpoints": "Endpoints",
    "networkpolicies": "NetworkPolicy",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it goes over the wire; to a HEAD request, without its body."""

    code: int
    phrase: str
    headers: Headers
    body: bytes


def status(answer: Answer, request: ApiRequest, user: str) -> Status:
    """A metav1.Status as the API server would tell `user` that this `request` failed.

    The name in it is the request's: of a creation, whose name is in its body, only if the caller put it there.
    """
    reason = answer.reason or _reason(answer.code, request)
    message, details = _told(reason, answer.message, request, user)
    if answer.retry_after and not answer.retry_date:
        details = {**(details or {}), "retryAfterSeconds": answer.retry_after}
    return _status(answer.code, reason, message or _phrase(answer.code), details)


def gone_event(code: int, message: str) -> Status:
    """The Status in the ERROR event of a watch; 410: its resourceVersion is too old; else an error of the server's."""
    if code == HTTPStatus.GONE:
        return _status(code, "Expired", message or OLD_WATCH, None)
    return _status(code, "InternalError", *_internal(message))


def throttled(retry_after: int) -> Answer:
    """What the API server's priority-and-fairness filter says to a request that it drops."""
    return Answer(429, retry_after=retry_after, body=Body.TEXT)


def reply(answer: Answer, request: ApiRequest, user: str, now: datetime) -> Reply:
    """The whole answer; `now` has a time zone. Headers of the answer take the place of ours of the same name.

    A Status is always JSON: clients that would rather have protobuf read it by its Content-Type.
    """
    phrase = _phrase(answer.code)
    headers = [("Cache-Control", "no-cache, private")]  # WithCacheControl
    body = b""
    match answer.body:
        case Body.STATUS:
            body = json.dumps(status(answer, request, user), separators=(",", ":")).encode() + b"\n"
            headers.append(("Content-Type", "application/json"))
            if answer.code == HTTPStatus.FORBIDDEN:
                headers.append(("X-Content-Type-Options", "nosniff"))  # responsewriters.RespondWithError
        case Body.TEXT if answer.code in _GATEWAY and not answer.message:
            phrase = _GATEWAY[answer.code]
            body = _page(f"{answer.code} {phrase}")
            headers = [("Server", "nginx"), ("Content-Type", "text/html")]
        case Body.TEXT:  # http.Error of Go's net/http
            body = f"{answer.message or _text(answer.code)}\n".encode()
            headers += [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
    if answer.retry_after is not None:
        headers.append(("Retry-After", _retry_after(answer.retry_after, answer.retry_date, now)))
    headers += [("Date", _http_date(now)), ("Content-Length", str(len(body)))]
    return Reply(answer.code, phrase, _encoded(headers, answer.headers), body)


class Limiter:
    """A token bucket whose refusals say how long to wait as the API server's filter does. Seconds of any clock.

    The filter's DroppedRequestsTracker (k8s.io/apiserver/pkg/util/flowcontrol) begins with 1 s. At the first request
    that is dropped in a new second it looks back over as many seconds as it last asked for: three drops for each of
    them double the wait, up to 32 s and no sooner than that wait after the last time; fewer than one for each take
    1 s off it.
    """

    LONGEST: Final = 32

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = max(burst, 1)
        self._tokens = float(self._burst)
        self._filled_at: float | None = None
        self._retry_after = 1
        self._raised_at: int | None = None
        self._dropped: deque[list[int]] = deque()  # [second, requests dropped in it], oldest first

    def ask(self, now: float) -> int | None:
        """None: the request is let through; else the seconds that it is told to wait."""
        if self._filled_at is not None:
            passed = max(now - self._filled_at, 0)
            self._tokens = min(self._tokens + passed * self._per_second, self._burst)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        self._drop(int(now // 1))
        return self._retry_after

    def _drop(self, second: int) -> None:
        if self._dropped and self._dropped[-1][0] == second:
            self._dropped[-1][1] += 1
            return
        self._adapt(second)
        self._dropped.append([second, 1])
        while second - self._dropped[0][0] > self.LONGEST:
            self._dropped.popleft()

    def _adapt(self, second: int) -> None:
        wait = self._retry_after
        recent = sum(count for when, count in self._dropped if second - when <= wait)
        may_rise = self._raised_at is None or second - self._raised_at >= wait
        if may_rise and recent >= 3 * wait:
            self._retry_after = min(2 * wait, self.LONGEST)
            self._raised_at = second
        elif recent < wait and wait > 1:
            self._retry_after -= 1


def _status(code: int, reason: str, message: str, details: Details | None) -> Status:
    """Fields in the order in which the API server writes them."""
    made: Status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    if reason:
        made["reason"] = reason
    if details is not None:
        made["details"] = details
    return made | {"code": code}


def _reason(code: int, request: ApiRequest) -> str:
    if code == HTTPStatus.CONFLICT and request.verb == "create" and not request.subresource:
        return "AlreadyExists"
    return REASONS.get(code, "")


def _told(reason: str, message: str, request: ApiRequest, user: str) -> tuple[str, Details | None]:
    """Message and details of a Status; a message that is given stands in place of the server's."""
    named = _details(name=request.name, group=request.group, kind=request.resource)
    of_it = f"{request.qualified} {_quoted(request.name)}"
    match reason:
        case "Forbidden":
            return message or _forbidden(request, user), named
        case "NotFound":
            return _not_found(message, request)
        case "AlreadyExists":
            return message or f"{of_it} already exists", named
        case "Conflict":
            return message or f"Operation cannot be fulfilled on {of_it}: {MODIFIED}", named
        case "Expired":
            return message or (OLD_WATCH if request.verb == "watch" else OLD_LIST), None
        case "UnsupportedMediaType":
            return _unsupported(message, request)
        case "Invalid":
            return _invalid(message, request)
        case "TooManyRequests":
            return message or _too_many(request), {}
        case "InternalError":
            return _internal(message)
        case "Timeout":
            how = "requested timeout - context deadline exceeded" if request.verb in WRITES else "the allotted timeout"
            return message or f"Timeout: request did not complete within {how}", {}
        case "ServerTimeout":  # its details name the operation
            what = f"The {request.verb} operation against {request.qualified}"
            told = message or f"{what} could not be completed at this time, please try again."
            return told, _details(name=request.verb, group=request.group, kind=request.resource)
    return message or FIXED.get(reason, ""), {} if reason in TOLD_NOTHING else None


def _details(**fields: str) -> Details:
    """What is empty is left out, as in the server's JSON."""
    return {key: value for key, value in fields.items() if value}


def _forbidden(request: ApiRequest, user: str) -> str:
    """ForbiddenStatusError and forbiddenMessage in k8s.io/apiserver/pkg/endpoints/handlers/responsewriters."""
    if not request.resource:
        return _plain(f"forbidden: User {_quoted(user)} cannot {request.verb} path {_quoted(request.path)}")
    it = f"{request.qualified} {_quoted(request.name)}" if request.name else request.qualified
    asked = f"cannot {request.verb} resource {_quoted(request.kind)} in API group {_quoted(request.group)}"
    where = f"in the namespace {_quoted(request.namespace)}" if request.namespace else "at the cluster scope"
    return f"{it} is forbidden: " + _plain(f"User {_quoted(user)} {asked} {where}")


def _not_found(message: str, request: ApiRequest) -> tuple[str, Details]:
    """The object, or the namespace that it would be created in (NamespaceLifecycle), or such resources at all."""
    group, kind, name = request.group, request.resource, request.name
    qualified = request.qualified
    if request.verb == "create" and request.namespace and not request.subresource:
        group, kind, name, qualified = "", "namespaces", request.namespace, "namespaces"
    if not name or not kind:
        return message or UNKNOWN_RESOURCE, {}
    return message or f"{qualified} {_quoted(name)} not found", _details(name=name, group=group, kind=kind)


def _unsupported(message: str, request: ApiRequest) -> tuple[str, Details | None]:
    """Of a patch go-restful refuses the type before the handler sees it; else errUnsupportedMediaType."""
    if request.verb == "patch":
        return message or "415: Unsupported Media Type", {}
    start = "the body of the request was in an unknown format - accepted media types include: "
    return message or start + ACCEPTED, None


def _invalid(message: str, request: ApiRequest) -> tuple[str, Details]:
    """NewInvalid: of a new object, named by its kind, where we know that; of an update without a version, which the
    store itself refuses (registry.Store.Update), by its resource."""
    creates = request.verb == "create"
    kind = _KINDS.get(request.resource, request.resource) if creates else request.resource
    details = _details(name=request.name, group=request.group, kind=kind)
    field, type_, body = (
        "metadata.resourceVersion",
        "FieldValueInvalid",
        "Invalid value: 0: must be specified for an update",
    )
    if creates:
        field, type_, body = "metadata.name", "FieldValueRequired", "Required value: name or generateName is required"
    if message:
        return message, details | {"causes": [{"reason": "FieldValueInvalid", "message": message}]}
    qualified = f"{kind}.{request.group}" if request.group else kind
    told = f"{qualified} {_quoted(request.name)} is invalid: {field}: {body}"
    return told, details | {"causes": [{"reason": type_, "message": body, "field": field}]}


def _too_many(request: ApiRequest) -> str:
    """Three that say so by a Status: evictions, the watch cache before it is filled, NewTooManyRequestsError."""
    if request.kind == "pods/eviction":
        return "Cannot evict pod as it would violate the pod's disruption budget."
    if request.verb in WRITES or not request.resource:
        return "Too many requests: please try again later"
    return "storage is (re)initializing"


def _internal(message: str) -> tuple[str, Details]:
    """NewInternalError: the error is its cause."""
    return message or f"Internal error occurred: {BROKEN}", {"causes": [{"message": message or BROKEN}]}


def _quoted(text: str) -> str:
    """As Go's %q, which differs for control characters only; names and paths have none."""
    return json.dumps(text, ensure_ascii=False)


def _plain(text: str) -> str:
    """The sanitizer of responsewriters: nothing that looks like HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _phrase(code: int) -> str:
    if code in PHRASES:
        return PHRASES[code]
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Unknown"


def _text(code: int) -> str:
    """What the filters before the handlers write; 404: the mux, for paths that are nobody's."""
    return {429: THROTTLED, 404: "404 page not found"}.get(code) or _phrase(code)


def _page(title: str) -> bytes:
    """The page that nginx makes for an error of its own (ngx_http_special_response.c)."""
    lines = (
        "<html>",
        f"<head><title>{title}</title></head>",
        "<body>",
        f"<center><h1>{title}</h1></center>",
        "<hr><center>nginx</center>",
        "</body>",
        "</html>",
        "",
    )
    return "\r\n".join(lines).encode()


def _retry_after(seconds: int, as_date: bool, now: datetime) -> str:
    return _http_date(now + timedelta(seconds=seconds)) if as_date else str(seconds)


def _http_date(moment: datetime) -> str:
    """An IMF-fixdate (RFC 9110 section 5.6.7)."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def _encoded(ours: list[tuple[str, str]], theirs: tuple[tuple[str, str], ...]) -> Headers:
    replaced = {name.lower() for name, _ in theirs} - {"content-length"}
    kept = [(name, value) for name, value in ours if name.lower() not in replaced]
    added = [(name, value) for name, value in theirs if name.lower() in replaced]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*kept, *added)]
