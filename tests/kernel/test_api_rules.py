"""Rules for the API, from an agent to the proxy of an armed pod: they come, hit, and go, whatever ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bounceback.types.api_rule import Act, Answer, ApiRule, Crash, Cut, Ending, Requests, Stall
from bounceback.types.choice import Choice
from bounceback.types.pattern import OnOff
from bounceback.types.plan import ApiRules
from bounceback.types.told import Told
from tests.kernel.armed import PATIENCE, PODS, Armed, Authority, api_server, armed
from tests.kernel.lab import GONE_SECONDS, ONE, Lab, order, plan
from tests.kernel.pods import until

READS = (Requests(verbs=("list", "get")),)
NOBODY = 65534
READS_ALL = "+dac_read_search"  # wherever this checkout and its Python are
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", f"--inh-caps={READS_ALL}", f"--ambient-caps={READS_ALL}")


@pytest.fixture
def pod(lab: Lab) -> Iterator[Armed]:
    with armed(lab.target, lab.one, lab.folder) as made:
        yield made


def ruled(act: Act, choice: Choice | None = None, name: str = "it") -> ApiRules:
    return ApiRules(json.dumps([asdict(ApiRule(name, act, READS, choice=choice or Choice()))]))


UNAVAILABLE = ruled(Answer(503))


def said(injection: str = "by-hand", *rules: ApiRule, seconds: float = 30.0) -> dict[str, Any]:
    listed = [asdict(rule) for rule in rules or (ApiRule("it", Answer(503)),)]
    return {"version": 1, "injection": injection, "rules": listed, "notAfter": time.time() + seconds}


def why(lines: list[Any]) -> dict[str, Any]:
    """The detail of how the only order ended."""
    (last,) = [line.detail for line in lines if line.told in (Told.CLEARED, Told.FAILED, Told.REFUSED)]
    return dict(last)


# One agent


def test_rules_come_hit_and_go(lab: Lab, pod: Armed) -> None:
    injection = order(UNAVAILABLE)
    assert pod.ask() == 200
    agent = lab.start(plan(injection))
    assert agent.until(Told.IN_FORCE).detail == {"with": "API proxy"}
    assert [pod.ask() for _ in range(3)] == [503] * 3
    assert pod.ask(method="POST", body=b"{}") == 200
    until(lambda: agent.until(Told.HITS).hits == 3)
    assert agent.control({"stop": True})[0] == 0
    lines = agent.end()
    assert pod.ask() == 200
    assert agent.of(injection.injection)[-2:] == [Told.CLEARED, Told.VERIFIED]
    assert agent.hits(injection.injection) == 3
    told = why(lines)
    assert told["why"] == "Stopped"
    assert told["behavior"]["requests"] == 4
    assert {kind["verb"]: kind.get("byUs", 0) for kind in told["behavior"]["kinds"]} == {"list": 3, "create": 0}
    assert "gaveUp" not in told["behavior"]["retries"]  # what is zero is not told
    assert lines[-2].detail == {"leftovers": []}


def test_an_order_ends_by_itself(lab: Lab, pod: Armed) -> None:
    agent = lab.start(plan(order(UNAVAILABLE, duration=8.0)))
    agent.until(Told.IN_FORCE)
    assert pod.ask() == 503
    assert why(agent.end())["why"] == "Duration"
    assert pod.ask() == 200


def test_what_an_agent_says_of_the_clients_begins_when_it_came(lab: Lab, pod: Armed) -> None:
    for _ in range(5):
        assert pod.ask() == 200
    agent = lab.start(plan(order(UNAVAILABLE)))
    agent.until(Told.IN_FORCE)
    assert pod.ask() == 503
    agent.signal(signal.SIGTERM)
    assert why(agent.end())["behavior"]["requests"] == 1


def test_a_killed_agent_takes_its_rules_along(lab: Lab, pod: Armed) -> None:
    injection = order(UNAVAILABLE)
    agent = lab.start(plan(injection))
    agent.until(Told.IN_FORCE)
    assert pod.ask() == 503
    killed = agent.signal(signal.SIGKILL)

    def free() -> bool:
        assert time.monotonic() - killed < GONE_SECONDS, "when this was asked"
        return pod.ask() == 200

    until(free)
    looking = lab.start(plan(injection), "verify")
    assert looking.until(Told.VERIFIED).detail == {"leftovers": []}


def test_rules_that_are_still_there_are_found(lab: Lab, pod: Armed) -> None:
    left, other = order(UNAVAILABLE), order(UNAVAILABLE)
    agent = pod.agent()
    assert agent.say(said(left.injection))["ok"]
    for each, found in ((left, [f"API rules of {left.injection}"]), (other, [])):
        looking = lab.start(plan(each), "verify")
        assert looking.until(Told.VERIFIED).detail == {"leftovers": found}
    agent.close()


def test_requests_that_are_held_are_reset_when_the_agent_dies(lab: Lab, pod: Armed) -> None:
    agent = lab.start(plan(order(ruled(Cut(Ending.SILENCE)))))
    agent.until(Told.IN_FORCE)
    client = pod.client()
    client.request("GET", PODS)
    agent.until(Told.HITS)
    agent.signal(signal.SIGKILL)
    with pytest.raises(ConnectionError):
        client.getresponse()
    client.close()


def test_a_watch_that_is_open_already_is_stalled_and_reset_in_the_end(lab: Lab, pod: Armed) -> None:
    client = pod.client()
    client.request("GET", f"{PODS}?watch=true")
    answer = client.getresponse()
    assert json.loads(answer.readline())["type"] == "ADDED"
    rules = ApiRules(json.dumps([asdict(ApiRule("it", Stall()))]))
    agent = lab.start(plan(order(rules)))
    assert agent.until(Told.HITS).hits == 1
    agent.control({"stop": True})
    agent.end()
    client.close()


def test_a_pattern_comes_and_goes(lab: Lab, pod: Armed) -> None:
    blinking = order(UNAVAILABLE, duration=60.0, not_after=90.0, pattern=OnOff(on=6.0, off=6.0))
    agent = lab.start(plan(blinking))
    agent.until(Told.IN_FORCE)
    assert pod.ask() == 503
    for share, code in ((0, 200), (100, 503), (0, 200)):
        assert agent.until(Told.STEP).detail["percent"] == share
        assert pod.ask() == code
    agent.signal(signal.SIGTERM)
    agent.end()
    assert agent.hits(blinking.injection) == 2


def test_the_same_seed_makes_the_same_decisions_in_every_injection(lab: Lab, pod: Armed) -> None:
    answers = []
    for _ in range(2):
        agent = lab.start(plan(order(ruled(Answer(503), Choice(probability=0.5, seed=7)))))
        agent.until(Told.IN_FORCE)
        answers.append([pod.ask() for _ in range(16)])
        agent.signal(signal.SIGTERM)
        agent.end()
    assert answers[0] == answers[1]
    assert set(answers[0]) == {200, 503}


def test_two_agents_at_once(lab: Lab, pod: Armed) -> None:
    """Rules of the same name; who came first is asked first. The one's end is not the other's."""
    first, second = order(ruled(Answer(503), Choice(nth=2))), order(ruled(Answer(429)))
    agents = []
    for each in (first, second):
        agents.append(agent := lab.start(plan(each)))
        agent.until(Told.IN_FORCE)
    assert [pod.ask() for _ in range(4)] == [429, 503, 429, 503]
    agents[0].signal(signal.SIGTERM)
    agents[0].end()
    assert [pod.ask() for _ in range(2)] == [429, 429]
    agents[1].signal(signal.SIGTERM)
    agents[1].end()
    assert (agents[0].hits(first.injection), agents[1].hits(second.injection)) == (2, 4)
    assert pod.ask() == 200


# What is refused


def test_a_pod_that_is_not_armed_is_refused(lab: Lab) -> None:
    detail = why(lab.start(plan(order(UNAVAILABLE))).end())
    assert detail["reason"] == "NotArmed"
    assert "bounceback.dev/arm" in detail["message"]


def test_rules_that_the_proxy_cannot_carry_out_are_refused(lab: Lab, pod: Armed) -> None:
    """It cannot kill its clients itself, nor can an agent that does not see them."""
    detail = why(lab.start(plan(order(ruled(Crash())))).end())
    assert detail["reason"] == "NoProcess"
    assert "from their node" in detail["message"]
    refusal = pod.agent().say(said("by-hand", ApiRule("it", Crash())))
    assert "nobody is there" in refusal["error"]
    assert pod.ask() == 200


def test_only_root_and_the_proxys_own_user_may_change_its_rules(pod: Armed) -> None:
    stranger = pod.agent(NOBODY)
    refusal = json.loads(stranger.sock.makefile().readline())
    assert not refusal["ok"]
    assert "root" in refusal["error"]
    stranger.close()
    assert pod.ask() == 200


def test_a_proxy_that_is_not_root_takes_rules_from_its_own_user(lab: Lab) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("needs util-linux's setpriv")
    lab.folder.chmod(0o755)
    pod = Armed(lab.target, lab.folder, Authority())
    pod.prepare()
    for name in ("account", "shown", "kept"):
        os.chown(lab.folder / name, NOBODY, NOBODY)
    with api_server(lab.one, pod.authority.context(lab.folder, ONE)):
        try:
            pod.start(AS_NOBODY)
            for user in (0, NOBODY):
                agent = pod.agent(user)
                assert agent.say(said())["ok"], user
                assert pod.ask() == 503
                agent.close()
                until(lambda: pod.ask() == 200)
            assert (lab.folder / "kept" / "authority.pem").stat().st_mode & 0o777 == 0o600
            assert (lab.folder / "shown" / "ca.crt").stat().st_mode & 0o777 == 0o644
        finally:
            pod.close()


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ({"hits": True}, "begin"),
        ({"rules": []}, "begin"),
        ([], "object"),
        ({"version": 2, "injection": "x", "rules": [], "notAfter": 1e12}, "version"),
        ({"version": 1, "injection": "x", "rules": []}, "notAfter"),
        ({"version": 1, "injection": "x", "rules": [], "notAfter": 1.0}, "later"),
        ({"version": 1, "injection": "", "rules": [], "notAfter": 1e12}, "name"),
        ({"version": 1, "injection": "x", "rules": [{"name": "it"}], "notAfter": 1e12}, "act"),
    ],
)
def test_what_is_no_word_of_an_agent_changes_nothing(lab: Lab, pod: Armed, word: Any, part: str) -> None:
    agent = pod.agent()
    answer = agent.say(word)
    assert answer["ok"] is False
    assert part in answer["error"], answer
    assert agent.say({"inForce": True}) == {"injections": []}
    agent.close()


def test_rules_of_one_name_are_refused_and_those_before_stay(pod: Armed) -> None:
    agent = pod.agent()
    assert agent.say(said())["ok"]
    twice = [asdict(ApiRule("it", Answer(429)))] * 2
    assert agent.say({"rules": twice})["ok"] is False
    assert pod.ask() == 503
    other = pod.agent()
    assert other.say(said("other"))["ok"]  # what was refused stands in nobody's way
    agent.close()
    other.close()


# Who ends first


def test_the_proxy_drops_rules_whose_time_is_over(pod: Armed) -> None:
    """Also where an agent that hangs keeps its connection."""
    agent = pod.agent()
    assert agent.say(said(seconds=8.0))["ok"]
    assert pod.ask() == 503
    assert until(lambda: pod.ask() == 200) < 8.0 + GONE_SECONDS
    assert agent.say({"rules": said()["rules"]})["ok"] is False
    assert pod.ask() == 200
    assert agent.say({"hits": True})["hits"] >= 1
    agent.close()


def test_an_agent_that_begins_what_another_one_began_succeeds_it(pod: Armed) -> None:
    former, latter = pod.agent(), pod.agent()
    assert former.say(said("same"))["ok"]
    assert pod.ask() == 503
    assert latter.say(said("same", ApiRule("it", Answer(429))))["ok"]
    assert pod.ask() == 429
    assert former.sock.recv(1) == b""
    assert latter.say({"hits": True})["hits"] == 1
    former.close()
    assert pod.ask() == 429
    latter.close()
    until(lambda: pod.ask() == 200)


def test_a_proxy_that_is_killed_fails_the_injection_and_comes_back_without_rules(lab: Lab, pod: Armed) -> None:
    agent = lab.start(plan(order(UNAVAILABLE)))
    agent.until(Told.IN_FORCE)
    assert pod.ask() == 503
    trusted = (lab.folder / "shown" / "ca.crt").read_bytes()
    pod.kill()
    assert "ended and took its rules along" in why(agent.end())["message"]
    pod.close()
    pod.start()
    assert (lab.folder / "shown" / "ca.crt").read_bytes() == trusted
    assert pod.ask() == 200


def test_a_pod_that_ends_in_order_is_no_failure(lab: Lab, pod: Armed) -> None:
    agent = lab.start(plan(order(UNAVAILABLE)))
    agent.until(Told.IN_FORCE)
    assert pod.process is not None
    pod.process.terminate()
    assert why(agent.end())["why"] == "TargetGone"
    assert pod.process.wait(PATIENCE) == 0
    assert pod.complaints() == ""


def test_a_proxy_that_hangs_fails_the_injection(lab: Lab, pod: Armed, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = lab.start(plan(order(UNAVAILABLE)))
    agent.until(Told.IN_FORCE)
    assert pod.process is not None
    pod.process.send_signal(signal.SIGSTOP)
    try:
        failed = agent.until(Told.FAILED, seconds=40)
    finally:
        pod.process.send_signal(signal.SIGCONT)
    assert "not answered" in failed.detail["message"]
    agent.end()
    until(lambda: pod.ask() == 200)


# The proxy itself


def test_the_cluster_gets_another_authority(lab: Lab) -> None:
    """Clients that read their file again know it, and so does the proxy; connections with the former one stay."""
    pod = Armed(lab.target, lab.folder, Authority())
    pod.prepare()
    try:
        with api_server(lab.one, pod.authority.context(lab.folder, ONE)):
            pod.start()
            stays = pod.client()
            stays.request("GET", PODS)
            stays.getresponse().read()
            pod.authority = Authority()
            pod.give(pod.authority)
        with api_server(lab.one, pod.authority.context(lab.folder, ONE)):
            until(lambda: pod.ask() == 200, seconds=40)
        assert pod.authority.pem in (lab.folder / "shown" / "ca.crt").read_bytes()
        stays.close()
    finally:
        pod.close()


def test_an_api_server_of_another_cluster_is_not_spoken_to(lab: Lab) -> None:
    pod = Armed(lab.target, lab.folder, Authority())
    pod.prepare()
    with api_server(lab.one, Authority().context(lab.folder, ONE)):
        try:
            pod.start()
            assert [pod.ask() for _ in range(3)] == [0] * 3
            pod.kill()
            complaints = pod.complaints()
            assert complaints.count("CERTIFICATE_VERIFY_FAILED") == 1, complaints  # not once for each client
            assert ONE in complaints
        finally:
            pod.close()


def test_what_the_other_containers_find(lab: Lab, pod: Armed) -> None:
    """Ours first, the cluster's after it, and the kubelet's own files where they have them now."""
    content = (lab.folder / "shown" / "ca.crt").read_bytes()
    assert content.count(b"BEGIN CERTIFICATE") == 2
    assert content.endswith(pod.authority.pem)
    assert b"PRIVATE" not in content
    assert {name: str((lab.folder / "shown" / name).readlink()) for name in ("token", "namespace")} == {
        name: f"/var/run/secrets/bounceback.dev/serviceaccount/{name}" for name in ("token", "namespace")
    }


def test_it_listens_on_loopback_only(lab: Lab, pod: Armed) -> None:
    assert pod.process is not None
    found = [line.split() for line in Path(f"/proc/{pod.process.pid}/net/tcp").read_text().splitlines()[1:]]
    listening = {parts[1].split(":")[0] for parts in found if parts[3] == "0A"}
    assert listening == {"0100007F"}


def test_its_client_s_token_goes_on_as_it_is(pod: Armed) -> None:
    client = pod.client()
    client.request("GET", PODS, headers={"Authorization": "Bearer of-the-pod"})
    assert json.loads(client.getresponse().read()) == {"asked": PODS, "as": "Bearer of-the-pod"}
    client.close()


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"KUBERNETES_SERVICE_HOST": ""}, "KUBERNETES_SERVICE_HOST"),
        ({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "15443"}, "own"),
        ({"BOUNCEBACK_GATE_PORT": "none"}, "BOUNCEBACK_GATE_PORT"),
    ],
)
def test_a_proxy_that_cannot_begin_says_why(lab: Lab, changed: dict[str, str], part: str) -> None:
    pod = Armed(lab.target, lab.folder, Authority(), changed=changed)
    pod.prepare()
    with pytest.raises(AssertionError, match=part):
        pod.start()
    pod.close()


def test_it_is_not_ready_before_all_of_it_is_there(lab: Lab, pod: Armed) -> None:
    assert pod.ready().returncode == 0
    for name in ("ca.crt", "token"):
        file = lab.folder / "shown" / name
        file.rename(lab.folder / "aside")
        assert name in (missing := pod.ready()).stderr
        assert missing.returncode == 1
        (lab.folder / "aside").rename(file)
    pod.kill()
    assert pod.ready().returncode == 1


def test_an_idle_proxy_is_small(pod: Armed) -> None:
    """What it counts for in its container's limit, and more: it shares much of it with others on the node."""
    assert pod.process is not None
    assert pod.ask() == 200
    text = Path(f"/proc/{pod.process.pid}/status").read_text()
    (resident,) = [int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")]
    assert resident < 36 * 1024
