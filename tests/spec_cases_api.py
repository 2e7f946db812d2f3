"""Good and bad faults on a client of the Kubernetes API, for the table of spec_cases: name, the fault's entry, message,
field. What else is refused, and where: tests/unit/test_fault_api_refused.py."""

from __future__ import annotations

from typing import Any, Final

from bounceback.faults.api_fault import (
    ALL_THE_TIME,
    DATE_WITH,
    HEADERS_NOT,
    JITTER_WITHIN,
    KILLED_FROM_NODE,
    NO_PATHS,
    NO_VEHICLE,
    SOME_DELAY,
    VERBS_OF_CONFLICT,
    VERBS_OF_EXPIRED,
    VERBS_OF_WATCH,
    WORDS_WITH,
)
from bounceback.faults.auth_fault import NO_PATHS as NO_PATHS_HERE
from bounceback.faults.client_fault import PATHS_ALONE, VERBS_OF_PATHS, VERBS_OF_RESOURCES
from bounceback.faults.watch_fault import DELAY_WITH

_API_ACTS: Final = "exactly one of answer, rateLimit, delay, loseReply, cut, crash, genuine, watch must be given"
_AUTH_ACTS: Final = (
    "exactly one of tokenExpired, tokenInvalid, tokenRevoked, permissionDenied, wrongNamespace must be given"
)


def _api(**fields: Any) -> dict[str, Any]:
    return {"apiFault": fields}


def _asked(**fields: Any) -> dict[str, Any]:
    return {"apiFault": {"cut": {}, "requests": [fields]}}


_LIMITED: Final = {"code": 429, "retryAfterSeconds": 1}
_WRITES: Final = _api(answer=_LIMITED, requests=[{"verbs": ["create"], "resources": ["jobs"]}])
_PATHS: Final = [{"nonResourcePaths": ["/version"]}]

API: Final[tuple[tuple[str, dict[str, Any], str, str], ...]] = (
    ("a few writes throttled", {**_api(answer=_LIMITED, requests=[{"verbs": ["create"], "resources": ["jobs"]}]),
      "firstN": 3, "seed": 5, "pattern": {"onOff": {"onMilliseconds": 2000, "offMilliseconds": 1000}}}, "", ""),
    ("every third reply lost", {**_api(loseReply={}), "nth": 3, "vehicle": "NodePod", "mechanism": "Proxy"}, "", ""),
    ("watches that stall", _api(watch={"stall": {}}), "", ""),
    ("a token that has expired", {"authFault": {"tokenExpired": {}}}, "", ""),
    ("an API fault that does nothing", _api(), _API_ACTS, ".apiFault"),
    ("a cut that answers", _api(cut={}, answer={"code": 500}), _API_ACTS, ".apiFault"),
    ("an auth fault that does nothing", {"authFault": {}}, _AUTH_ACTS, ".authFault"),
    ("a watch that is not touched", _api(watch={}), "exactly one of stall, cut, error, events must be given",
     ".apiFault.watch"),
    ("a client killed from within", _api(crash={}) | {"vehicle": "Sidecar"}, KILLED_FROM_NODE, ".vehicle"),
    ("a date of no time", _api(answer={"code": 429, "retryAfterDate": True}), DATE_WITH,
     ".apiFault.answer.retryAfterDate"),
    ("a reason in plain text", _api(answer={"code": 429, "body": "Text", "reason": "Gone"}), WORDS_WITH,
     ".apiFault.answer.body"),
    ("a header of ours", _api(answer={"code": 429, "headers": [{"name": "Retry-After", "value": "5"}]}), HEADERS_NOT,
     ".apiFault.answer.headers"),
    ("a delay of nothing", _api(delay={}), SOME_DELAY, ".apiFault.delay.beforeMilliseconds"),
    ("a delay with more jitter", _api(delay={"beforeMilliseconds": 5, "jitterMilliseconds": 6}), JITTER_WITHIN,
     ".apiFault.delay.jitterMilliseconds"),
    ("a conflict of a list", _api(genuine="Conflict", requests=[{"verbs": ["list"]}]), VERBS_OF_CONFLICT,
     ".apiFault.requests"),
    ("an update that has expired", _api(genuine="Expired", requests=[{"verbs": ["update"]}]), VERBS_OF_EXPIRED,
     ".apiFault.requests"),
    ("a stall of lists", _api(watch={"stall": {}}, requests=[{"verbs": ["list"]}]), VERBS_OF_WATCH,
     ".apiFault.requests"),
    ("a stall of /version", _api(watch={"stall": {}}, requests=_PATHS), NO_PATHS, ".apiFault.requests"),
    ("/version of another namespace", {"authFault": {"wrongNamespace": {"namespace": "other"}, "requests": _PATHS}},
     NO_PATHS_HERE, ".authFault.requests"),
    ("a path of a resource", _asked(nonResourcePaths=["/version"], resources=["pods"]), PATHS_ALONE,
     ".apiFault.requests[0].nonResourcePaths"),
    ("a resource that is posted", _asked(resources=["pods"], verbs=["post"]), VERBS_OF_RESOURCES,
     ".apiFault.requests[0].verbs"),
    ("a path that is created", _asked(nonResourcePaths=["/version"], verbs=["create"]), VERBS_OF_PATHS,
     ".apiFault.requests[0].verbs"),
    ("dropped events that are late", _api(watch={"events": {"do": "Drop", "delayMilliseconds": 5}}), DELAY_WITH,
     ".apiFault.watch.events.delayMilliseconds"),
    ("writes by admission in turns",
     {**_WRITES, "mechanism": "Admission", "pattern": {"onOff": {"onMilliseconds": 500, "offMilliseconds": 500}}},
     ALL_THE_TIME, ".pattern"),
    ("writes by admission and a vehicle", {**_WRITES, "mechanism": "Admission", "vehicle": "NodePod"}, NO_VEHICLE,
     ".vehicle"),
    *(
        row
        for kind, ways, entry in (
            ("apiFault", "Proxy or Admission", _api(cut={})),
            ("authFault", "Proxy", {"authFault": {"tokenInvalid": {}}}),
        )
        for row in (
            (f"{kind} by nft", {**entry, "mechanism": "Nft"}, f"mechanism must be {ways}, or unset, for {kind}",
             ".mechanism"),
            (f"{kind} by a deletion", {**entry, "vehicle": "PodDelete"},
             f"vehicle must be Auto or Sidecar or NodePod for {kind}", ".vehicle"),
        )
    ),
)  # fmt: skip
