"""What is seen of clients: synthetic ones of known habits, on a clock of their own."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.proxy.api.behavior import TRACKED, Behavior
from bounceback.proxy.api.lateness import Lateness
from bounceback.types.api_request import ApiRequest, read

Json = dict[str, Any]
GET = read("GET", "/api/v1/namespaces/shop/configmaps/a")
PUT = read("PUT", "/apis/apps/v1/namespaces/shop/deployments/web")
POST = read("POST", "/api/v1/namespaces/shop/configmaps")
LIST = read("GET", "/api/v1/pods")
WATCH = read("GET", "/api/v1/pods?watch=1")


class Client:
    """Asks, is answered 10 ms later, and waits as it is used to."""

    def __init__(self) -> None:
        self.seen = Behavior()
        self.now = 1000.0

    def ask(
        self,
        request: ApiRequest,
        code: int = 200,
        *,
        fingerprint: int | None = None,
        retry_after: float | None = None,
        by_us: bool = False,
        lost: bool = False,
    ) -> None:
        mark = hash((request.verb, request.path)) if fingerprint is None else fingerprint
        self.seen.asked(request, mark, self.now)
        self.now += 0.01
        self.seen.answered(request, mark, code, self.now, retry_after, by_us, lost)

    def retry(self, request: ApiRequest, code: int, pauses: list[float], retry_after: float | None = None) -> None:
        """Fails, and again after each pause; the last time it succeeds."""
        for pause in pauses:
            self.ask(request, code, retry_after=retry_after, by_us=True)
            self.now += pause
        self.ask(request)

    def watch(self, lives: float, clean: bool, request: ApiRequest = WATCH) -> None:
        self.ask(request)
        self.now += lives
        self.seen.watch_ended(request, self.now, clean)

    @property
    def report(self) -> Json:
        return self.seen.report(self.now)

    def kind(self, verb: str) -> Json:
        found: Json = next(kind for kind in self.report["kinds"] if kind["verb"] == verb)
        return found


@pytest.fixture
def client() -> Client:
    return Client()


def test_of_nobody_there_is_nothing_to_say() -> None:
    report = Behavior().report(5.0)
    assert (report["requests"], report["seconds"]) == (0, 0.0)
    assert report["retries"]["backoff"]["kind"] == "None"
    assert json.loads(json.dumps(report)) == report


def test_requests_are_counted_by_verb_resource_and_code(client: Client) -> None:
    for code in (200, 200, 404):
        client.ask(GET, code)
    client.ask(PUT, 503, by_us=True)
    client.ask(PUT, 0, lost=True, by_us=True)
    client.ask(read("GET", "/api/v1/namespaces/shop/pods/a/log"))
    client.ask(read("GET", "/version"))
    kinds = {(kind["verb"], kind["resource"]): kind for kind in client.report["kinds"]}
    assert set(kinds) == {("get", "configmaps"), ("update", "deployments.apps"), ("get", "pods/log"), ("get", "")}
    assert kinds["get", "configmaps"]["codes"] == {"200": 2, "404": 1}
    put = kinds["update", "deployments.apps"]
    assert (put["codes"], put["lost"], put["byUs"], put["retries"]) == ({"503": 1}, 1, 2, 1)


def test_the_peak_is_of_one_second(client: Client) -> None:
    for n in range(300):
        client.seen.asked(GET, n, 50 + n / 100)  # 100 in a second
    client.seen.asked(GET, 0, 100.0)
    report = client.seen.report(100.0)
    assert 90 <= report["requestsPerSecond"]["peak"] <= 100
    assert report["requestsPerSecond"]["mean"] == pytest.approx(301 / 50, abs=0.01)


@pytest.mark.parametrize(
    ("pauses", "kind"),
    [
        ([0.0] * 12, "Immediate"),
        ([2.0] * 6, "Constant"),
        ([0.5 * 2**n for n in range(6)], "Exponential"),
        ([0.005 * 2**n for n in range(10)], "Exponential"),
    ],
)
def test_the_pauses_of_retries_say_how_it_backs_off(client: Client, pauses: list[float], kind: str) -> None:
    client.retry(GET, 503, pauses)
    retries = client.report["retries"]
    assert (retries["count"], retries["settled"]) == (len(pauses), 1)
    assert retries["backoff"]["kind"] == kind
    assert retries["gapSeconds"]["longest"] == pytest.approx(max(pauses), abs=1e-3)


def test_an_exponential_one_with_the_jitter_of_client_go(client: Client) -> None:
    draw = random.Random(7)
    client.retry(GET, 500, [min(0.8 * 2**n, 30) * (1 + draw.random()) for n in range(9)])
    backoff = client.report["retries"]["backoff"]
    assert (backoff["kind"], backoff["jitter"]) == ("Exponential", True)
    assert backoff["factor"] == pytest.approx(2, rel=0.25)


def test_pauses_that_are_still_going_on_count_too(client: Client) -> None:
    for n in range(5):
        client.ask(GET, 503)
        client.now += 2.0**n
    assert client.report["retries"]["backoff"]["kind"] == "Exponential"
    assert client.report["retries"]["settled"] == 0


def test_most_series_decide_and_all_are_told(client: Client) -> None:
    for name in "abc":
        client.retry(read("GET", f"/api/v1/namespaces/shop/configmaps/{name}"), 503, [1.0] * 4)
    client.retry(PUT, 503, [0.0] * 15)
    backoff = client.report["retries"]["backoff"]
    assert backoff["series"] == {"Constant": 3, "Immediate": 1}
    assert backoff["kind"] == "Constant"


def test_retry_after_is_honored_or_not(client: Client) -> None:
    client.retry(GET, 429, [3.0, 3.0, 3.0], retry_after=3.0)
    client.retry(PUT, 429, [0.5, 0.5, 3.2], retry_after=3.0)
    assert client.report["retryAfter"] == {"asked": 6, "honored": 4, "ignored": 2}


def test_pauses_that_the_server_asked_for_are_not_the_clients_own(client: Client) -> None:
    client.retry(GET, 429, [1.0] * 8, retry_after=1.0)
    assert client.report["retries"]["backoff"]["kind"] == "None"
    client.retry(PUT, 429, [0.0] * 8, retry_after=1.0)
    assert client.report["retries"]["backoff"]["kind"] == "Immediate"


def test_an_answer_that_clients_live_with_is_no_failure(client: Client) -> None:
    for code in (404, 403, 422):
        client.ask(GET, code)
        client.ask(GET, code)
    client.ask(POST, 409)
    client.ask(POST, 409)
    assert client.report["retries"]["count"] == 0


@pytest.mark.parametrize("code", [400, 403, 404, 422])
def test_the_same_from_us_is_a_failure(client: Client, code: int) -> None:
    client.retry(GET, code, [1.0])
    assert client.report["retries"]["count"] == 1


def test_after_a_conflict_the_next_try_has_another_body(client: Client) -> None:
    for body in range(4):
        client.ask(PUT, 409, fingerprint=body)
        client.now += 1.0
    client.ask(PUT, 200, fingerprint=9)
    retries = client.report["retries"]
    assert (retries["count"], retries["settled"], retries["backoff"]["kind"]) == (4, 1, "Constant")


@pytest.mark.parametrize(
    ("answers", "creates"),
    [
        ([], {"lost": 1, "askedAgain": 0, "refused": 0, "duplicated": 0}),
        ([409], {"lost": 1, "askedAgain": 1, "refused": 1, "duplicated": 0}),
        ([201], {"lost": 1, "askedAgain": 1, "refused": 0, "duplicated": 1}),
        ([503, 201], {"lost": 1, "askedAgain": 2, "refused": 0, "duplicated": 1}),
    ],
)
def test_a_create_whose_reply_was_lost(client: Client, answers: list[int], creates: Json) -> None:
    client.ask(POST, 201, lost=True, by_us=True)
    for code in answers:
        client.now += 1.0
        client.ask(POST, code)
    assert client.report["creates"] == creates


def test_a_create_that_never_arrived_makes_no_duplicate(client: Client) -> None:
    client.ask(POST, 0, lost=True, by_us=True)
    client.ask(POST, 201)
    assert client.report["creates"] == {"lost": 0, "askedAgain": 0, "refused": 0, "duplicated": 0}


def test_what_we_answer_ourselves_says_nothing_of_duplicates(client: Client) -> None:
    client.ask(POST, 201, lost=True, by_us=True)
    client.ask(POST, 409, by_us=True)
    assert client.report["creates"]["refused"] == 0
    client.ask(POST, 409)
    assert client.report["creates"]["refused"] == 1


def test_another_create_is_no_duplicate(client: Client) -> None:
    client.ask(POST, 201, fingerprint=1, lost=True)
    client.ask(POST, 201, fingerprint=2)
    assert client.report["creates"]["duplicated"] == 0


def test_a_lost_watch_is_begun_again_with_a_list_or_without(client: Client) -> None:
    client.ask(LIST)
    client.watch(5, clean=False)
    client.now += 1
    client.ask(LIST)
    client.ask(LIST)  # another page
    client.watch(5, clean=False)
    client.now += 1
    client.watch(5, clean=True)
    watches = client.report["watches"]
    assert {key: watches[key] for key in ("ended", "lost", "rewatched", "relisted")} == {
        "ended": 3,
        "lost": 2,
        "rewatched": 2,
        "relisted": 1,
    }
    assert watches["gapSeconds"]["longest"] == pytest.approx(1.0, abs=1e-3)


def test_a_watch_that_is_told_all_first_is_a_list_as_well(client: Client) -> None:
    """So client-go lists since 1.35."""
    told_all = read("GET", "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
    client.watch(5, clean=False, request=told_all)
    client.watch(5, clean=False)
    client.watch(5, clean=False, request=told_all)
    watches = client.report["watches"]
    assert (watches["lost"], watches["relisted"], watches["rewatched"]) == (3, 1, 2)


def test_a_watch_that_is_refused_is_lost(client: Client) -> None:
    client.ask(WATCH, 410)
    client.ask(LIST)
    client.watch(5, clean=True)
    watches = client.report["watches"]
    assert (watches["lost"], watches["relisted"], watches["rewatched"]) == (1, 1, 1)


def test_watches_that_end_in_their_time_are_nothing_to_pause_after(client: Client) -> None:
    for _ in range(30):
        client.watch(300, clean=True)
    watches = client.report["watches"]
    assert (watches["ended"], watches["lost"], watches["backoff"]["kind"]) == (30, 0, "None")
    assert client.report["hotLoops"] == 0


@pytest.mark.parametrize("clean", [True, False])
def test_a_watch_that_is_closed_at_once_and_begun_at_once_is_a_hot_loop(client: Client, clean: bool) -> None:
    for _ in range(200):
        client.watch(0.001, clean)
    assert client.report["hotLoops"] == 1
    assert client.report["watches"]["backoff"]["kind"] == "Immediate"


def test_one_that_backs_off_from_it_is_not(client: Client) -> None:
    for n in range(10):
        client.watch(0.001, clean=False)
        client.now += min(0.8 * 2**n, 30)
    assert client.report["hotLoops"] == 0
    assert client.report["watches"]["backoff"]["kind"] == "Exponential"


def test_after_a_watch_that_was_well_the_pauses_begin_anew(client: Client) -> None:
    for lives in (0.001, 60.0):
        for n in range(5):
            client.watch(lives if n == 0 else 0.001, clean=False)
            client.now += 2.0**n
    assert client.report["watches"]["backoff"]["series"] == {"Exponential": 2}


def test_retries_without_a_pause_are_a_hot_loop_and_many_requests_are_not(client: Client) -> None:
    for n in range(500):
        client.ask(GET, fingerprint=n)
        client.now -= 0.009
    for n in range(100):  # each fails once, as when a server goes down
        client.ask(GET, 503, fingerprint=n)
        client.now -= 0.009
    for n in range(100):
        client.ask(GET, fingerprint=n)
        client.now -= 0.009
    assert client.report["hotLoops"] == 0
    for _ in range(50):
        client.ask(PUT, 503)
    assert client.report["hotLoops"] == 1
    assert client.kind("update")["retries"] == 49


def test_who_does_not_come_again_has_given_up(client: Client) -> None:
    client.retry(PUT, 503, [1.0])
    client.ask(GET, 503)
    assert client.report["retries"]["gaveUp"] == 0
    client.now += 61
    assert client.report["retries"]["gaveUp"] == 1
    client.now += 1000
    client.ask(GET)  # another attempt, of its own
    retries = client.report["retries"]
    assert (retries["gaveUp"], retries["count"]) == (1, 1)
    assert retries["gapSeconds"]["longest"] == pytest.approx(1.0, abs=1e-3)


def test_who_was_told_to_wait_long_has_not_given_up_before(client: Client) -> None:
    client.ask(GET, 503, retry_after=600)
    client.now += 610
    assert client.report["retries"]["gaveUp"] == 0


def test_who_paused_long_before_is_given_as_long_again(client: Client) -> None:
    for pause in (10.0, 20.0, 40.0):
        client.ask(GET, 503)
        client.now += pause
    client.ask(GET, 503)
    client.now += 150
    assert client.report["retries"]["gaveUp"] == 0


def test_what_is_kept_is_bounded(client: Client) -> None:
    for n in range(5 * TRACKED):
        client.ask(GET, 503, fingerprint=n)
        client.watch(0.1, False, read("GET", f"/api/v1/namespaces/n{n}/pods?watch=1"))
        client.ask(read("GET", f"/apis/group{n}/v1/things/a"))
    report = client.report
    assert len(report["kinds"]) <= TRACKED + 1
    assert report["requests"] == sum(kind["count"] for kind in report["kinds"]) == 15 * TRACKED
    assert report["retries"]["forgotten"] == 8 * TRACKED
    assert len(json.dumps(report)) < 64 * 1024


Step = Callable[[Client], None]
STEPS = st.one_of(
    st.builds(
        lambda request, code, mark, wait, by_us, lost: (
            lambda client: client.ask(request, code, fingerprint=mark, retry_after=wait, by_us=by_us, lost=lost)
        ),
        st.sampled_from((GET, PUT, POST, LIST, WATCH)),
        st.sampled_from((0, 200, 201, 401, 404, 409, 410, 429, 503)),
        st.integers(0, 3),
        st.none() | st.floats(0, 10),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(lambda lives, clean: lambda client: client.watch(lives, clean), st.floats(0, 100), st.booleans()),
    st.builds(lambda pause: lambda client: setattr(client, "now", client.now + pause), st.floats(0, 200)),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_the_numbers_agree(steps: list[Step]) -> None:
    client = Client()
    for step in steps:
        step(client)
    report = client.report
    assert report == client.report, "asking changes nothing"
    assert json.loads(json.dumps(report)) == report
    kinds, again = report["kinds"], report["retryAfter"]
    assert report["requests"] == sum(kind["count"] for kind in kinds)
    assert all(sum(kind["codes"].values()) + kind["lost"] <= kind["count"] for kind in kinds)
    assert report["retries"]["count"] <= report["requests"]
    assert again["honored"] + again["ignored"] <= again["asked"]
    assert report["watches"]["relisted"] <= report["watches"]["lost"]
    assert report["creates"]["refused"] + report["creates"]["duplicated"] <= report["creates"]["askedAgain"]


def test_a_watch_that_broke_just_now_is_awaited_as_long_as_the_client_has_paused_before() -> None:
    client = Client()
    for _ in range(2):
        client.watch(5, clean=False)
        client.now += 3
    client.watch(5, clean=False)
    for later, awaited in ((0.5, 1), (5.9, 1), (6.1, 0)):
        assert client.seen.report(client.now + later)["watches"]["awaited"] == awaited
    client.ask(WATCH)
    assert client.report["watches"]["awaited"] == 0


def test_while_it_was_late_itself_nothing_is_said_of_pauses_as_long() -> None:
    """And of those that it measured before or after, what there is to say."""
    client = Client()
    for late in (0.0, 0.6):
        for pause in (0.3, 0.6, 1.2, 2.4):
            client.ask(GET, 500)
            assert client.seen.waits(client.now)
            if late:
                client.seen.late(late)
            client.now += pause
        client.ask(GET)
        assert not client.seen.waits(client.now)
    assert client.report["retries"]["backoff"]["series"] == {"Exponential": 1, "Unknown": 1}


def test_who_never_comes_again_is_not_waited_for_forever() -> None:
    client = Client()
    client.ask(GET, 500)
    assert client.seen.waits(client.now + 59)
    assert not client.seen.waits(client.now + 61)


async def test_lateness_is_measured_while_somebody_waits_and_no_longer() -> None:
    told: list[float] = []
    waits = [True, False]

    class One:
        def waits(self, now: float) -> bool:
            return waits.pop(0)

        def late(self, seconds: float) -> None:
            told.append(seconds)

    lateness = Lateness(One())
    lateness.watch()
    lateness.watch()
    time.sleep(0.4)  # noqa: ASYNC251 - the loop has no turn meanwhile
    async with asyncio.timeout(10):
        while waits:
            await asyncio.sleep(0.01)
    assert told[0] >= 0.25
    count = len(told)
    time.sleep(0.3)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    assert len(told) == count
