"""Stores outside of the cluster, by TLS: a workload on one of them, and evidence in a bucket, as the chart has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from bounceback.controller.object_storage import ACCESS_KEY, SECRET_KEY
from bounceback.proxy.certificates import Authority
from dev import cluster, control, layout
from dev.state import Cluster, clusters_folder
from tests import real_servers
from tests.commands import SYSTEM, Commands, Json, until
from tests.conftest import IMAGE, installed
from tests.e2e.shops import example, shop
from tests.real_servers import BUCKET, LOOPBACK, PEM, Place, Server

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

KEYS: Final = "evidence-keys"
RUN_SECONDS: Final = 120
REDIS_NAME: Final = "redis.shop.test"
PASSWORD: Final = "s3cret-of-the-shop"


@dataclass(frozen=True)
class Outside:
    address: str
    bucket: Server
    redis_port: int
    pem: str


@pytest.fixture(scope="module")
def outside(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """Servers at the address of the first node, at which its pods reach the API server."""
    path = Path(commands.kubeconfig)
    if clusters_folder() not in path.parents or control.first_process(Cluster(path.parent.name).control) is None:
        pytest.skip("the network of the cluster's nodes is not ours to serve in")
    address = layout.NODE_ADDRESSES[layout.FIRST_NODE]
    at = Place(address, tuple(cluster.inside(Cluster(path.parent.name), ("-n",))))
    authority = Authority.made("outside")
    place = tmp_path_factory.mktemp("outside")
    bucket_files = real_servers.certificate(place, authority, [address, LOOPBACK])
    redis_files = real_servers.certificate(place, authority, [REDIS_NAME])
    port = real_servers.free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(redis_files[0]), "--tls-key-file", str(redis_files[1])]
    tls += ["--tls-auth-clients", "no", "--requirepass", PASSWORD]
    with (
        real_servers.versitygw(bucket_files, at=at) as bucket,
        real_servers.redis(*tls, at=at),
    ):
        pem = authority.certificate.public_bytes(PEM).decode()
        yield Outside(address, bucket, port, pem)


@pytest.fixture(scope="module")
def installation(commands: Commands, outside: Outside) -> Iterator[None]:
    keys = {ACCESS_KEY: real_servers.ACCESS_KEY, SECRET_KEY: real_servers.SECRET_KEY, "ca.crt": outside.pem}
    objects = secret(KEYS, keys)
    if commands.ask("kubectl", "get", "namespace", SYSTEM).code:
        commands.kubectl("create", "namespace", SYSTEM)
    commands.apply(SYSTEM, objects)
    storage = "evidence.objectStorage"
    values = f"image.tag={IMAGE.partition(':')[2]},evidence.store=ObjectStorage,{storage}.bucket={BUCKET}"
    values += f",{storage}.secretName={KEYS},{storage}.endpoint=https://{outside.address}:{outside.bucket.port}"
    try:
        with installed(commands, values):
            yield
    finally:
        commands.kubectl("delete", "secret", KEYS, "-n", SYSTEM, "--ignore-not-found")


def secret(name: str, data: dict[str, str]) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


@pytest.fixture(scope="module")
def namespace(commands: Commands, installation: None, outside: Outside) -> Iterator[str]:
    with shop(commands, "web", objects_too=True) as name:
        commands.apply(name, secret("shop-redis", {"password": PASSWORD}), secret("shop-tls", {"ca.crt": outside.pem}))
        yield name


def play(outside: Outside, name: str, **tls: object) -> list[Json]:
    """A check with a workload on Redis, and an experiment that deletes one pod of the web, no matter to Redis."""
    check, experiment = example("A6-pod-delete")
    check["metadata"]["name"] = experiment["metadata"]["name"] = name
    redis = {"host": outside.address, "port": outside.redis_port, "prefix": name}
    redis["tls"] = {"authorities": {"secretName": "shop-tls"}, "serverName": REDIS_NAME, **tls}
    load = {"open": {"perSecond": 50, "connections": 8}}
    password = {"secretName": "shop-redis"}
    check["spec"]["workload"] = {"model": "Set", "redis": redis, "load": load, "passwordFrom": password}
    spec = experiment["spec"]
    spec["checks"] = [{"name": name}]
    spec["steadyState"] = {"timeoutSeconds": 120 if tls else 60}  # what is refused ends the run at once
    spec["faults"][0] |= {"podDelete": {"gracePeriodSeconds": 0}, "durationSeconds": 2}
    return [check, experiment]


def finished(commands: Commands, namespace: str, name: str) -> Json:
    def over() -> Json | None:
        body = commands.get("faultexperiment", name, "-n", namespace)
        evidence = (body.get("status") or {}).get("evidence") or {}
        is_told = evidence.get("state") in ("Kept", "Partial", "NotKept")  # Doubtful is what is thought at the start
        return body if is_told and body["status"]["phase"] == "Finished" else None

    found: Json = until(over, f"{name} is over, and its evidence told of", RUN_SECONDS)
    return found


@contextmanager
def other_keys(bucket: Server) -> Iterator[None]:
    """Those that the operator has are none of the gateway's any more."""
    kept = dict(bucket.environment)
    bucket.stop()
    bucket.environment |= {"ROOT_ACCESS_KEY": "AKIDOTHER", "ROOT_SECRET_KEY": "another-secret-key"}
    bucket.start()
    try:
        yield
    finally:
        bucket.stop()
        bucket.environment |= kept
        bucket.start()


@contextmanager
def at_hand(bucket: Server) -> Iterator[str]:
    """Another gateway to the same bucket, that is reached from here: its address."""
    port = real_servers.free_port()
    command = [word.replace(f"{bucket.place.address}:{bucket.port}", f"{LOOPBACK}:{port}") for word in bucket.command]
    with real_servers.served(replace(bucket, command=command, port=port, place=real_servers.HERE, process=None)):
        yield f"https://{LOOPBACK}:{port}"


def test_a_workload_by_tls_is_accounted_for_and_its_evidence_is_read_from_the_bucket(
    commands: Commands, outside: Outside, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.apply(namespace, *play(outside, "kept"))
    status = finished(commands, namespace, "kept")["status"]
    assert status["verdict"] == "Passed", json.dumps(status["conditions"], indent=1)
    (workload,) = status["workloads"]
    assert workload["result"] == "Passed" and workload["acknowledged"] > 100, workload
    assert (status["evidence"]["state"], status["evidence"]["store"]) == ("Kept", "ObjectStorage"), status["evidence"]
    stored = sorted(path.name for path in (outside.bucket.folder / "data" / BUCKET / namespace / "kept").rglob("*.*"))
    assert "manifest.json" in stored, "the operator wrote it"
    assert PASSWORD.encode() not in b"".join(
        path.read_bytes() for path in (outside.bucket.folder / "data").rglob("*") if path.is_file()
    )
    answer = commands.bounceback("evidence", "kept", "-n", namespace)
    assert answer.code == 2 and "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in answer.err, answer
    (tmp_path / "ca.crt").write_text(outside.pem)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", real_servers.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", real_servers.SECRET_KEY)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.crt"))
    with at_hand(outside.bucket) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        answer = commands.bounceback("evidence", "kept", "-n", namespace)
        report = commands.bounceback("report", "kept", "-n", namespace, "-o", "json")
    assert answer.code == 0 and "as in the status" in answer.out, answer
    assert report.code == 0, report.err
    assert json.loads(report.out)["verdict"] == "Passed"


def test_keys_that_are_wrong_cost_the_evidence_and_nothing_else(
    commands: Commands, outside: Outside, namespace: str
) -> None:
    with other_keys(outside.bucket):
        commands.apply(namespace, *play(outside, "lost"))
        status = finished(commands, namespace, "lost")["status"]
    assert status["verdict"] == "Passed", "it was written before, and stays"
    assert status["workloads"][0]["acknowledged"] > 100
    (kept,) = [each for each in status["conditions"] if each["type"] == "EvidenceKept"]
    assert kept["status"] == "False" and kept["reason"] == status["evidence"]["reason"], kept
    assert status["evidence"]["state"] == "NotKept"
    assert "key" in status["evidence"]["message"].lower(), status["evidence"]
    answer = commands.bounceback("evidence", "lost", "-n", namespace)
    assert answer.code == 2 and status["evidence"]["message"] in answer.err, answer
    report = commands.bounceback("report", "lost", "-n", namespace)
    assert report.code == 0 and "Passed" in report.out, "what the resource keeps is there"


def test_a_store_that_is_not_trusted_is_not_worked_on(commands: Commands, outside: Outside, namespace: str) -> None:
    commands.apply(namespace, *play(outside, "mistrusted", serverName="other.shop.test"))

    def over() -> Json | None:
        status: Json = commands.get("faultexperiment", "mistrusted", "-n", namespace).get("status") or {}
        return status if status.get("phase") == "Finished" else None

    refused = until(over, "it is over", RUN_SECONDS)
    assert refused["verdict"] == "Aborted"
    told = json.dumps(refused)
    assert "WorkloadCannotWork" in told and "certificate not trusted: Hostname mismatch" in told
    assert not refused.get("injections"), "nothing was touched"
