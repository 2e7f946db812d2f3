"""Looks through the API at a real cluster: events, logs, commands, Jobs, Secrets; with the account's rights only."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.probes import Probe
from bounceback.controller.copying import copy_checks
from bounceback.controller.events import Recorder
from bounceback.engine.reading import Seen, first_holding, read
from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.resources import CHECKS, EVENTS, JOBS, SECRETS
from bounceback.recovery.asking import look_of
from bounceback.recovery.errors import CannotLookError
from bounceback.recovery.judging import nothing_said
from bounceback.recovery.means import Means
from bounceback.recovery.observing import ObservationError, observe
from bounceback.recovery.watching import Watching
from bounceback.types.instants import Instant
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.errors import Refused
from tests import real_servers
from tests.commands import Commands
from tests.conftest import ACCOUNT, OPERATOR, apply, until_known
from tests.integration.looking import NO_SEAL
from tests.workload import pod, running

ROLES = Resource("rbac.authorization.k8s.io/v1", "roles")


WRITER = """
import os, sys
os.path.exists("/tmp/p") or os.mkfifo("/tmp/p")
print("panic: an old one", flush=True)
while True:
    with open("/tmp/p") as pipe:
        for line in pipe:
            print(line, end="", flush=True)
            if "die" in line:
                sys.exit(1)
"""
"""Writes to its log what is written to its pipe, and dies where that is asked."""


@asynccontextmanager
async def looking(acting: Kube, namespace: str, **spec: Any) -> AsyncIterator[tuple[Watching, Seen]]:
    check = RecoveryCheckSpec.model_validate(
        {"probes": [{"name": "x", "tcp": {"host": "127.0.0.1", "port": 1}}], **spec}
    )
    async with Watching(acting, namespace, [("c", check)], None, lambda: None) as watching:
        yield (
            watching,
            Seen("c", check, watching.histories("c"), watching.detections("c"), {}, watching.categories("c")),
        )


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def event(name: str, reason: str, message: str, **fields: Any) -> dict[str, Any]:
    involved = {"apiVersion": "v1", "kind": "ConfigMap", "name": "web"}
    return {
        "metadata": {"name": name},
        "involvedObject": involved,
        "reason": reason,
        "message": message,
        "type": "Warning",
        **fields,
    }


async def make_event(kube: Kube, namespace: str, *words: str) -> None:
    body = event(*words)
    body["involvedObject"]["namespace"] = namespace
    await kube.create(EVENTS, namespace, body)


async def test_events_are_moments_and_say_what_the_trouble_is(kube: Kube, acting: Kube, namespace: str) -> None:
    await make_event(kube, namespace, "old", "StoreDown", "from before")
    signal = {"event": {"type": "Warning", "name": "web"}, "category": "event.reason == 'StoreDown'"}
    only = {"event": {"reason": "StoreDown", "expression": "event.message.contains('redis')"}}
    quiet = {"name": "quiet", "event": {"name": "web", "absentSeconds": 2}}
    spec = {"probes": [quiet], "detection": [{"name": "any", **signal}, {"name": "only", **only}]}
    async with looking(acting, namespace, **spec) as (watching, seen):
        every = {**seen.detection, **seen.probes}
        await until(lambda: all(history.samples >= 2 for history in every.values()))
        assert not any(seen.detection[name].healthy_samples for name in ("any", "only")), "what was there before"
        about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": namespace, "uid": "1"}}
        await Recorder(kube, "us").record(about, "StoreDown", "redis: what we say ourselves", warning=True)
        assert seen.probes["quiet"].healthy_samples == seen.probes["quiet"].samples

        since = Instant.now()
        await make_event(kube, namespace, "first", "SlowAnswer", "the store is slow")
        told = Instant.now()
        await until(lambda: first_holding(seen.detection["any"], since))
        interval = first_holding(seen.detection["any"], since)
        assert interval is not None
        assert interval.earliest.since(told) <= 0 <= interval.latest.since(since)
        assert not seen.detection["any"].runs[-1].healthy, "a moment, and no state"
        assert first_holding(seen.detection["only"], since) is None
        health = read([seen], watching.problems(), since, None, None, Instant.now())
        assert health.named_rightly is False
        (wrong,) = health.named_wrongly
        assert wrong == "c/any: event.reason == 'StoreDown' is false; it said SlowAnswer: the store is slow"
        await until(lambda: "SlowAnswer: the store is slow" in seen.probes["quiet"].messages)

        await make_event(kube, namespace, "second", "StoreDown", "redis is gone")
        await until(lambda: first_holding(seen.detection["only"], since))
        await until(lambda: read([seen], (), since, None, None, Instant.now()).named_rightly)
        await until(lambda: seen.probes["quiet"].runs[-1].healthy)
        assert not any("ourselves" in message for message in seen.probes["quiet"].messages)
        seen_twice = seen.detection["only"].healthy_samples
        await kube.patch(EVENTS, namespace, "second", {"count": 2})
        await until(lambda: seen.detection["only"].healthy_samples > seen_twice)
        assert watching.problems() == []


async def shell(acting: Kube, namespace: str, name: str, *command: str) -> None:
    code, output, errors = await acting.exec(namespace, name, "main", command)
    assert code == 0, output + errors


async def test_lines_of_logs(kube: Kube, acting: Kube, namespace: str) -> None:
    spec = pod("web", "python3", "-c", WRITER, volumes=[{"name": "tmp", "emptyDir": {}}])
    spec["spec"]["containers"][0]["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    await running(kube, namespace, [spec])

    async def say(line: str) -> None:
        program = f"open('/tmp/p', 'w').write({line!r} + chr(10))"
        dies = (AssertionError, KubeError) if "die" in line else ()  # whoever is at work in the container, too
        with contextlib.suppress(*dies):
            await shell(acting, namespace, "web", "python3", "-c", program)

    web = {"pods": {"selector": {"matchLabels": {"app": "web"}}}}
    checks = {
        "probes": [{"name": "no-panic", "log": {**web, "contains": "panic", "absentSeconds": 2}}],
        "detection": [
            {
                "name": "error",
                "log": {**web, "expression": "json.level == 'error'"},
                "category": "json.about == 'store'",
            },
            {"name": "any-panic", "log": {"pods": {"name": "web"}, "contains": "panic"}},
        ],
    }
    async with looking(acting, namespace, **checks) as (watching, seen):
        error, panic, healthy = seen.detection["error"], seen.detection["any-panic"], seen.probes["no-panic"]
        await until(lambda: error.samples >= 2 and panic.samples >= 2 and healthy.samples >= 2)
        assert panic.healthy_samples == 0, "what was written before does not count"
        since = Instant.now()
        await say('{"level": "error", "about": "store"}')
        told = Instant.now()
        await until(lambda: first_holding(error, since))
        interval = first_holding(error, since)
        assert interval is not None and interval.earliest.since(told) <= 0 <= interval.latest.since(since)
        await until(lambda: read([seen], (), since, None, None, Instant.now()).named_rightly)
        assert panic.healthy_samples == 0
        await say("panic: and die")
        await until(lambda: panic.healthy_samples, 90)
        await until(lambda: "panic: and die" in healthy.messages)
        await until(lambda: healthy.runs[-1].healthy)
        assert panic.healthy_samples >= 1
        assert watching.problems() == []


async def looked(means: Means, **look: Any) -> str | None:
    probe = Probe.model_validate({"name": "it", "timeoutMilliseconds": 60_000, **look})
    return await look_of(means, probe, nothing_said)()


async def test_commands_that_do_not_end_in_time_do_not_pile_up(kube: Kube, acting: Kube, namespace: str) -> None:
    """Twenty samples are due while the first one's command sleeps: no other follows before it ends; then one does."""
    await running(kube, namespace, [pod("web", "python3", "-c", "import time; time.sleep(3600)")])
    count = (
        "import glob; print(sum(b'time.sleep(4)' in open(p, 'rb').read() and b'glob' not in open(p, 'rb').read() "
        "for p in glob.glob('/proc/[0-9]*/cmdline')))"
    )
    slow = {"pods": {"name": "web"}, "command": ["python3", "-c", "import time; time.sleep(4)"]}
    probe = {"name": "slow", "exec": slow, "periodMilliseconds": 200, "timeoutMilliseconds": 500}
    async with looking(acting, namespace, probes=[probe]) as (watching, seen):
        await until(lambda: any("timed out after 500 ms" in m for m in seen.probes["slow"].messages))
        await until(lambda: watching.problems())
        assert "the command of an earlier look goes on in container main of pod web" in watching.problems()[0]
        most = 0
        for _ in range(5):
            code, output, errors = await kube.exec(namespace, "web", "main", ["python3", "-c", count])
            assert code == 0, errors
            most = max(most, int(output))
        samples = seen.probes["slow"].samples
        await until(lambda: seen.probes["slow"].samples > samples)  # once it has ended another one is begun
    assert 1 <= most <= 4, "as many as are due within a timeout, and no more"


async def test_commands_and_jobs(kube: Kube, acting: Kube, namespace: str) -> None:
    await running(kube, namespace, [pod("web", "python3", "-c", "import time; time.sleep(3600)")])
    await apply(kube, access_manifest(namespace, ACCOUNT, namespace, OPERATOR, objects=["jobs.batch"]))

    def python(text: str, **fields: Any) -> dict[str, Any]:
        return {"exec": {"pods": {"name": "web"}, "command": ["python3", "-c", text], **fields}}

    def job(*command: str, **fields: Any) -> dict[str, Any]:
        return {"job": {"template": pod("x", *command, **fields)["spec"]}}

    async with Means(acting, namespace) as means:
        async with asyncio.timeout(60):
            while await looked(means, **python("pass")):  # until it is ready
                await asyncio.sleep(0.2)
        json = python("print('{\"depth\": 7}')", expression="json.depth == 7 && exitCode == 0 && errors == ''")
        assert await looked(means, **json) is None
        assert await looked(means, **python("import sys; print('no space', file=sys.stderr); sys.exit(2)")) == (
            "exit code 2: no space"
        )
        assert await looked(means, **python("raise SystemExit(2)", expression="exitCode == 2")) is None
        assert await looked(means, exec={"pods": {"name": "gone"}, "command": ["true"]}) == "pod gone: there is none"
        assert await looked(means, **python("pass", container="other")) is not None
        found = await looked(means, exec={"pods": {"name": "web"}, "command": ["no-such-program"]})
        assert found is not None and ("could not be started" in found or "exit code" in found)

        assert await looked(means, **job("python3", "-c", "pass")) is None
        assert "the Job failed: " in (await looked(means, **job("python3", "-c", "raise SystemExit(1)")) or "")
        with pytest.raises(CannotLookError, match="the API server does not take the Job"):
            await looked(means, job={"template": {"containers": []}})
        async with asyncio.timeout(60):
            while (await kube.list(JOBS, namespace))[0]:
                await asyncio.sleep(0.1)

    def observed(*observations: dict[str, Any]) -> RecoveryCheckSpec:
        invariants = [{"name": "x", "expression": "true"}]
        return RecoveryCheckSpec.model_validate({"observations": observations, "invariants": invariants})

    texts = {"name": "ids", **python("print([1, 2])")}, {"name": "text", **python("print('abc')", format="Text")}
    assert await observe(acting, namespace, observed(*texts), NO_SEAL) == {"ids": [1, 2], "text": "abc\n"}
    with pytest.raises(ObservationError, match=r"^observation lost: exit code 2"):
        await observe(acting, namespace, observed({"name": "lost", **python("raise SystemExit(2)")}), NO_SEAL)

    def signals(kind: str, says: dict[str, Any], silent: dict[str, Any]) -> list[dict[str, Any]]:
        named = {f"{kind}-says": says, f"{kind}-silent": silent}
        return [{"name": name, "timeoutMilliseconds": 60_000, **look} for name, look in named.items()]

    web = {"apiVersion": "v1", "kind": "Pod", "name": "web"}
    detection = [
        *signals(
            "kubernetes",
            {"kubernetes": {**web, "expression": "object.status.phase == 'Running'"}},
            {"kubernetes": {**web, "expression": "object.status.phase == 'Failed'"}},
        ),
        *signals("exec", python("pass"), python("raise SystemExit(1)")),
        *signals("job", job("python3", "-c", "pass"), job("python3", "-c", "raise SystemExit(1)")),
    ]
    since = Instant.now()
    async with looking(acting, namespace, detection=detection) as (watching, seen):
        await until(lambda: all(history.samples for history in seen.detection.values()), 120)
        held = {name for name, history in seen.detection.items() if first_holding(history, since)}
        assert held == {"kubernetes-says", "exec-says", "job-says"}
        assert watching.problems() == []


async def _may_list_events(acting: Kube, namespace: str) -> bool:
    try:
        await acting.list(EVENTS, namespace)
    except KubeError as error:
        if error.status == 403:
            return False
        raise
    return True


async def test_an_account_without_the_right_cannot_look(kube: Kube, acting: Kube, namespace: str) -> None:
    await kube.delete(ROLES, namespace, "bounceback-experiments")
    async with asyncio.timeout(60):
        while await _may_list_events(acting, namespace):  # the API server knows of it a little later
            await asyncio.sleep(0.05)
    probes = [
        {"name": "log", "log": {"pods": {"name": "web"}, "contains": "x", "absentSeconds": 1}},
        {"name": "event", "event": {"absentSeconds": 1}},
        {"name": "exec", "exec": {"pods": {"name": "web"}, "command": ["true"]}},
        {"name": "job", "job": {"template": {"containers": []}}},
    ]
    async with looking(acting, namespace, probes=probes) as (watching, seen):
        await until(lambda: len(watching.problems()) == 4)
        told = "\n".join(watching.problems())
    assert told.count("the service account may not") == 4
    assert "spec.probes[1].event: the service account may not list events: " in told
    assert not any(history.samples - history.healthy_samples for history in seen.probes.values())


async def test_secrets_are_read_as_the_account_and_what_is_missing_is_refused_with_its_field(
    kube: Kube, acting: Kube, namespace: str, commands: Commands
) -> None:
    commands.kubectl("apply", "--server-side", "--force-conflicts", "-f", "crds")
    commands.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
    with real_servers.redis("--requirepass", "s3cret") as server:
        look = {"host": "127.0.0.1", "port": server.port, "login": {"secretName": "redis"}, "command": ["PING"]}
        spec = {"probes": [{"name": "ping", "redis": look}]}
        check = {
            "apiVersion": "bounceback.dev/v1alpha1",
            "kind": "RecoveryCheck",
            "metadata": {"name": "c"},
            "spec": spec,
        }
        await kube.create(CHECKS, namespace, check)
        experiment = FaultExperimentSpec.model_validate(
            {
                "targets": [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "web"}}}}],
                "faults": [{"name": "cut", "target": "web", "networkPartition": {}}],
                "checks": [{"name": "c"}],
            }
        )

        async def refusal() -> str:
            try:
                await copy_checks(kube, acting, namespace, experiment)
            except Refused as refused:
                assert refused.field == "spec.checks[0].name"
                return refused.message
            return ""

        told = await refusal()
        where = "RecoveryCheck c, spec.probes[0].redis.login.passwordKey: "
        assert told.startswith(f"{where}the service account must be allowed to get Secret redis; ")
        assert f"bounceback access {namespace} --secret redis | kubectl apply" in told
        await apply(kube, access_manifest(namespace, ACCOUNT, namespace, OPERATOR, secrets=["redis"]))
        async with asyncio.timeout(30):
            while "must be allowed" in (told := await refusal()):
                await asyncio.sleep(0.1)
        assert told == f"{where}there is no Secret redis in {namespace}"
        body = {"metadata": {"name": "redis"}, "data": {"pass": base64.b64encode(b"s3cret").decode()}}
        await kube.create(SECRETS, namespace, body)
        assert await refusal() == f"{where}Secret redis has no key password; it has pass"
        await kube.patch(SECRETS, namespace, "redis", {"data": {"password": body["data"]["pass"]}})
        assert await refusal() == ""
        async with Means(acting, namespace) as means:
            assert await looked(means, redis={**look, "expression": "reply == 'PONG'"}) is None
        with pytest.raises(ObservationError, match="there is no Secret other in"):
            observation = {**look, "login": {"secretName": "other"}}
            both = {
                "observations": [{"name": "x", "redis": observation}],
                "invariants": [{"name": "y", "expression": "true"}],
            }
            await apply(kube, access_manifest(namespace, ACCOUNT, namespace, OPERATOR, secrets=["redis", "other"]))
            await until_known(acting, namespace, SECRETS, "other")
            await observe(acting, namespace, RecoveryCheckSpec.model_validate(both), NO_SEAL)
