"""Evidence in object storage on a real server of S3: what it refuses, and what nobody may read in the words for it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bounceback.cli import evidence as command
from bounceback.cli.main import main
from bounceback.controller import keeping, object_storage
from bounceback.controller.object_storage import ObjectStorage
from bounceback.controller.settings import BucketSettings
from bounceback.controller.store import Refusing
from bounceback.proxy.certificates import Authority
from bounceback.report import objects
from bounceback.report.bundle import MANIFEST, Bundle, file_name
from bounceback.types.outcome import EvidenceKind, EvidenceState
from tests import real_servers
from tests.real_servers import ACCESS_KEY, BUCKET, PEM, SECRET_KEY, WRITER, Server, certificate
from tests.unit.test_evidence import bundle_of, whole
from tests.unit.test_evidence_objects import BELOW, MUCH, OWNER, doubt, kept, mounted


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with real_servers.versitygw() as running:
        yield running


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> BucketSettings:
    """Of the server; each test has a prefix of its own there."""
    keys = mounted(tmp_path / "keys")
    return BucketSettings(BUCKET, f"http://127.0.0.1:{server.port}", prefix=tmp_path.name, keys=keys)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(keeping, "KEEP_SECONDS", 20.0)


def files(server: Server, prefix: str) -> dict[str, Path]:
    home = server.folder / "data" / BUCKET / prefix
    return {str(each.relative_to(home)): each for each in home.rglob("*") if each.is_file()}


def user(monkeypatch: pytest.MonkeyPatch, server: Server, **more: str) -> None:
    given = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    for name, text in {**given, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}", **more}.items():
        monkeypatch.setenv(name, text)


async def test_a_real_server_takes_it_and_the_command_reads_it(
    server: Server, settings: BucketSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, store = whole(), ObjectStorage(settings, MUCH)
    assert await doubt(store) is None
    assert files(server, settings.prefix) == {}, "nothing is left of the trial"
    said = await kept(run, store)
    assert (said.state, said.message, said.store) == (EvidenceState.KEPT, "", "ObjectStorage")
    assert await kept(run, ObjectStorage(settings, MUCH)) == said
    names = {file_name(kind) for kind in EvidenceKind} | {MANIFEST}
    home = f"shop/web-slow/{run.status.run}"
    there = files(server, settings.prefix)
    assert set(there) == {f"{home}/{name}" for name in names}
    found = await store.find(run.body, run.status.run)
    assert found is not None
    assert (found.bytes, found.failed) == (said.bytes, {})

    user(monkeypatch, server)
    body = run.body | {"status": {**run.body["status"], "evidence": said.to_json()}}
    read = await asyncio.to_thread(command.of_cluster, None, body, None, said.digest)  # type: ignore[arg-type]
    assert read.opened.whole
    assert read.opened.known
    code = await asyncio.to_thread(main, ["evidence", "--from", said.place])
    assert (code, "held against no digest" in capsys.readouterr().out) == (0, True)
    assert await asyncio.to_thread(main, ["report", "--evidence", said.place]) == 0
    assert "home | during | 200 | 196 | 50.0 ms" in capsys.readouterr().out

    there[f"{home}/{file_name(EvidenceKind.CONSISTENCY)}"].write_bytes(b"tampered")
    read = await asyncio.to_thread(command.of_cluster, None, body, None, said.digest)  # type: ignore[arg-type]
    assert read.opened.problems == (
        "consistency: cannot be unpacked: Error -3 while decompressing data: incorrect header check",
    )
    forged = bundle_of(whole(10))
    for kind, data in forged.packed.items():
        there[f"{home}/{file_name(kind)}"].write_bytes(data)
    there[f"{home}/{MANIFEST}"].write_bytes(forged.manifest)
    read = await asyncio.to_thread(command.of_cluster, None, body, None, said.digest)  # type: ignore[arg-type]
    assert read.opened.changed
    there[f"{home}/{MANIFEST}"].unlink()
    assert await asyncio.to_thread(main, ["evidence", "--from", said.place]) == 2
    assert "it was given up for newer, or deleted" in capsys.readouterr().err


async def test_an_account_that_may_only_write_keeps_evidence_and_it_is_said_that_older_stays(tmp_path: Path) -> None:
    keys = mounted(tmp_path / "keys", **{object_storage.ACCESS_KEY: WRITER})
    with real_servers.versitygw(only="team") as server:
        settings = BucketSettings(BUCKET, f"http://127.0.0.1:{server.port}", prefix="team", keys=keys)
        store = ObjectStorage(settings, 1000)
        for _ in range(2):
            assert await doubt(store) is None
        assert set(files(server, "team")) == {objects.TRIED}
        assert (await kept(whole(10), store)).state is EvidenceState.KEPT
        second = whole(20)
        status = second.status.model_copy(update={"run_uid": "run-2"})
        said = await kept(replace(second, status=status), store)
        assert said.state is EvidenceState.KEPT
        assert "older evidence could not be looked through or given up" in said.message
        assert "AccessDenied" in said.message
        assert len(files(server, "team/shop")) == 12
        elsewhere = await doubt(ObjectStorage(replace(settings, prefix="others"), MUCH))
        assert elsewhere is not None
        assert elsewhere.reason == "Forbidden"
        assert "give the account of these keys that right" in elsewhere.message


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"bucket": "not-there"}, "NoBucket", "NoSuchBucket: The specified bucket does not exist.; make it"),
        ({"region": "eu-west-1"}, "WrongRegion", 'the region "eu-west-1" is wrong; expecting "us-east-1"'),
    ],
)
async def test_what_a_bucket_refuses_is_told_with_the_way_out(
    settings: BucketSettings, change: dict[str, Any], reason: str, says: str
) -> None:
    store = ObjectStorage(replace(settings, **change), MUCH)
    doubtful, at_last = await doubt(store), await kept(whole(10), store)
    assert doubtful is not None
    assert (doubtful.reason, at_last.state, at_last.reason) == (reason, EvidenceState.NOT_KEPT, reason)
    assert says in doubtful.message
    assert says in at_last.message


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({object_storage.ACCESS_KEY: "AKIDWRONG"}, "XAdminUserNotFound"),
        ({object_storage.SECRET_KEY: "do-not-show-this-wrong-one"}, "SignatureDoesNotMatch"),
    ],
)
async def test_wrong_keys_are_told_and_never_shown(
    settings: BucketSettings, wrong: dict[str, str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mounted(Path(settings.keys), **wrong)
    store = ObjectStorage(settings, MUCH)
    said = await kept(whole(10), store)
    assert (said.reason, says in said.message) == ("Forbidden", True), said
    with pytest.raises(Refusing) as refused:
        await store.try_out(OWNER, "run-1")
    shown = repr((said, refused.value, store._settings, object_storage.access_from(settings))) + caplog.text
    assert "AKID" not in shown
    assert "do-not-show" not in shown
    assert "AWS4-HMAC" not in shown, "not what was signed, either"


async def test_keys_of_a_secret_that_was_changed_count_from_the_next_run(settings: BucketSettings) -> None:
    mounted(Path(settings.keys), **{object_storage.SECRET_KEY: "old"})
    assert (await kept(whole(10), ObjectStorage(settings, MUCH))).reason == "Forbidden"
    mounted(Path(settings.keys))
    assert (await kept(whole(10), ObjectStorage(settings, MUCH))).state is EvidenceState.KEPT


async def test_a_server_that_dies_in_the_middle_of_a_write_has_it_whole_once_it_is_back(
    settings: BucketSettings, tmp_path: Path
) -> None:
    """Stopped, it takes what the socket holds of 8 MB; then it is killed, and started again."""
    with real_servers.versitygw() as mortal:
        store = ObjectStorage(replace(settings, endpoint=f"http://127.0.0.1:{mortal.port}", prefix=""), MUCH)
        bundle = bundle_of(whole())
        large = Bundle(bundle.manifest, {**bundle.packed, EvidenceKind.INJECTION: os.urandom(8_000_000)})
        await store.keep(OWNER, "run-1", Bundle(bundle.manifest, {}))
        assert mortal.process is not None
        mortal.process.send_signal(signal.SIGSTOP)
        writing = asyncio.create_task(store.keep(OWNER, "run-1", large))
        await asyncio.sleep(0.3)
        assert not writing.done()
        await asyncio.to_thread(mortal.stop)
        with pytest.raises(ConnectionError, match="bucket kept did not"):
            await writing
        await asyncio.to_thread(mortal.start)
        stored = await store.keep(OWNER, "run-1", large)
        assert stored.failed == {}
        there = files(mortal, "")
        assert there[f"shop/web-slow/run-1/{file_name(EvidenceKind.INJECTION)}"].stat().st_size == 8_000_000
        assert len(there) == 6, "and nothing else"


async def test_a_server_that_never_answers_is_given_up_and_holds_up_nothing(
    settings: BucketSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "KEEP_SECONDS", 0.5)
    monkeypatch.setattr(keeping, "ROOM_SECONDS", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        store = ObjectStorage(replace(settings, endpoint=f"http://127.0.0.1:{port}"), MUCH)
        async with asyncio.timeout(20):
            assert await doubt(store) is None, "nobody can say"
            said = await kept(whole(10), store)
    assert (said.state, said.reason) == (EvidenceState.NOT_KEPT, "StoreUnreachable")
    monkeypatch.setattr(keeping, "KEEP_SECONDS", 3.0)
    said = await kept(whole(10), store)
    assert "Connection refused" in said.message


async def test_a_certificate_is_trusted_by_the_authority_in_the_secret_and_not_without(
    settings: BucketSettings, tmp_path: Path
) -> None:
    authority = Authority.made("test")
    with real_servers.versitygw(tls=certificate(tmp_path, authority, ["localhost"])) as secure:
        over_tls = replace(settings, endpoint=f"https://localhost:{secure.port}")
        said = await kept(whole(10), ObjectStorage(over_tls, MUCH))
        assert (said.reason, "UnknownIssuer" in said.message) == ("NotTrusted", True), said
        mounted(Path(settings.keys), **{object_storage.AUTHORITY: authority.certificate.public_bytes(PEM).decode()})
        assert (await kept(whole(10), ObjectStorage(over_tls, MUCH))).state is EvidenceState.KEPT
        elsewhere = replace(settings, endpoint=f"https://127.0.0.1:{secure.port}")
        said = await kept(whole(10), ObjectStorage(elsewhere, MUCH))
        assert (said.reason, "NotValidForName" in said.message) == ("NotTrusted", True), said
    plain = replace(settings, endpoint=settings.endpoint.replace("http:", "https:"))
    said = await kept(whole(10), ObjectStorage(plain, MUCH))
    assert said.reason == "NoTls"


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted by root")
async def test_a_full_store_keeps_what_it_has_room_for(settings: BucketSettings) -> None:
    with real_servers.versitygw(room="200k") as small:
        store = ObjectStorage(replace(settings, endpoint=f"http://127.0.0.1:{small.port}"), MUCH)
        bundle = bundle_of(whole())
        large = Bundle(bundle.manifest, {**bundle.packed, EvidenceKind.INJECTION: os.urandom(1_000_000)})
        stored = await store.keep(OWNER, "run-1", large)
        assert set(stored.failed) == {EvidenceKind.INJECTION}


async def test_a_session_token_goes_along_and_a_store_without_conditions_is_asked_first(tmp_path: Path) -> None:
    asked: list[tuple[str, str | None]] = []
    held: dict[str, bytes] = {}

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["x-amz-security-token"] == "lent"
        asked.append((request.method, request.headers.get("if-none-match")))
        if request.method == "PUT" and "if-none-match" in request.headers:
            text = "<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>"
            return web.Response(status=501, text=text)
        if request.method == "PUT":
            held[request.path] = await request.read()
            return web.Response(headers={"ETag": '"1"'})
        if request.path not in held:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        return web.Response(
            body=held[request.path], headers={"ETag": '"1"', "Last-Modified": "Sun, 22 Nov 2026 10:00:00 GMT"}
        )

    application = web.Application(client_max_size=MUCH)
    application.router.add_route("*", "/{key:.*}", answer)
    async with TestServer(application) as simple:
        keys = mounted(tmp_path / "keys", **{object_storage.TOKEN: "lent"})
        settings = BucketSettings(BUCKET, f"http://127.0.0.1:{simple.port}", keys=keys)
        bundle = bundle_of(whole(10))
        await ObjectStorage(settings, MUCH).keep(OWNER, "run-1", bundle)
        assert asked[:3] == [("PUT", "*"), ("GET", None), ("PUT", None)]
        assert len(held) == 6
        with pytest.raises(Refusing, match="is not what was to be kept"):
            await ObjectStorage(settings, MUCH).keep(OWNER, "run-1", bundle_of(whole(20)))


async def test_what_a_strange_server_repeats_of_the_keys_is_not_told(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        said = f"no such key {ACCESS_KEY}, {SECRET_KEY}, lent"
        return web.Response(status=403, text=f"<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>")

    application = web.Application()
    application.router.add_route("*", "/{key:.*}", answer)
    async with TestServer(application) as strange:
        keys = mounted(tmp_path / "keys", **{object_storage.TOKEN: "lent"})
        said = await doubt(ObjectStorage(BucketSettings(BUCKET, f"http://127.0.0.1:{strange.port}", keys=keys), MUCH))
    assert said is not None
    assert "AccessDenied: no such key ***, ***, ***;" in said.message


def test_the_command_tells_what_the_bucket_refuses_and_shows_no_key(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user(monkeypatch, server, AWS_SECRET_ACCESS_KEY="do-not-show-this-wrong-one")
    assert main(["evidence", "--from", f"s3://kept/{BELOW}/"]) == 2
    shown = capsys.readouterr().err
    assert "SignatureDoesNotMatch" in shown
    assert "AKID" not in shown
    assert "do-not-show" not in shown
    user(monkeypatch, server, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert main(["evidence", "--from", f"s3://kept/{BELOW}/"]) == 5
    assert "Connection refused" in capsys.readouterr().err
