"""Health read off objects of a real API server: watched, confirmed by reads, with the account's rights only."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.engine.samples import History
from bounceback.engine.timeline import first_symptom, recovered, stalled
from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS, SECRETS
from bounceback.recovery import judging, sealing
from bounceback.recovery.objects import QUIET_FACTOR, READ_SECONDS
from bounceback.recovery.observing import ObservationError, observe, observe_each
from bounceback.recovery.sealing import Seal
from bounceback.recovery.watching import Watching
from bounceback.types.instants import Instant, Interval
from tests.conftest import ACCOUNT, until_known

ROLES = Resource("rbac.authorization.k8s.io/v1", "roles")
BINDINGS = Resource("rbac.authorization.k8s.io/v1", "rolebindings")
IS_UP = "object.data.state == 'up'"


@pytest.fixture
async def reader(kube: Kube, acting: Kube, namespace: str) -> Kube:
    """The namespace's account, which may read config maps besides."""
    await may_read(kube, acting, namespace, CONFIG_MAPS)
    return acting


async def may_read(kube: Kube, acting: Kube, namespace: str, resource: Resource) -> None:
    """From when this returns on."""
    name = f"reads-{resource.plural}"
    rules = [{"apiGroups": [""], "resources": [resource.plural], "verbs": ["get", "list", "watch"]}]
    await kube.create(ROLES, namespace, {"metadata": {"name": name}, "rules": rules})
    body = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
    }
    await kube.create(BINDINGS, namespace, body)
    await until_known(acting, namespace, resource)


async def set_state(kube: Kube, namespace: str, name: str, state: str) -> Interval:
    """The stamps right before and right after it was changed."""
    before = Instant.now()
    body = {"metadata": {"name": name, "labels": {"app": "state"}}, "data": {"state": state}}
    try:
        await kube.patch(CONFIG_MAPS, namespace, name, body)
    except KubeError as error:
        if not error.gone:
            raise
        await kube.create(CONFIG_MAPS, namespace, body)
    return Interval(before, Instant.now())


def check(expression: str = IS_UP, **look: Any) -> RecoveryCheckSpec:
    kubernetes = {"apiVersion": "v1", "kind": "ConfigMap", "expression": expression, **look}
    return RecoveryCheckSpec.model_validate({"probes": [{"name": "it", "kubernetes": kubernetes}]})


@asynccontextmanager
async def watching(acting: Kube, namespace: str, spec: RecoveryCheckSpec) -> AsyncIterator[tuple[Watching, History]]:
    async with Watching(acting, namespace, [("c", spec)], None, lambda: None) as all_probes:
        yield all_probes, all_probes.histories("c")["it"]


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def overlaps(interval: Interval | None, truth: Interval) -> bool:
    assert interval is not None
    return interval.earliest.since(truth.latest) <= 0 <= interval.latest.since(truth.earliest)


async def test_a_change_is_known_when_it_is_told_and_lies_in_its_interval(
    kube: Kube, reader: Kube, namespace: str
) -> None:
    await set_state(kube, namespace, "web", "up")
    async with watching(reader, namespace, check(name="web")) as (_, history):
        await until(lambda: history.healthy_samples >= 2)
        start = history.runs[0].first.start
        for outage in (0.05, 0.4, 2.3):
            since = Instant.now()
            down = await set_state(kube, namespace, "web", "down")
            await until(lambda: not history.runs[-1].healthy)
            told = Instant.now()
            await asyncio.sleep(outage)
            known = history.newest_start
            up = await set_state(kube, namespace, "web", "up")
            await until(lambda: history.runs[-1].healthy)
            told = Instant.now()
            assert overlaps(first_symptom(history, since), down)
            await until(lambda since=since: recovered(history, since, 1.0, Instant.now()))  # type: ignore[misc]
            interval = recovered(history, since, 1.0, Instant.now())
            assert overlaps(interval, up)
            assert interval is not None and known is not None and interval.width <= told.since(known)
        assert start == history.runs[0].first.start
        assert history.gaps == ()


async def test_a_change_is_told_by_the_watch_and_not_found_by_a_read(kube: Kube, reader: Kube, namespace: str) -> None:
    await set_state(kube, namespace, "web", "up")
    spec = check(name="web")
    seldom = spec.model_copy(update={"probes": [spec.probes[0].model_copy(update={"period_milliseconds": 600_000})]})
    async with watching(reader, namespace, seldom) as (_, history):
        await until(lambda: history.samples)
        await set_state(kube, namespace, "web", "down")
        await until(lambda: not history.runs[-1].healthy)


async def test_all_that_a_selector_matches_is_judged_together(kube: Kube, reader: Kube, namespace: str) -> None:
    await set_state(kube, namespace, "a", "up")
    expression = "size(objects) == 2 && objects.all(o, o.data.state == 'up')"
    spec = check(expression, selector={"matchLabels": {"app": "state"}})
    async with watching(reader, namespace, spec) as (_, history):
        await until(lambda: history.samples)
        assert history.latest_failure == f"{expression} is false"
        await set_state(kube, namespace, "b", "up")
        await until(lambda: history.runs[-1].healthy)
        await kube.delete(CONFIG_MAPS, namespace, "a")
        await until(lambda: not history.runs[-1].healthy)


async def test_what_does_not_exist_is_not_healthy_and_says_so(kube: Kube, reader: Kube, namespace: str) -> None:
    async with watching(reader, namespace, check(name="web")) as (all_probes, history):
        await until(lambda: history.samples)
        assert history.latest_failure == "ConfigMap web does not exist"
        await set_state(kube, namespace, "web", "up")
        await until(lambda: history.runs[-1].healthy)
        await kube.patch(CONFIG_MAPS, namespace, "web", {"data": {"state": None}})
        await until(lambda: not history.runs[-1].healthy)
        assert "there is no key 'data'" in history.latest_failure
        assert all_probes.problems() == []


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"kind": "Secret"}, "the service account may not list secrets: "),
        (
            {"kind": "Deploymint", "apiVersion": "apps/v1"},
            "apps/v1 has no kind Deploymint; it has ControllerRevision, ",
        ),
        (
            {"kind": "Thing", "apiVersion": "example.com/v1"},
            "the cluster serves no example.com/v1; is its CRD installed?",
        ),
        ({"kind": "Node"}, "Node has no namespace; only objects of the experiment's namespace can be read"),
        ({"expression": "objekt.x == 1"}, "expression: there is no variable objekt; there are object"),
    ],
)
async def test_a_probe_that_cannot_work_is_told_apart_from_a_failing_system(
    reader: Kube, namespace: str, look: dict[str, str], message: str
) -> None:
    async with watching(reader, namespace, check(**{"name": "web", "expression": IS_UP, **look})) as (probes, history):
        await until(probes.problems)
        assert probes.problems()[0].startswith(f"RecoveryCheck c: spec.probes[0].kubernetes: {message}")
        assert history.samples == 0


class Broken(Kube):
    """A connection whose watches end at once, or that gets no answer at all."""

    watches = 0
    silent = False

    @classmethod
    def like(cls, kube: Kube) -> Broken:
        return cls(kube._configuration, kube._sessions, kube._headers)

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[tuple[str, Json]]:  # type: ignore[override]
        self.watches += 1
        no_events: list[tuple[str, Json]] = []
        for event in no_events:
            yield event

    async def list(self, *args: Any, **options: Any) -> tuple[list[Json], str]:
        if self.silent:
            raise TimeoutError
        return await super().list(*args, **options)


async def test_reads_go_on_where_watches_end_at_once_and_nothing_loops_hot(
    kube: Kube, reader: Kube, namespace: str
) -> None:
    broken = Broken.like(reader)
    await set_state(kube, namespace, "web", "up")
    async with watching(broken, namespace, check(name="web")) as (_, history):
        await until(lambda: history.samples)
        down = await set_state(kube, namespace, "web", "down")
        await until(lambda: not history.runs[-1].healthy)
        assert overlaps(first_symptom(history, down.earliest), down)
        await asyncio.sleep(2)
        assert history.gaps == ()
        assert 2 <= broken.watches < 10
        assert history.samples < 10


async def test_while_nobody_answers_us_nothing_is_claimed(kube: Kube, reader: Kube, namespace: str) -> None:
    broken = Broken.like(reader)
    await set_state(kube, namespace, "web", "up")
    async with watching(broken, namespace, check(name="web")) as (all_probes, history):
        await until(lambda: history.samples)
        broken.silent = True
        await asyncio.sleep(1)
        seen = history.samples
        await asyncio.sleep(1)
        assert history.samples == seen
        assert all_probes.problems() == []
        assert stalled(history, Instant.now().plus(history.stall_seconds))


async def test_objects_are_observed(kube: Kube, reader: Kube, home: str, namespace: str) -> None:
    seal = Seal(kube, home)
    await set_state(kube, namespace, "a", "1")
    await set_state(kube, namespace, "b", "2")
    wanted = {"apiVersion": "v1", "kind": "ConfigMap"}
    spec = RecoveryCheckSpec.model_validate(
        {
            "observations": [
                {"name": "one", "kubernetes": {**wanted, "name": "a"}},
                {"name": "all", "kubernetes": {**wanted, "selector": {"matchLabels": {"app": "state"}}}},
            ],
            "invariants": [{"name": "kept", "expression": "true"}],
        }
    )
    found = await observe(reader, namespace, spec, seal)
    assert found["one"]["data"] == {"state": "1"}
    assert [item["metadata"]["name"] for item in found["all"]] == ["a", "b"]
    assert "managedFields" not in found["one"]["metadata"]
    gone = RecoveryCheckSpec.model_validate(
        {
            "observations": [{"name": "gone", "kubernetes": {**wanted, "name": "nothing"}}],
            "invariants": [{"name": "kept", "expression": "true"}],
        }
    )
    with pytest.raises(ObservationError, match=r'observation gone: 404 NotFound: configmaps "nothing" not found'):
        await observe(reader, namespace, gone, seal)
    found = await observe_each(reader, namespace, gone, seal)
    assert found["gone"].gone, "an object that is not there is no object that cannot be read"
    nothing = {"name": "gone", "kubernetes": {**wanted, "kind": "Nothing", "name": "nothing"}, "unchanged": {}}
    unserved = RecoveryCheckSpec.model_validate({"observations": [nothing]})
    assert not (await observe_each(reader, namespace, unserved, seal))["gone"].gone


async def test_of_secrets_only_digests_are_observed(kube: Kube, reader: Kube, home: str, namespace: str) -> None:
    """By a key that outlives the operator: what is digested before its end and after it can be compared."""
    await may_read(kube, reader, namespace, SECRETS)
    wanted = {"apiVersion": "v1", "kind": "Secret"}
    one = {"name": "one", "kubernetes": {**wanted, "name": "db"}, "unchanged": {}}
    every = {"name": "every", "kubernetes": {**wanted, "selector": {"matchLabels": {"app": "db"}}}, "unchanged": {}}
    spec = RecoveryCheckSpec.model_validate({"observations": [one, every]})
    body = {"metadata": {"name": "db", "labels": {"app": "db"}}, "stringData": {"user": "shop", "password": "s3cret"}}
    await kube.create(SECRETS, namespace, body)
    before, after = [await observe(reader, namespace, spec, Seal(kube, home)) for _ in range(2)]
    assert before == after
    assert before["one"]["data"] == before["every"][0]["data"]
    assert set(before["one"]["data"]) == {"user", "password"}
    plain = ("s3cret", base64.b64encode(b"s3cret").decode(), hashlib.sha256(b"s3cret").hexdigest()[:32])
    assert not any(text in json.dumps(before) for text in plain)
    await kube.patch(SECRETS, namespace, "db", {"stringData": {"password": "stale"}})
    changed = (await observe(reader, namespace, spec, Seal(kube, home)))["one"]["data"]
    assert changed["user"] == before["one"]["data"]["user"]
    assert changed["password"] != before["one"]["data"]["password"]
    await kube.patch(SECRETS, home, sealing.NAME, {"data": {sealing.KEY: ""}})
    with pytest.raises(ObservationError, match=f"Secret {sealing.NAME} of namespace {home} has no key of 32 bytes"):
        await observe(reader, namespace, spec, Seal(kube, home))


async def test_a_burst_of_costly_events_leaves_time_for_other_work(
    kube: Kube, reader: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []

    def costly(_: str, variables: Any) -> bool:
        judged.append(variables["object"]["data"]["state"])
        time.sleep(0.02)
        return True

    monkeypatch.setattr(judging, "evaluate", costly)
    await set_state(kube, namespace, "web", "first")
    async with watching(reader, namespace, check(name="web")) as (_, history):
        await until(lambda: history.samples)
        began = time.monotonic()
        for number in range(100):
            await set_state(kube, namespace, "web", f"n{number}")
        await set_state(kube, namespace, "web", "last")
        await until(lambda: judged[-1] == "last")
        took = time.monotonic() - began
    assert len(judged) <= took / (0.02 * (1 + QUIET_FACTOR)) + took / READ_SECONDS + 3
