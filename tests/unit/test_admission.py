"""Faults by admission: what can be done so, what the API server is to ask about, and what it is answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest

from bounceback.api.experiment import FaultEntry
from bounceback.api.status import InjectionStatus
from bounceback.controller.admitted import Admitted, OnPod
from bounceback.engine import admission
from bounceback.engine.model import PodInfo
from bounceback.faults.api_fault import ApiFault
from bounceback.faults.by_admission import obstacle
from bounceback.types.api_request import ApiRequest
from bounceback.types.api_rule import Answer, ApiRule, Body, Cut, Delay, RateLimit, Requests
from bounceback.types.choice import Choice
from bounceback.types.instants import Instant
from bounceback.types.outcome import Cleanup, InjectionState, VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.choice import neither_way, not_by_admission

Json = dict[str, Any]
RUN, POD, OTHER = "run-1", "pod-1", "pod-2"
WRITES = (Requests(verbs=("create", "patch"), groups=("",), resources=("configmaps",)),)
RULE = ApiRule("fault", Answer(503), WRITES)


def question(verb: str = "CREATE", pod: str = POD, options: str = "CreateOptions", **more: Any) -> Json:
    """As the API server asks."""
    resource = {"group": "", "version": "v1", "resource": "configmaps"}
    request = {
        "uid": "7-8",
        "operation": verb,
        "resource": resource,
        "requestResource": resource,
        "namespace": "shop",
        "name": "a",
        "options": {"kind": options},
        "userInfo": {"username": "system:serviceaccount:shop:web", "extra": {admission.POD_UID: [pod]}},
        **more,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def answering(rule: ApiRule = RULE, not_after: float | None = None, hits: int = 0) -> tuple[Admitted, OnPod]:
    admitted = Admitted()
    on = OnPod(rule, time.time() + 60 if not_after is None else not_after, hits)
    admitted.begin(RUN, "fault", POD, on)
    return admitted, on


async def allowed(admitted: Admitted, review: Json) -> bool:
    response = (await admitted.answer(RUN, "fault", review))["response"]
    assert response["uid"] == "7-8"
    return bool(response["allowed"])


@pytest.mark.parametrize(
    ("act", "requests", "told"),
    [
        (Answer(503), WRITES, ""),
        (RateLimit(5, 1), WRITES, ""),
        (Delay(before_us=25_000_000), WRITES, ""),
        (Delay(before_us=25_000_000, jitter_us=1), WRITES, "of at most 25000"),
        (Delay(after_us=1), WRITES, "beforeMilliseconds"),
        (Answer(503, body=Body.TEXT), WRITES, "only be a Status"),
        (Answer(503, headers=(("A", "b"),)), WRITES, "without headers"),
        (Answer(503, retry_after=1, retry_date=True), WRITES, "retryAfterDate"),
        (Cut(), WRITES, "only answer, rateLimit and delay"),
        (Answer(503), (Requests(verbs=("get",)),), "nobody is asked about others"),
        (Answer(503), (Requests(),), "nobody is asked about others"),
        (Answer(503), (*WRITES, Requests(paths=("/version",))), "nobody is asked about others"),
    ],
)
def test_what_can_be_done_by_admission(act: Any, requests: tuple[Requests, ...], told: str) -> None:
    assert (told in obstacle(act, requests)) if told else obstacle(act, requests) == ""


def test_a_fault_says_that_it_can_be() -> None:
    body = {"requests": [{"verbs": ["create"]}], "answer": {"code": 503}}
    assert ApiFault.model_validate(body).rungs() == (Rung.PROXY, Rung.ADMISSION)
    assert ApiFault.model_validate({**body, "requests": []}).rungs() == (Rung.PROXY,)


def test_the_api_server_is_to_ask_about_the_targets_alone_and_may_go_on_without_an_answer() -> None:
    client = {"service": {"name": "faults", "namespace": "system", "port": 443}, "caBundle": "Cg=="}
    everything = replace(RULE, requests=(*WRITES, Requests(verbs=("update", "delete"), groups=("*",))))
    webhook = admission.webhook(RUN, "fault", "shop", [POD, OTHER], everything, client)
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "faults"},
        "webhooks": [webhook],
    }
    kubernetes_validate.validate(body, "1.37", strict=True)
    assert webhook["failurePolicy"] == "Ignore"
    assert webhook["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}
    assert f"['{POD}', '{OTHER}']" in webhook["matchConditions"][0]["expression"]
    assert [rule["operations"] for rule in webhook["rules"]] == [["CREATE", "UPDATE"], ["DELETE", "UPDATE"]]
    assert [rule["resources"] for rule in webhook["rules"]] == [["configmaps"], ["*/*"]]
    assert webhook["clientConfig"]["service"]["path"] == f"/fault/{RUN}/fault"
    assert admission.run_of(webhook["name"]) == RUN
    assert admission.run_of("validate.example.com") == ""


def test_the_api_server_waits_as_long_as_a_delay_takes() -> None:
    client: Json = {"service": {}}
    for act, seconds in ((Answer(503), 5), (Delay(before_us=10_000_000), 15), (Delay(before_us=25_000_000), 30)):
        webhook = admission.webhook(RUN, "fault", "shop", [POD], replace(RULE, act=act), client)
        assert webhook["timeoutSeconds"] == seconds


@pytest.mark.parametrize(
    ("review", "verb"),
    [
        (question(), "create"),
        (question(options="PatchOptions"), "patch"),
        (question("UPDATE", options="UpdateOptions"), "update"),
        (question("UPDATE", options="PatchOptions"), "patch"),
        (question("DELETE", options="DeleteOptions"), "delete"),
        (question("DELETE", options="DeleteOptions", name=""), "deletecollection"),
    ],
)
def test_what_is_asked_about_is_read_as_the_proxy_reads_requests(review: Json, verb: str) -> None:
    name = "" if verb == "deletecollection" else "a"
    expected = ApiRequest(verb, "", "", "v1", "configmaps", "", "shop", name)
    assert admission.asked(review["request"]) == expected


async def test_a_write_of_the_target_is_refused_as_the_api_server_would() -> None:
    admitted, on = answering()
    response = (await admitted.answer(RUN, "fault", question()))["response"]
    assert (response["allowed"], response["status"]["code"]) == (False, 503)
    assert response["status"]["reason"] == "ServiceUnavailable"
    assert on.hits == 1
    assert on.first is not None


async def test_nobody_else_is_hit_nor_what_the_fault_is_not_about() -> None:
    admitted, on = answering()
    others: list[Json] = [
        question(pod=OTHER),
        question("UPDATE", options="UpdateOptions"),
        question(dryRun=True),
        question(userInfo={"username": "jane"}),
    ]
    for review in others:
        assert await allowed(admitted, review)
    assert (await admitted.answer("run-2", "fault", question()))["response"]["allowed"]
    assert on.hits == 0


async def test_the_choice_is_that_of_the_proxy_and_goes_on_after_an_operator_before_us() -> None:
    second = replace(RULE, choice=Choice(nth=2, first_n=2))
    admitted, _ = answering(second)
    assert [await allowed(admitted, question()) for _ in range(6)] == [True, False, True, False, True, True]
    resumed, on = answering(replace(RULE, choice=Choice(first_n=2)), hits=1)
    assert [await allowed(resumed, question()) for _ in range(3)] == [False, True, True]
    assert on.hits == 2


async def test_a_rate_is_kept_and_what_is_above_it_is_told_when_to_come_again() -> None:
    admitted, on = answering(replace(RULE, act=RateLimit(1, 2)))
    answers = [(await admitted.answer(RUN, "fault", question()))["response"] for _ in range(3)]
    assert [each["allowed"] for each in answers] == [True, True, False]
    assert answers[2]["status"]["code"] == 429
    assert answers[2]["status"]["details"]["retryAfterSeconds"] == 1
    assert on.hits == 1


async def test_who_is_held_is_let_go_when_the_fault_ends() -> None:
    admitted, on = answering(replace(RULE, act=Delay(before_us=20_000_000)))
    held = asyncio.create_task(allowed(admitted, question()))
    await asyncio.sleep(0.05)
    assert not held.done()
    admitted.end(RUN, "fault", POD)
    async with asyncio.timeout(5):
        assert await held
    assert await allowed(admitted, question())
    assert on.hits == 1


async def test_nothing_is_hit_after_the_last_moment_of_the_plan() -> None:
    admitted, on = answering(not_after=time.time() - 1)
    assert await allowed(admitted, question())
    assert on.hits == 0


async def test_nothing_of_it_outlives_the_term_of_a_leader() -> None:
    admitted, _ = answering()
    admitted.end_all()
    assert await allowed(admitted, question())


@pytest.mark.parametrize("review", [{}, {"request": {}}, {"request": None}])
async def test_what_is_no_question_is_an_error(review: Json) -> None:
    admitted, _ = answering()
    with pytest.raises((KeyError, TypeError, AttributeError)):
        await admitted.answer(RUN, "fault", review)


def test_the_course_of_an_injection() -> None:
    planned = InjectionStatus(
        name="i",
        fault="fault",
        pod="web",
        pod_uid=POD,
        vehicle=VehicleKind.ADMISSION,
        rung=Rung.ADMISSION,
        start_at=0,
        start_before=1,
        not_after=2,
    )
    now = Instant.now()
    active = admission.in_force(planned, now)
    assert active.state is InjectionState.ACTIVE
    assert admission.in_force(active, now.plus(1)) == active
    hit = admission.counted(active, 3, now.plus(0.5))
    assert (hit.hits, admission.counted(hit, 2, None)) == (3, hit)
    over = admission.over(hit, "Duration", now.plus(8))
    assert (over.state, over.reason) == (InjectionState.CLEARED, "Duration")
    assert admission.over(over, "Stopped", now.plus(9)) == over
    assert admission.failed(over, "TooLate", "") == over
    assert admission.looked(over, left=True).cleanup is Cleanup.LEFTOVER
    assert admission.looked(over, left=False).cleanup is Cleanup.CLEAN
    assert admission.failed(planned, "TooLate", "").state is InjectionState.FAILED


def test_of_what_cannot_be_carried_to_a_pod_both_reasons_are_told_and_another_way() -> None:
    pod = PodInfo("shop", "web-0", "u", "node-1", {}, ("10.0.0.1",), False, True, 0, None)
    denied = {"name": "denied", "target": "web", "authFault": {"permissionDenied": {}}, "durationSeconds": 1}
    against = not_by_admission(FaultEntry.model_validate(denied), enabled=True)
    told = neither_way(pod, against)
    assert "arming.enabled" in told
    assert "Nor by admission: authFault" in told
    assert "subjectsCleared on its RoleBinding" in told
