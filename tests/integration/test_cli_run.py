"""`bounceback run`, `cancel` and `status` at a real API server; what an operator does there is scripted."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from bounceback.cli.cluster import CHECKS, EXPERIMENTS, Cluster
from tests.commands import PROJECT, Commands, until
from tests.finished_runs import RUNS
from tests.integration.scripted import ScriptedOperator
from tests.line import Relay
from tests.run_parts import Json
from tests.spec_case import CHECK, EXPERIMENT

Files = Callable[..., str]
WEB = {
    "apiVersion": "bounceback.dev/v1alpha1",
    "kind": "RecoveryCheck",
    "metadata": {"name": "web-healthy"},
    "spec": CHECK,
}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Writes objects to a file; its name."""

    def write(*objects: Json) -> str:
        file = tmp_path / f"given-{len(list(tmp_path.iterdir()))}.yaml"
        file.write_text(yaml.safe_dump_all(objects, sort_keys=False))
        return str(file)

    return write


@pytest.fixture(autouse=True)
def _clean(api: Cluster, place: str) -> Iterator[None]:
    yield
    for kind in (EXPERIMENTS, CHECKS):
        for body in api.list(kind, place):
            api.delete(kind, place, body["metadata"]["name"], body["metadata"]["uid"])


def experiment(name: str, spec: Json | None = None) -> Json:
    return {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": "FaultExperiment",
        "metadata": {"name": name},
        "spec": spec or EXPERIMENT,
    }


def test_a_person_says_that_a_repair_is_done_once_it_is_asked_for(api: Cluster, place: str, commands: Commands) -> None:
    spec = {**EXPERIMENT, "expect": "Manual", "repair": {"byHand": {"instruction": "Renew the certificate."}}}
    for name, asked in (("web-manual", spec), ("web-slow", EXPERIMENT)):
        api.create(EXPERIMENTS, {**experiment(name, asked), "metadata": {"name": name, "namespace": place}})
    refused = commands.bounceback("repaired", "web-slow", "--namespace", place)
    assert (refused.code, "has no spec.repair.byHand" in refused.err) == (2, True)
    refused = commands.bounceback("repaired", "web-manual", "--namespace", place)
    assert (refused.code, "is not waiting for a repair: it is Pending" in refused.err) == (2, True)
    repair = {"name": "bounceback-repair-0123456789", "state": "Running"}
    api.patch(
        EXPERIMENTS, place, "web-manual", {"status": {"phase": "Repairing", "repair": repair}}, subresource="status"
    )
    assert commands.bounceback("repaired", "web-manual", "--namespace", place).code == 0
    (said,) = [body for body in api.list(EXPERIMENTS, place) if body["metadata"]["name"] == "web-manual"]
    assert said["metadata"]["annotations"]["bounceback.dev/repaired"] == repair["name"]


def status_of(run: str) -> Json:
    status: Json = RUNS[run]()["status"]
    return status


def finished(api: Cluster, place: str, name: str, run: str) -> None:
    """One that has run before."""
    spec = RUNS[run]()["spec"]
    api.create(EXPERIMENTS, {**experiment(name, spec), "metadata": {"name": name, "namespace": place}})
    api.patch(EXPERIMENTS, place, name, {"status": status_of(run)}, subresource="status")


def started(commands: Commands, *words: str, kubeconfig: str = "") -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "bounceback", words[0], "--kubeconfig", kubeconfig or commands.kubeconfig, *words[1:]]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=PROJECT, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_ctrl_c)


def hear_ctrl_c() -> None:
    """As in a terminal: tests that run in the background of a script have inherited that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(
    ("run", "code"),
    [("passed", 0), ("failed", 1), ("inconclusive", 3), ("aborted", 4), ("error", 5)],
)
def test_the_exit_code_is_the_verdict(
    commands: Commands, api: Cluster, place: str, files: Files, run: str, code: int
) -> None:
    with ScriptedOperator(api, place, "web-slow", status_of(run)):
        result = commands.bounceback(
            "run", "-n", place, "--wait", files(WEB, experiment("web-slow", RUNS[run]()["spec"]))
        )
    assert result.code == code, result.err
    assert f"\n{status_of(run)['verdict']} " in result.out


def test_progress_is_one_line_an_event_and_then_the_summary(
    commands: Commands, api: Cluster, place: str, files: Files
) -> None:
    with ScriptedOperator(api, place, "web-slow", status_of("passed")):
        result = commands.bounceback(
            "run", "-n", place, "--wait", files(WEB, experiment("web-slow", RUNS["passed"]()["spec"]))
        )
    lines = result.out.splitlines()
    events = [line.split()[3] for line in lines[: lines.index("")]]
    assert events == ["Steady", "Injecting", "Active", "Clearing", "Recovering", "Verifying", "Finished"]
    assert lines[0] == "web-slow     0.4 s  Steady       2 pods chosen"
    assert lines[lines.index("") + 1] == (
        "web-slow  steady 5.0 s ▸ slow on 2/4 pods ▸ active after 0.9 s (1,284 packets delayed) ▸ cleared"
        " ▸ recovered in 1.5 s ±0.2"
    )
    assert lines[-1] == "Passed    injection Proven · recovery Passed · consistency Passed · cleanup Clean"
    assert api.get(CHECKS, place, "web-healthy") is not None


def test_json_is_one_object_a_line(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    with ScriptedOperator(api, place, "web-slow", status_of("passed")):
        file = files(WEB, experiment("web-slow", RUNS["passed"]()["spec"]))
        result = commands.bounceback("run", "-n", place, "--wait", "-o", "json", file)
    *events, last = (json.loads(line) for line in result.out.splitlines())
    assert [event["event"] for event in events][-1] == "Finished"
    assert {event["type"] for event in events} == {"event"}
    assert (last["type"], last["verdict"], last["experiment"]) == ("finished", "Passed", "web-slow")
    assert last["status"]["axes"]["injection"] == "Proven"


def test_without_wait_it_is_begun_and_left(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    result = commands.bounceback("run", "-n", place, files(WEB, experiment("web-slow")))
    assert result.code == 0
    assert f"{place}/web-slow begun; see it with: bounceback status -n {place} web-slow" in result.out
    assert api.get(EXPERIMENTS, place, "web-slow") is not None


def test_a_check_is_updated(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    commands.bounceback("run", "-n", place, files(WEB, experiment("first")))
    changed = {**WEB, "spec": {**CHECK, "recovered": {"stableSeconds": 7}}}
    assert commands.bounceback("run", "-n", place, files(changed, experiment("second"))).code == 0
    check = api.get(CHECKS, place, "web-healthy")
    assert check is not None
    assert check["spec"]["recovered"]["stableSeconds"] == 7


def test_bad_files_change_nothing(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    bad = experiment("web-slow", {**EXPERIMENT, "expect": "Survive"})
    result = commands.bounceback("run", "-n", place, "--wait", files(WEB, bad))
    assert result.code == 2
    assert re.search(r":\d+:\d+: error: spec\.expect: must be one of Recover, FailSafe, Manual", result.err)
    assert api.list(CHECKS, place) == api.list(EXPERIMENTS, place) == []


def test_a_check_that_is_nowhere_is_named_before_anything_begins(
    commands: Commands, api: Cluster, place: str, files: Files
) -> None:
    other = {**WEB, "metadata": {"name": "db-healthy"}}
    result = commands.bounceback("run", "-n", place, "--wait", files(other, experiment("web-slow")))
    assert result.code == 2
    told = f"spec.checks[0].name: there is no RecoveryCheck web-healthy in {place}; it must be one of db-healthy"
    assert told in result.err
    assert api.list(EXPERIMENTS, place) == []


def test_a_namespace_that_is_not_there_is_told(commands: Commands, files: Files, api: Cluster) -> None:
    result = commands.bounceback("run", "-n", "bb-nowhere", files(WEB, experiment("web-slow")))
    assert result.code == 2
    assert 'namespaces "bb-nowhere" not found' in result.err
    assert "RecoveryCheck web-healthy" in result.err


def test_two_namespaces_must_agree(commands: Commands, place: str, files: Files, api: Cluster) -> None:
    placed = experiment("web-slow")
    placed["metadata"]["namespace"] = "other"
    result = commands.bounceback("run", "-n", place, files(WEB, placed))
    assert result.code == 2
    assert f"metadata.namespace is other, and -n says {place}" in result.err


def test_what_has_run_runs_again_only_when_asked_to(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    finished(api, place, "web-slow", "passed")
    file = files(WEB, experiment("web-slow", RUNS["passed"]()["spec"]))
    result = commands.bounceback("run", "-n", place, "--wait", file)
    assert result.code == 2
    assert f"{place}/web-slow has run already (Passed), and an experiment runs once; pass --replace" in result.err
    before = api.get(EXPERIMENTS, place, "web-slow")
    assert commands.bounceback("run", "-n", place, "--replace", file).code == 0
    after = api.get(EXPERIMENTS, place, "web-slow")
    assert before is not None and after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_what_runs_already_is_followed_or_refused(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    spec = RUNS["passed"]()["spec"]
    commands.bounceback("run", "-n", place, files(WEB, experiment("web-slow", spec)))
    other = commands.bounceback("run", "-n", place, "--wait", files(WEB, experiment("web-slow", {**spec, "seed": 9})))
    assert other.code == 2
    assert "is running with another spec, which is fixed once it has started" in other.err
    process = started(commands, "run", "-n", place, "--wait", files(WEB, experiment("web-slow", spec)))
    assert process.stderr is not None
    assert process.stderr.readline() == f"{place}/web-slow is running already; following it\n"
    with ScriptedOperator(api, place, "web-slow", status_of("passed")):
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_several_run_one_after_another(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    spec = RUNS["passed"]()["spec"]
    file = files(WEB, experiment("first", spec), experiment("second", spec))
    assert commands.bounceback("run", "-n", place, file).code == 2
    seen: list[int] = []
    first = ScriptedOperator(api, place, "first", status_of("failed"))
    first.at_step = lambda step: seen.append(len(api.list(EXPERIMENTS, place)))
    with first, ScriptedOperator(api, place, "second", status_of("passed")):
        result = commands.bounceback("run", "-n", place, "--wait", file)
    assert set(seen) == {1}
    assert result.code == 1
    assert result.out.index("first ") < result.out.index("second ")


def test_several_run_at_once_when_asked_to(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    spec = RUNS["passed"]()["spec"]
    both = threading.Barrier(2, timeout=30)

    def meet(step: int) -> None:
        if step == 1:
            both.wait()

    scripts = [ScriptedOperator(api, place, name, status_of("passed")) for name in ("first", "second")]
    for script in scripts:
        script.at_step = meet
    with scripts[0], scripts[1]:
        file = files(WEB, experiment("first", spec), experiment("second", spec))
        result = commands.bounceback("run", "-n", place, "--wait", "--parallel", file)
    assert result.code == 0
    assert result.out.count("\nPassed ") == 2


def test_ctrl_c_cancels_and_goes_on_waiting(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    with ScriptedOperator(api, place, "web-slow", status_of("aborted"), hold=True):
        process = started(commands, "run", "-n", place, "--wait", files(WEB, experiment("web-slow")))
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 4, err
    assert "cancelling; press Ctrl-C again to leave" in err
    assert "Aborted" in out


def test_ctrl_c_twice_leaves(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    process = started(commands, "run", "-n", place, "--wait", files(WEB, experiment("web-slow")))
    until(lambda: api.get(EXPERIMENTS, place, "web-slow"), "the experiment")
    begun = {"phase": "Steady", "timeline": status_of("passed")["timeline"][:1]}
    api.patch(EXPERIMENTS, place, "web-slow", {"status": begun}, subresource="status")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert "cancelling; press Ctrl-C again to leave" in process.stderr.readline()
    until(lambda: (api.get(EXPERIMENTS, place, "web-slow") or {})["spec"]["cancel"], "the cancel")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"left as it is: {place}/web-slow" in err


@pytest.mark.parametrize(("keep", "code", "cancelled"), [(False, 4, True), (True, 3, False)])
def test_a_time_limit_cancels_or_leaves(
    commands: Commands, api: Cluster, place: str, files: Files, keep: bool, code: int, cancelled: bool
) -> None:
    words = ["run", "-n", place, "--wait", "--timeout", "2", files(WEB, experiment("web-slow"))]
    if keep:
        result = commands.bounceback(*words, "--keep")
    else:
        with ScriptedOperator(api, place, "web-slow", status_of("aborted"), hold=True):
            result = commands.bounceback(*words)
    assert result.code == code, result.err
    assert "not finished within --timeout" in result.err
    body = api.get(EXPERIMENTS, place, "web-slow")
    assert body is not None
    assert body["spec"]["cancel"] is cancelled


def test_what_is_deleted_while_it_runs_is_an_error(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    process = started(commands, "run", "-n", place, "--wait", files(WEB, experiment("web-slow")))
    body = until(lambda: api.get(EXPERIMENTS, place, "web-slow"), "the experiment")
    api.delete(EXPERIMENTS, place, "web-slow", body["metadata"]["uid"])
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "was deleted while it ran" in err


def test_a_cut_connection_is_taken_up_again(
    commands: Commands, api: Cluster, place: str, files: Files, tmp_path: Path
) -> None:
    """Cut after every step: nothing is missed, nothing is told twice."""
    with cut_way(commands.kubeconfig, tmp_path) as (path, cut):
        script = ScriptedOperator(api, place, "web-slow", status_of("passed"))

        def at_step(step: int) -> None:
            time.sleep(0.5)  # for the command to have come so far
            cut()

        script.at_step = at_step
        with script:
            file = files(WEB, experiment("web-slow", RUNS["passed"]()["spec"]))
            process = started(commands, "run", "-n", place, "--wait", file, kubeconfig=path)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = out.splitlines()
    events = [line.split()[3] for line in lines[: lines.index("")]]
    assert events == ["Steady", "Injecting", "Active", "Clearing", "Recovering", "Verifying", "Finished"]
    assert "is out of sight, trying again" in err


class cut_way:  # noqa: N801 - reads as the function that it is
    """A way to the API server, in a thread of its own, and what cuts it."""

    def __init__(self, kubeconfig: str, folder: Path) -> None:
        self._text = Path(kubeconfig).read_text()
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> tuple[str, Callable[[], None]]:
        found = re.search(r'server"?: "?(https://([^:/"\s]+):(\d+))', self._text)
        assert found is not None
        relay = Relay(found[2], int(found[3]))
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(relay.serve, "127.0.0.1", 0), self._loop
        ).result()
        self._server = server
        port = server.sockets[0].getsockname()[1]
        path = self._folder / "cut-kubeconfig"
        path.write_text(self._text.replace(found[1], f"https://127.0.0.1:{port}"))
        return str(path), lambda: self._soon(relay.cut)

    def _soon(self, act: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(act)

    def __exit__(self, *_: object) -> None:
        self._soon(self._server.close)
        self._soon(self._loop.stop)
        self._thread.join(10)


def test_cancel_waits_for_the_end(commands: Commands, api: Cluster, place: str, files: Files) -> None:
    commands.bounceback("run", "-n", place, files(WEB, experiment("web-slow")))
    with ScriptedOperator(api, place, "web-slow", status_of("aborted"), hold=True):
        result = commands.bounceback("cancel", "-n", place, "web-slow", "--wait")
    assert result.code == 0, result.err
    assert "Aborted" in result.out
    again = commands.bounceback("cancel", "-n", place, "web-slow")
    assert again.code == 2
    assert "is finished already: Aborted" in again.err


def test_cancelling_what_is_not_there_says_so(commands: Commands, api: Cluster, place: str) -> None:
    result = commands.bounceback("cancel", "-n", place, "nothing")
    assert result.code == 2
    assert f"there is no FaultExperiment nothing in {place}" in result.err


def test_status_is_a_table_or_one_in_full(commands: Commands, api: Cluster, place: str) -> None:
    assert f"no experiments in {place}" in commands.bounceback("status", "-n", place).out
    finished(api, place, "web-slow", "passed")
    finished(api, place, "web-cut-off", "failed")
    head, *rows = (line.split() for line in commands.bounceback("status", "-n", place).out.splitlines())
    assert head == ["NAME", "VERDICT", "PHASE", "DETECTED", "RECOVERED", "INJECTION", "AGE"]
    assert [row[:5] for row in rows][1] == ["web-slow", "Passed", "Finished", "0.4s", "1.5s"]
    assert len(commands.bounceback("status", "-A").out.splitlines()) >= 3
    full = commands.bounceback("status", "-n", place, "web-slow").out
    assert "first symptom   7.4 s ±0.2 s" in full
    assert "web-6f9c7d5b8-2xkqp   node-1   Sidecar" in full
    told = json.loads(commands.bounceback("status", "-n", place, "-o", "json", "web-slow").out)
    assert told["status"]["verdict"] == "Passed"


def test_a_report_comes_from_the_cluster(commands: Commands, api: Cluster, place: str, tmp_path: Path) -> None:
    finished(api, place, "web-slow", "passed")
    page = tmp_path / "page.html"
    result = commands.bounceback("report", "-n", place, "web-slow", "-o", "html", "--file", str(page))
    assert result.code == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_freeze_is_a_config_map_with_a_reason(commands: Commands, api: Cluster, place: str) -> None:
    words = ["freeze", "--operator-namespace", place]
    assert commands.bounceback(*words, "--reason", "quarter end").code == 0
    assert commands.bounceback(*words, "--reason", "year end").code == 0
    assert commands.get("configmap", "bounceback-freeze", "--namespace", place)["data"] == {"reason": "year end"}
    shown = commands.bounceback("status", "-n", place, "--operator-namespace", place).out
    assert "all experiments are frozen: year end" in shown
    assert "not frozen" in commands.bounceback(*words, "--off").out
    assert "nothing was frozen" in commands.bounceback(*words, "--off").out


def test_the_rights_that_access_prints_can_be_applied(commands: Commands, api: Cluster, place: str) -> None:
    result = commands.bounceback("access", place)
    assert result.code == 0, result.err
    commands.kubectl("apply", "-f", "-", stdin=result.out)
    assert commands.get("serviceaccount", "bounceback", "--namespace", place)["kind"] == "ServiceAccount"
