"""Injections by admission: what the API server is to ask about, what it asks, and what becomes of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bounceback.api.status import InjectionStatus, Moment
from bounceback.engine.evidence import DONE
from bounceback.types.api_request import ApiRequest
from bounceback.types.api_rule import ApiRule, Delay, Requests
from bounceback.types.instants import Instant
from bounceback.types.outcome import Cleanup, InjectionState

Json = dict[str, Any]
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
"""In the user's `extra` where a token is bound to a pod (k8s.io/apiserver/pkg/authentication/serviceaccount)."""
SUFFIX: Final = "faults.bounceback.dev"
MOST_PODS: Final = 500
"""Of one fault: their UIDs stand in one expression."""
ANSWER_SECONDS: Final = 5
_OPERATIONS: Final = {
    "create": "CREATE",
    "update": "UPDATE",
    "patch": "UPDATE",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
_VERBS: Final = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete"}


def webhook_name(run: str, fault: str) -> str:
    return f"{fault}.{run}.{SUFFIX}"


def run_of(name: str) -> str:
    """The run whose webhook has that name; empty: it is none of ours."""
    parts = name.removesuffix(f".{SUFFIX}").split(".")
    return parts[1] if name.endswith(f".{SUFFIX}") and len(parts) == 2 else ""


def webhook(run: str, fault: str, namespace: str, pods: Iterable[str], rule: ApiRule, client: Json) -> Json:
    """Asks `client` (a clientConfig without its path) about what these pods write in that namespace.

    `pods` are UIDs. Without an answer the API server goes on as if there were no such webhook (failurePolicy Ignore).
    """
    uids = ", ".join(f"'{uid}'" for uid in sorted(pods))
    mine = f"'{POD_UID}' in request.userInfo.extra && request.userInfo.extra['{POD_UID}'].exists(u, u in [{uids}])"
    longest = rule.act.before_us + rule.act.jitter_us if isinstance(rule.act, Delay) else 0
    service = {**client["service"], "path": f"/fault/{run}/{fault}"}
    return {
        "name": webhook_name(run, fault),
        "admissionReviewVersions": ["v1"],
        "clientConfig": {**client, "service": service},
        "rules": [_rule(each) for each in rule.requests],
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "matchConditions": [{"name": "targets", "expression": mine}],
        "failurePolicy": "Ignore",
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": min(30, ANSWER_SECONDS + longest // 1_000_000),
    }


def _rule(requests: Requests) -> Json:
    return {
        "operations": sorted({_OPERATIONS[verb] for verb in requests.verbs}),
        "apiGroups": list(requests.groups) or ["*"],
        "apiVersions": ["*"],
        "resources": list(requests.resources) if requests.resources and "*" not in requests.resources else ["*/*"],
        "scope": "Namespaced",
    }


def asked(request: Mapping[str, Any]) -> ApiRequest:
    """What an AdmissionRequest (admission.k8s.io/v1) is about, as the rules of the API proxy see it. Raises KeyError.

    A patch is an update, or what server-side apply creates, with PatchOptions.
    """
    resource = request["requestResource"] if "requestResource" in request else request["resource"]
    verb = _VERBS.get(request["operation"], "")
    name = request.get("name") or ""
    if verb == "delete" and not name:
        verb = "deletecollection"
    if (request.get("options") or {}).get("kind") == "PatchOptions":
        verb = "patch"
    subresource = request.get("requestSubResource") or request.get("subResource") or ""
    namespace = request.get("namespace") or ""
    return ApiRequest(
        verb, "", resource["group"], resource["version"], resource["resource"], subresource, namespace, name
    )


def pod_of(request: Mapping[str, Any]) -> str:
    """The UID of the pod whose token the request came with; empty without one."""
    extra = (request.get("userInfo") or {}).get("extra") or {}
    return next(iter(extra.get(POD_UID) or ()), "")


def in_force(injection: InjectionStatus, at: Instant) -> InjectionStatus:
    """The API server has been told to ask."""
    if injection.state is not InjectionState.PLANNED:
        return injection
    return injection.model_copy(
        update={"state": InjectionState.ACTIVE, "in_force_at": Moment.of(at), "clock_offset_milliseconds": 0}
    )


def counted(injection: InjectionStatus, hits: int, first: Instant | None) -> InjectionStatus:
    """So many requests were hit since it was in force; `first`: when the first of those was."""
    if hits <= injection.hits:
        return injection
    began = injection.first_hit_at or (Moment.of(first) if first else None)
    return injection.model_copy(update={"hits": hits, "first_hit_at": began})


def over(injection: InjectionStatus, why: str, at: Instant) -> InjectionStatus:
    """Nothing is hit any more from `at` on; whether the API server still asks is looked at next."""
    if injection.state in DONE:
        return injection
    update: dict[str, Any] = {"state": InjectionState.CLEARED, "reason": why, "cleared_at": Moment.of(at)}
    return injection.model_copy(update={**update, "clock_offset_milliseconds": 0})


def failed(injection: InjectionStatus, reason: str, message: str) -> InjectionStatus:
    """It was never in force."""
    if injection.state in DONE:
        return injection
    return injection.model_copy(
        update={"state": InjectionState.FAILED, "reason": reason, "message": message[:512], "cleanup": Cleanup.CLEAN}
    )


def looked(injection: InjectionStatus, left: bool) -> InjectionStatus:
    """Whether the API server still asks about it."""
    found = Cleanup.LEFTOVER if left else Cleanup.CLEAN
    leftovers = [f"webhook of {injection.fault}"] if left else []
    return injection.model_copy(update={"cleanup": found, "leftovers": leftovers})
