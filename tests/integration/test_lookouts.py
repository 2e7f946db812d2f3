"""A check that watches by itself, and a deployment that somebody scales to zero and back: a real outage, recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from bounceback.api.check_status import RecoveryCheckStatus, Watched
from bounceback.controller import metrics
from bounceback.controller.causes import Causes
from bounceback.controller.lookouts import Lookouts
from bounceback.controller.office import Office
from bounceback.kube import Kube, Resource
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS, EVENTS
from bounceback.kube.watching import LISTED, changes
from bounceback.types.outcome import Mark
from bounceback.vehicles.access import access_manifest
from tests.conftest import ACCOUNT, OPERATOR, apply
from tests.workload import pod

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("api")]

DEPLOYMENTS = Resource("apps/v1", "deployments")
PATIENCE = 120.0
NAME = "store-watched"


def probe(name: str, expression: str, kind: str = "Deployment", api_version: str = "apps/v1") -> Json:
    look = {"apiVersion": api_version, "kind": kind, "name": "store", "expression": expression}
    return {"name": name, "kubernetes": look, "periodMilliseconds": 1000, "timeoutMilliseconds": 10_000}


AVAILABLE = probe("available", "has(object.status.availableReplicas) && object.status.availableReplicas > 0")
EMPTIED = probe("emptied", "object.spec.replicas == 0")


async def make(kube: Kube, namespace: str, name: str = NAME, **spec: Any) -> None:
    body = {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": "RecoveryCheck",
        "metadata": {"name": name},
        "spec": {"mode": "Continuous", "probes": [AVAILABLE], "recovered": {"stableSeconds": 2}, **spec},
    }
    await kube.create(CHECKS, namespace, body)


async def scale(kube: Kube, namespace: str, replicas: int) -> None:
    await kube.patch(DEPLOYMENTS, namespace, "store", {"spec": {"replicas": replicas}})


@asynccontextmanager
async def watching(office: Office, namespace: str, kube: Kube, *, orderly: bool = True) -> AsyncIterator[Lookouts]:
    """As the operator does it; not `orderly`: as one that is killed, with no last words."""
    lookouts = Lookouts(office, Causes())

    async def tell() -> None:
        async with aclosing(changes(kube, CHECKS, namespace)) as told:
            async for kind, body in told:
                if kind != LISTED:
                    await lookouts.changed(kind, body)

    telling = asyncio.create_task(tell())
    try:
        yield lookouts
    finally:
        telling.cancel()
        if not orderly:
            for task in list(lookouts._tasks.values()):
                task.cancel()
        await lookouts.end()


async def until(
    kube: Kube, namespace: str, holds: Callable[[RecoveryCheckStatus], object], name: str = NAME
) -> RecoveryCheckStatus:
    status = RecoveryCheckStatus()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                body = await kube.get(CHECKS, namespace, name)
                status = RecoveryCheckStatus.model_validate(body.get("status") or {})
                if holds(status):
                    return status
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(status.model_dump_json(indent=1, exclude_none=True)[:4000]) from None


def condition(status: RecoveryCheckStatus, type_: str) -> tuple[str, str, str]:
    return next(((c.status, c.reason, c.message) for c in status.conditions if c.type == type_), ("", "", ""))


async def reasons(kube: Kube, namespace: str) -> set[str]:
    """Of the events that were told."""
    return {event["reason"] for event in (await kube.list(EVENTS, namespace))[0]}


async def test_a_real_outage_is_recorded_over_a_restart_of_the_operator(
    kube: Kube, office: Office, namespace: str
) -> None:
    store = pod("store", "python3", "-c", "import time; time.sleep(3600)")
    template = {"metadata": {"labels": {"app": "store"}}, "spec": store["spec"] | {"restartPolicy": "Always"}}
    selector = {"matchLabels": {"app": "store"}}
    body = {"metadata": {"name": "store"}, "spec": {"replicas": 1, "selector": selector, "template": template}}
    await kube.create(DEPLOYMENTS, namespace, body)
    await make(kube, namespace, detection=[EMPTIED])

    async with watching(office, namespace, kube, orderly=False):
        up = await until(kube, namespace, lambda s: s.continuous and s.continuous.state is Watched.UP)
        assert condition(up, "Watching")[0] == condition(up, "Healthy")[0] == condition(up, "Ready")[0] == "True"
        await scale(kube, namespace, 0)
        down = await until(kube, namespace, lambda s: s.continuous and s.continuous.outage)
        assert down.continuous is not None
        assert (down.continuous.state, condition(down, "Healthy")[0]) == (Watched.DOWN, "False")
        async with asyncio.timeout(PATIENCE):  # what is told is told once it is written
            while "OutageBegan" not in await reasons(kube, namespace):
                await asyncio.sleep(0.1)
        assert metrics.CHECK_UP.labels(namespace, NAME)._value.get() == 0.0

    async with watching(office, namespace, kube):
        await scale(kube, namespace, 1)
        over = await until(kube, namespace, lambda s: s.continuous and s.continuous.totals.ended == 1)
        record = over.continuous
        assert record is not None
        (outage,) = record.outages
        assert {mark.mark for mark in outage.marks} == {Mark.FIRST_SYMPTOM, Mark.DETECTED, Mark.RECOVERED}
        assert outage.lasted is not None
        assert outage.lasted.milliseconds > 0
        assert outage.unknown_milliseconds > 0, "nobody looked while the operator was gone"
        assert (outage.experiments, record.totals.outages, record.totals.by_experiments) == ([], 1, 0)
        async with asyncio.timeout(PATIENCE):
            while metrics.OUTAGES.labels(namespace, NAME, "Unknown")._value.get() != 1.0:
                await asyncio.sleep(0.02)

        await kube.patch(CHECKS, namespace, NAME, {"spec": {"suspend": True}})
        suspended = await until(kube, namespace, lambda s: condition(s, "Watching")[1] == "Suspended")
        assert suspended.continuous is not None
        assert (suspended.continuous.state, suspended.continuous.totals.ended) == (Watched.UNKNOWN, 1)
        await kube.patch(CHECKS, namespace, NAME, {"spec": {"suspend": False}})
        again = await until(kube, namespace, lambda s: s.continuous and s.continuous.state is Watched.UP)
        assert again.continuous is not None
        assert again.continuous.totals.unknown_milliseconds >= record.totals.unknown_milliseconds
        assert condition(again, "Watching")[0] == "True"

    told = {event["reason"]: event for event in (await kube.list(EVENTS, namespace))[0]}
    assert told["OutageBegan"]["type"] == "Warning"
    assert told["OutageBegan"]["involvedObject"]["name"] == NAME
    assert "no experiment was under way" in told["OutageEnded"]["message"]


async def test_a_right_that_is_missing_is_told_with_its_field_and_nothing_is_called_down(
    kube: Kube, office: Office, home: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And what another operator has written meanwhile is gone on from."""
    await make(kube, namespace, probes=[probe("settings", "true", "ConfigMap", "v1")])
    quiet = {"name": "quiet", "event": {"type": "Warning", "absentSeconds": 60}}
    await make(kube, namespace, "by-nobody", probes=[quiet], serviceAccountName="nobody")
    async with watching(office, namespace, kube) as lookouts:
        unable = await until(kube, namespace, lambda s: condition(s, "Watching")[1] == "CannotLook")
        field = f"RecoveryCheck {NAME}: spec.probes[0].kubernetes: the service account may not list configmaps: "
        assert condition(unable, "Watching")[0] == "False"
        assert field in condition(unable, "Watching")[2]
        assert condition(unable, "Stalled")[:2] == ("True", "CannotLook")
        assert condition(unable, "Healthy")[0] == "Unknown"
        record = unable.continuous
        assert record is not None
        assert (record.state, record.totals.outages, record.totals.down_milliseconds) == (Watched.UNKNOWN, 0, 0)

        body = await kube.get(CHECKS, namespace, NAME)
        body["status"]["continuous"]["revision"] = overtaken = record.revision + 7  # as an operator of a later term
        await kube.replace(CHECKS, namespace, NAME, body, "status")
        await apply(kube, access_manifest(namespace, ACCOUNT, home, OPERATOR, objects=["configmaps"]))
        able = await until(kube, namespace, lambda s: condition(s, "Watching")[0] == "True")
        assert condition(able, "Healthy")[:2] == ("Unknown", "NeverHealthy")
        assert condition(able, "Stalled")[0] == "False"
        assert able.continuous is not None
        assert able.continuous.revision > overtaken
        assert "a defect" not in caplog.text

        refused = await until(kube, namespace, lambda s: condition(s, "Watching")[0] == "False", "by-nobody")
        _, reason, message = condition(refused, "Watching")
        assert reason == "Forbidden"
        assert "service account nobody" in message
        assert "must be allowed to list events, watch events" in message
        assert f"`bounceback access {namespace} --account nobody" in message
        assert refused.continuous is None

        await kube.delete(CHECKS, namespace, NAME)
        await kube.delete(CHECKS, namespace, "by-nobody")
        async with asyncio.timeout(PATIENCE):
            while lookouts._tasks:
                await asyncio.sleep(0.1)
    assert (namespace, NAME) not in metrics.CHECK_UP._metrics
