"""What is asked of a client's behaviour, and what is made of what was seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from bounceback.api.client_behavior import FIELDS, ClientBehavior
from bounceback.api.problems import parse
from bounceback.cli.proxy_verdict import shown_code, verdict
from bounceback.engine.client_behavior import judge, judge_all
from bounceback.proxy.api.behavior import Behavior
from bounceback.types.outcome import Judgement

Json = dict[str, Any]
PASSED, FAILED, UNKNOWN = Judgement.PASSED, Judgement.FAILED, Judgement.INCONCLUSIVE
NOTHING = Behavior().report(0)
HIT = {"busy": {"seen": 5, "hits": 2}}


def seen(path: str = "", value: object = None, **others: object) -> Json:
    """A report of a client that did nothing, but for these: `watches_lost=2`."""
    report = copy.deepcopy(NOTHING)
    for name, number in {**({path: value} if path else {}), **others}.items():
        *folders, last = name.split("_")
        spot = report
        for folder in folders:
            spot = spot[folder]
        assert last in spot, f"the proxy reports no {name}"
        spot[last] = number
    return report


def backoff(kind: str, gaps: int = 4, **more: float) -> Json:
    return {"kind": kind, "gaps": gaps, **more}


@pytest.mark.parametrize(
    ("field", "wanted", "report", "result", "told"),
    [
        ("honorsRetryAfter", True, seen(retryAfter_asked=2, retryAfter_honored=2), PASSED, "2 honored, 0 ignored"),
        ("honorsRetryAfter", True, seen(retryAfter_asked=2, retryAfter_honored=1, retryAfter_ignored=1), FAILED, ""),
        ("honorsRetryAfter", True, seen(retryAfter_asked=2), UNKNOWN, "no occasion: told to wait 2 times"),
        ("maxRequestsPerSecond", 50, seen(requestsPerSecond_peak=50), PASSED, "50 requests in one second"),
        ("maxRequestsPerSecond", 50, seen(requestsPerSecond_peak=51), FAILED, ""),
        ("backoff", "Constant", seen(retries_backoff=backoff("Constant")), PASSED, "Constant over 4 pauses"),
        ("backoff", "Constant", seen(retries_backoff=backoff("Exponential")), PASSED, ""),
        ("backoff", "Constant", seen(retries_backoff=backoff("Immediate")), FAILED, ""),
        ("backoff", "Exponential", seen(retries_backoff=backoff("Exponential")), PASSED, ""),
        ("backoff", "Exponential", seen(retries_backoff=backoff("Constant")), FAILED, ""),
        ("backoff", "Exponential", seen(retries_backoff=backoff("Unknown")), UNKNOWN, "Unknown over 4 pauses"),
        ("backoff", "Exponential", seen(retries_backoff=backoff("Unknown", lateSeconds=0.3)), UNKNOWN, "0.300 s late"),
        ("backoff", "Exponential", seen(), UNKNOWN, "None over 0 pauses"),
        ("backoff", "Exponential", seen(watches_backoff=backoff("Exponential")), PASSED, ""),
        ("returnsToWatches", True, seen(watches_lost=2, watches_rewatched=2), PASSED, "2 of 2 watches that broke"),
        ("returnsToWatches", True, seen(watches_lost=2, watches_rewatched=1), FAILED, ""),
        ("returnsToWatches", True, seen(watches_lost=2, watches_rewatched=1, watches_awaited=1), PASSED, ""),
        ("returnsToWatches", True, seen(watches_lost=1, watches_awaited=1), UNKNOWN, ""),
        ("returnsToWatches", True, seen(watches_ended=3), UNKNOWN, ""),
        ("relists", True, seen(watches_lost=1, watches_relisted=1), PASSED, "1 of 1 watches that broke were listed"),
        ("relists", True, seen(watches_lost=1, watches_rewatched=1), FAILED, ""),
        ("relists", True, seen(), UNKNOWN, ""),
        ("maxDuplicateCreates", 0, seen(creates_lost=2), PASSED, "0 of 2 creates"),
        ("maxDuplicateCreates", 0, seen(creates_lost=2, creates_duplicated=1), FAILED, ""),
        ("maxDuplicateCreates", 1, seen(creates_lost=2, creates_duplicated=1), PASSED, ""),
        ("maxDuplicateCreates", 0, seen(), UNKNOWN, ""),
        ("maxHotLoops", 0, seen(), PASSED, "0 hot loops"),
        ("maxHotLoops", 0, seen(hotLoops=1), FAILED, ""),
        ("maxHotLoops", 1, seen(hotLoops=1), PASSED, ""),
        ("neverGivesUp", True, seen(retries_count=3), PASSED, "0 given up"),
        ("neverGivesUp", True, seen(watches_lost=1), PASSED, "0 given up"),
        ("neverGivesUp", True, seen(retries_count=3, retries_gaveUp=1), FAILED, "1 given up"),
        ("neverGivesUp", True, seen(watches_ended=1, watches_gaveUp=1), FAILED, ""),
        ("neverGivesUp", True, seen(), UNKNOWN, ""),
    ],
)
def test_each_field_is_judged_by_what_was_seen(
    field: str, wanted: object, report: Json, result: Judgement, told: str
) -> None:
    (answer,) = judge(ClientBehavior.model_validate({field: wanted}), report)
    assert (answer.field, answer.result) == (field, result)
    assert told in answer.seen
    assert answer.seen.startswith("there was no occasion: ") == (result is UNKNOWN)


@pytest.mark.parametrize("field", ["honorsRetryAfter", "returnsToWatches", "relists", "neverGivesUp"])
def test_what_is_false_is_not_asked(field: str) -> None:
    wanted = ClientBehavior.model_validate({field: False, "maxHotLoops": 0})
    assert [answer.field for answer in judge(wanted, NOTHING)] == ["maxHotLoops"]


def test_every_field_is_judged() -> None:
    assert [to_camel(name) for name in ClientBehavior.model_fields] == list(FIELDS)
    values = {"maxRequestsPerSecond": 1, "backoff": "Constant", "maxDuplicateCreates": 0, "maxHotLoops": 0}
    wanted = ClientBehavior.model_validate({field: values.get(field, True) for field in FIELDS})
    assert [answer.field for answer in judge(wanted, NOTHING)] == list(FIELDS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "must have at least one of honorsRetryAfter, maxRequestsPerSecond, backoff"),
        ({"backof": "Constant"}, "backof: there is no such field; did you mean backoff?"),
        ({"backoff": "Linear"}, "backoff: must be one of Constant, Exponential"),
        ({"maxRequestsPerSecond": 0}, "maxRequestsPerSecond: must be a whole number from 1"),
        ({"maxHotLoops": -1}, "maxHotLoops: must be a whole number from 0"),
        ({"maxDuplicateCreates": 1.5}, "maxDuplicateCreates: must be a whole number from 0"),
        ({"honorsRetryAfter": "yes"}, "honorsRetryAfter: must be true or false"),
    ],
)
def test_bad_input_is_named(given: Json, message: str) -> None:
    found, problems = parse(ClientBehavior, given, ())
    assert found is None
    assert message in "; ".join(f"{'.'.join(map(str, p.path))}: {p.message}" for p in problems)


def concluded(report: Json, ended: int | None = 0, rules: Json | None = None) -> tuple[list[str], int]:
    wanted = ClientBehavior.model_validate({"maxHotLoops": 0, "maxDuplicateCreates": 0})
    return verdict(wanted, {"behavior": report, "rules": HIT if rules is None else rules}, ended)


def test_who_did_all_that_was_asked_passes() -> None:
    assert concluded(seen(creates_lost=1)) == (
        [
            "Passed",
            "  Passed       maxDuplicateCreates: 0 of 1 creates whose reply was lost were done twice",
            "  Passed       maxHotLoops: 0 hot loops",
        ],
        0,
    )


def test_one_thing_that_was_not_done_fails_whatever_else_is_unknown() -> None:
    lines, code = concluded(seen(hotLoops=2))
    assert (lines[0], code) == ("Failed", 1)
    assert [line.split()[0] for line in lines[1:]] == ["Inconclusive", "Failed"]


def test_without_an_occasion_nothing_is_known() -> None:
    lines, code = concluded(seen())
    assert (lines[0], code) == ("Inconclusive", 3)


def test_a_fault_that_hit_nothing_never_passes() -> None:
    lines, code = concluded(seen(creates_lost=1), rules={**HIT, "idle": {"seen": 7, "hits": 0}})
    assert (lines[0], code) == ("Inconclusive", 3)
    assert lines[-1] == "  Inconclusive fault idle hit nothing; 7 requests were what it is about"


@pytest.mark.parametrize(
    ("ended", "told"),
    [(1, "the client ended by itself with 1"), (-11, "the client ended by itself by SIGSEGV")],
)
def test_a_client_that_fails_by_itself_fails(ended: int, told: str) -> None:
    lines, code = concluded(seen(creates_lost=1), ended)
    assert (lines[0], code) == ("Failed", 1)
    assert lines[-1] == f"  Failed       {told}"


@pytest.mark.parametrize("ended", [None, 0])
def test_a_client_that_was_ended_or_ended_well_is_not_blamed_for_it(ended: int | None) -> None:
    assert concluded(seen(creates_lost=1), ended)[1] == 0


@pytest.mark.parametrize(("ended", "code"), [(None, 0), (0, 0), (7, 7), (-15, 143)])
def test_an_exit_code_is_told_as_shells_do(ended: int | None, code: int) -> None:
    assert shown_code(ended) == code


def test_of_a_client_outside_of_pods_nobody_counts_how_often_it_is_started() -> None:
    (answer,) = judge(ClientBehavior(max_restarts=0), NOTHING)
    assert (answer.field, answer.result) == ("maxRestarts", UNKNOWN)
    assert "nobody can tell" in answer.seen


def test_who_had_no_occasion_is_spoken_for_by_another_client_and_what_nobody_can_tell_is_not() -> None:
    wanted = ClientBehavior(max_restarts=0, max_duplicate_creates=0)
    known = {**seen(creates_lost=1), "restarts": 0}
    results = {answer.field: answer.result for answer in judge_all(wanted, [known, NOTHING])}
    assert results == {"maxDuplicateCreates": PASSED, "maxRestarts": UNKNOWN}
    ended = {answer.field: answer.result for answer in judge_all(wanted, [NOTHING, {**known, "restarts": 1}])}
    assert ended["maxRestarts"] is FAILED
