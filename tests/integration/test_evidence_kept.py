"""Evidence at a real API server: by the operator's own small rights, whole, refused by quotas, gone with its owner."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bounceback.api.evidence_status import EvidenceStatus
from bounceback.controller.keeping import Keeping
from bounceback.controller.object_storage import ACCESS_KEY, SECRET_KEY, ObjectStorage
from bounceback.controller.settings import BucketSettings
from bounceback.controller.store import Store
from bounceback.controller.stores import ConfigMaps
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS, EXPERIMENTS, Resource
from bounceback.report.evidence import Whole
from bounceback.report.maps import LABEL, head_name
from bounceback.types.instants import Instant
from bounceback.types.outcome import EvidenceKind, EvidenceState
from bounceback.types.told import Line, Told
from tests import real_servers
from tests.commands import Commands
from tests.conftest import OPERATOR, make_namespace
from tests.unit.test_evidence import whole

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("api")]

QUOTAS = Resource("v1", "resourcequotas")
MUCH = 64 * 1024 * 1024


@pytest.fixture
def operator(kube: Kube, home: str) -> Kube:
    """With the rights that `bounceback access` grants the operator, and no others."""
    return kube.acting_as(home, OPERATOR)


async def run_in(kube: Kube, namespace: str, name: str = "web-slow", noise: int = 0) -> Whole:
    """A finished experiment, with so many bytes of lines that no compression makes smaller."""
    run = whole()
    made = await kube.create(
        EXPERIMENTS,
        namespace,
        {"apiVersion": run.body["apiVersion"], "kind": run.body["kind"], "metadata": {"name": name}}
        | {"spec": run.body["spec"]},
    )
    for at in range(0, noise, 100_000):
        line = Line(Told.STEP, Instant.now(), "slow-1", detail={"noise": secrets.token_hex(100_000), "at": at})
        run.told.add("bb-1", False, line)
    status = run.status.model_copy(update={"run_uid": made["metadata"]["uid"]})
    return replace(run, body=made, status=status)


def keeping(run: Whole, store: Store) -> Keeping:
    return Keeping(store, run.body, MUCH, lambda: None)


async def kept(run: Whole, store: Store) -> EvidenceStatus:
    keeps = keeping(run, store)
    return await keeps.keep(run, (await keeps.pack(run)).digest)


async def written_down(kube: Kube, run: Whole, evidence: EvidenceStatus) -> Json:
    status = run.status.model_copy(update={"evidence": evidence}).to_json()
    metadata = run.body["metadata"]
    body = await kube.get(EXPERIMENTS, metadata["namespace"], metadata["name"])
    return await kube.replace(
        EXPERIMENTS, metadata["namespace"], metadata["name"], {**body, "status": status}, "status"
    )


async def names(kube: Kube, namespace: str) -> set[str]:
    found, _ = await kube.list(CONFIG_MAPS, namespace, labels=LABEL)
    return {each["metadata"]["name"] for each in found}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(90):
        while not await holds():
            await asyncio.sleep(0.1)


async def quota(kube: Kube, namespace: str, most: int) -> None:
    """In force once this returns."""
    body = {"metadata": {"name": "few"}, "spec": {"hard": {"configmaps": str(most)}}}
    await kube.create(QUOTAS, namespace, body)

    async def counted() -> bool:
        return "used" in (await kube.get(QUOTAS, namespace, "few")).get("status", {})

    await until(counted)


async def test_what_is_large_is_read_whole_by_the_command_and_goes_with_its_owner(
    kube: Kube, operator: Kube, namespace: str, commands: Commands, tmp_path: Path
) -> None:
    run = await run_in(kube, namespace, noise=2_000_000)
    store = ConfigMaps(operator, MUCH)
    assert await keeping(run, store).doubt(run.status.run) is None
    told = await kept(run, store)
    assert (told.state, told.message) == (EvidenceState.KEPT, "")
    assert await kept(run, store) == told, "once more is no harm"
    head = head_name(run.status.run)
    assert await names(kube, namespace) == {head, f"{head}-1", f"{head}-2", f"{head}-3"}
    await written_down(kube, run, told)
    place = str(tmp_path / "kept")
    answer = commands.bounceback("evidence", "web-slow", "-n", namespace, "--to", place)
    assert (answer.code, "as in the status" in answer.out) == (0, True), answer
    report = commands.bounceback("report", "web-slow", "-n", namespace)
    assert "home | during | 200 | 196 | 50.0 ms" in report.out
    assert "as it was written" in report.out

    await kube.delete(CONFIG_MAPS, namespace, f"{head}-2")
    answer = commands.bounceback("evidence", "web-slow", "-n", namespace)
    assert (answer.code, "injection: missing" in answer.out) == (3, True), answer
    await kube.delete(CONFIG_MAPS, namespace, head)
    forged = await kept(replace(run, told=whole().told), store)
    answer = commands.bounceback("evidence", "web-slow", "-n", namespace)
    assert forged.digest != told.digest
    assert (answer.code, "not the one that was written" in answer.out) == (1, True), answer

    await kube.delete(EXPERIMENTS, namespace, "web-slow")

    async def gone() -> bool:
        return await names(kube, namespace) == set()

    await until(gone)
    report = commands.bounceback("report", "--evidence", place)
    assert "home | during | 200 | 196 | 50.0 ms" in report.out, "the files are all that is left"


async def test_a_quota_keeps_what_it_leaves_room_for_and_is_told_beforehand(
    kube: Kube, operator: Kube, namespace: str
) -> None:
    """kube-root-ca.crt counts as well."""
    await until(lambda: _has(kube, namespace, "kube-root-ca.crt"))
    await quota(kube, namespace, 2)
    run = await run_in(kube, namespace, noise=1_000_000)
    told = await kept(run, ConfigMaps(operator, MUCH))
    assert (told.state, told.reason) == (EvidenceState.PARTIAL, "Partial")
    assert "exceeded quota" in told.message
    assert [part.kind for part in told.kinds if not part.kept] == [EvidenceKind.INJECTION]
    other = await run_in(kube, namespace, "next")
    doubt = await keeping(other, ConfigMaps(operator, MUCH)).doubt(other.status.run)
    assert doubt is not None
    assert (doubt.state, doubt.reason) == (EvidenceState.DOUBTFUL, "QuotaExceeded")
    told = await kept(other, ConfigMaps(operator, MUCH))
    assert (told.state, told.reason) == (EvidenceState.NOT_KEPT, "QuotaExceeded")


async def test_without_the_right_the_way_to_it_is_told(kube: Kube, operator: Kube, namespace: str, home: str) -> None:
    closed = f"{namespace}-closed"
    await make_namespace(kube, closed)
    try:
        run = await run_in(kube, closed)
        for told in (
            await keeping(run, ConfigMaps(operator, MUCH)).doubt("r"),
            await kept(run, ConfigMaps(operator, MUCH)),
        ):
            assert told is not None
            assert told.reason == "Forbidden"
            assert f"bounceback access {closed} | kubectl apply" in told.message
    finally:
        await kube.delete(Resource("v1", "namespaces", namespaced=False), None, closed)


async def test_an_operator_after_another_takes_what_that_wrote_and_nothing_of_somebody_else(
    kube: Kube, operator: Kube, namespace: str
) -> None:
    run = await run_in(kube, namespace, noise=1_000_000)
    store = ConfigMaps(operator, MUCH)
    told = await kept(run, store)
    head = head_name(run.status.run)
    blind = replace(run, recorded=[])
    assert (await keeping(blind, store).keep(blind, told.digest)).state is EvidenceState.KEPT
    await kube.delete(CONFIG_MAPS, namespace, f"{head}-1")  # as if it had been killed before that
    found = await keeping(blind, store).keep(blind, told.digest)
    assert (found.state, found.digest) == (EvidenceState.PARTIAL, told.digest)
    assert f"ended before it had written {head}-1" in found.message

    other = await run_in(kube, namespace, "next")
    name = head_name(other.status.run)
    body = {"metadata": {"name": name, "namespace": namespace}, "data": {"manifest.json": "{}"}}
    await kube.create(CONFIG_MAPS, namespace, body)
    refused = await kept(other, store)
    assert (refused.state, refused.reason) == (EvidenceState.NOT_KEPT, "NameTaken")
    assert (await kube.get(CONFIG_MAPS, namespace, name))["data"] == {"manifest.json": "{}"}, "not touched"


async def test_the_oldest_goes_when_a_namespace_has_too_much(kube: Kube, operator: Kube, namespace: str) -> None:
    """Creation times are whole seconds: of two with the same, either may go."""
    await kube.create(CONFIG_MAPS, namespace, {"metadata": {"name": "theirs"}, "data": {"a": "b"}})
    first = await run_in(kube, namespace, "first", noise=1_000_000)
    await kept(first, ConfigMaps(operator, MUCH))
    await asyncio.sleep(1.1)
    second = await run_in(kube, namespace, "second")
    told = await kept(second, ConfigMaps(operator, 1_000_000))
    assert (told.state, told.message) == (EvidenceState.KEPT, "")
    assert await names(kube, namespace) == {head_name(second.status.run)}, "parts and all"
    assert await _has(kube, namespace, "theirs")


async def test_what_is_in_a_bucket_is_read_with_the_reader_s_own_keys_and_outlives_its_owner(
    kube: Kube, namespace: str, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in ((ACCESS_KEY, real_servers.ACCESS_KEY), (SECRET_KEY, real_servers.SECRET_KEY)):
        (tmp_path / name).write_text(text)
    with real_servers.versitygw() as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        settings = BucketSettings(real_servers.BUCKET, endpoint, prefix="team/a", keys=str(tmp_path))
        run = await run_in(kube, namespace, noise=1_000_000)
        told = await kept(run, ObjectStorage(settings, MUCH))
        await written_down(kube, run, told)
        assert told.place == f"s3://kept/team/a/{namespace}/web-slow/{run.status.run}/"
        answer = commands.bounceback("evidence", "web-slow", "-n", namespace)
        assert (answer.code, "set AWS_ACCESS_KEY_ID" in answer.err) == (2, True), answer
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", real_servers.ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", real_servers.SECRET_KEY)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        answer = commands.bounceback("evidence", "web-slow", "-n", namespace, "--to", str(tmp_path / "copy"))
        assert (answer.code, "as in the status" in answer.out) == (0, True), answer
        assert "as it was written" in commands.bounceback("report", "web-slow", "-n", namespace).out
        home = server.folder / "data" / "kept" / "team" / "a" / namespace / "web-slow" / run.status.run
        (home / "consistency.jsonl.gz").write_bytes((home / "finalState.jsonl.gz").read_bytes())
        answer = commands.bounceback("evidence", "web-slow", "-n", namespace)
        assert (answer.code, "consistency: changed" in answer.out) == (1, True), answer
        await kube.delete(EXPERIMENTS, namespace, "web-slow")
        report = commands.bounceback("report", "--evidence", told.place)
        assert "home | during | 200 | 196 | 50.0 ms" in report.out, report


async def _has(kube: Kube, namespace: str, name: str) -> bool:
    found, _ = await kube.list(CONFIG_MAPS, namespace)
    return name in {each["metadata"]["name"] for each in found}
