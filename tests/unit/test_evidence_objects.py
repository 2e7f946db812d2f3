"""Evidence in object storage: names, settings, what is kept, and the words for what a store refuses."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from bounceback.api.evidence_status import MOST_WORDS, EvidenceStatus
from bounceback.cli.main import main
from bounceback.controller import keeping, object_storage
from bounceback.controller.keeping import Keeping
from bounceback.controller.object_storage import ObjectStorage
from bounceback.controller.settings import BucketSettings, EvidenceSettings, Settings, StoreKind
from bounceback.controller.store import Refusing
from bounceback.controller.stores import store_of
from bounceback.report import objects
from bounceback.report.bucket import Access, Bucket, told
from bounceback.report.bundle import MANIFEST, Bundle
from bounceback.report.evidence import Whole
from bounceback.types.outcome import EvidenceKind, EvidenceState
from bounceback.types.run_names import run_name
from tests.real_servers import ACCESS_KEY, BUCKET, SECRET_KEY
from tests.unit.test_evidence import bundle_of, whole

MUCH = 64 * 1024 * 1024
OWNER = {"metadata": {"namespace": "shop", "name": "web-slow"}}
BELOW = "team/a/shop/web-slow/run-1"


def in_memory(most: int = MUCH) -> ObjectStorage:
    return ObjectStorage(BucketSettings(BUCKET, prefix="team/a"), most, Bucket(MemoryStore(), BUCKET))


def mounted(place: Path, **keys: str) -> str:
    """The folder of a Secret; an empty value is a key that is not there."""
    place.mkdir(exist_ok=True)
    given = {object_storage.ACCESS_KEY: ACCESS_KEY, object_storage.SECRET_KEY: SECRET_KEY, **keys}
    for name, text in given.items():
        (place / name).write_text(f"{text}\n")
    return str(place)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(keeping, "KEEP_SECONDS", 20.0)


async def kept(run: Whole, store: ObjectStorage) -> EvidenceStatus:
    keeps = Keeping(store, run.body, MUCH, lambda: None)
    return await keeps.keep(run, (await keeps.pack(run)).digest)


async def test_answers_come_from_threads_that_python_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others that want it while it ends made 28 of 300 processes end by SIGABRT on a busy machine, all work done."""
    loop, known = asyncio.get_running_loop(), []
    answer = loop.call_soon_threadsafe

    def noted(*words: Any, **more: Any) -> Any:
        known.append(threading.get_ident() in [each.ident for each in threading.enumerate()])
        return answer(*words, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", noted)
    bucket = Bucket(MemoryStore(), BUCKET)
    assert await bucket.put_new("a/b", b"c")
    await bucket.put("a/b", b"d")
    assert await bucket.get("a/b", 10) == b"d"
    assert await bucket.holds("a/b", b"d")
    assert [each.key for each in await bucket.listed("a")] == ["a/b"]
    await bucket.delete("a/b")
    assert known == [True] * 6


async def doubt(store: ObjectStorage) -> EvidenceStatus | None:
    return await Keeping(store, OWNER, MUCH, lambda: None).doubt("run-1")


# Names


def test_a_place_is_a_url_that_is_read_again_and_leads_to_the_other_runs() -> None:
    assert objects.place("team/a", OWNER, "run-1") == BELOW
    url = objects.url(BUCKET, BELOW)
    assert url == f"s3://kept/{BELOW}/"
    assert objects.parsed(url) == objects.parsed(url.rstrip("/")) == (BUCKET, BELOW)
    assert objects.of_run(url, run_name("uid-1", 2)) == "s3://kept/team/a/shop/web-slow/uid-1-run2/"
    assert objects.place("", OWNER, "run-1") == "shop/web-slow/run-1"


def test_the_longest_place_has_room_in_a_status() -> None:
    owner = {"metadata": {"namespace": "n" * 63, "name": "x" * 253}}
    run = run_name("0f7a4c8e-5b7e-4e4e-8f2a-9c1d2e3f4a5b", 1000)
    assert len(objects.url("b" * 63, objects.place("p" * objects.LONGEST_PREFIX, owner, run))) <= MOST_WORDS


@pytest.mark.parametrize("text", ["", "s3://", "s3://kept", "s3://kept/", "https://kept/a", "s3://K/a", "s3:///a"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be s3://BUCKET/PREFIX"):
        objects.parsed(text)


def test_what_is_not_evidence_is_of_no_run_and_a_manifest_goes_last() -> None:
    listed = [
        objects.Listed("p/shop/web/r/manifest.json", 10, "1"),
        objects.Listed("p/shop/web/r/zzz.txt", 1000, "1"),
        objects.Listed("p/shop/manifest.json", 1000, "1"),
        objects.Listed("p/shop/web/r/systemResponse.jsonl.gz", 5, "2"),
        objects.Listed("p/shop/web/deep/r/manifest.json", 1000, "1"),
    ]
    keys = ("p/shop/web/r/systemResponse.jsonl.gz", "p/shop/web/r/manifest.json")
    assert objects.by_run(listed, "p/shop") == {"p/shop/web/r": objects.OfRun(keys, 15, "1")}


# Settings


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"BUCKET": ""}, "BUCKET must be the name of a bucket"),
        ({"BUCKET": "Kept_"}, "BUCKET must be the name of a bucket"),
        ({"PREFIX": "a//b"}, "PREFIX must be names with /"),
        ({"PREFIX": "a" * 129}, "PREFIX must be names with /"),
        ({"PREFIX": "../other"}, "PREFIX must be names with /"),
        ({"ENDPOINT": "minio:9000"}, "ENDPOINT must be https://HOST"),
        ({"ENDPOINT": "https://minio/path"}, "ENDPOINT must be https://HOST"),
        ({"ENDPOINT": "https://me:hunter2@minio"}, r"ENDPOINT must be https://HOST.*\*\*\*"),
        ({"ENDPOINT": "http://minio:9000"}, "ALLOW_HTTP is true: evidence would be sent in clear"),
    ],
)
def test_a_setting_that_is_wrong_is_named(changed: dict[str, str], says: str) -> None:
    given = {"STORE": "ObjectStorage", "BUCKET": "kept", **changed}
    with pytest.raises(ValueError, match=f"BOUNCEBACK_EVIDENCE_{says}") as refused:
        Settings.from_environment({f"BOUNCEBACK_EVIDENCE_{name}": text for name, text in given.items()})
    assert "hunter2" not in str(refused.value)


def test_settings_of_a_bucket_count_where_one_is_wanted() -> None:
    given = {"ENDPOINT": "http://minio:9000/", "PREFIX": "/a/b/", "BUCKET": "kept", "ALLOW_HTTP": "true"}
    environment = {f"BOUNCEBACK_EVIDENCE_{name}": text for name, text in given.items()}
    assert EvidenceSettings.from_environment(environment).bucket == BucketSettings()
    environment["BOUNCEBACK_EVIDENCE_STORE"] = "ObjectStorage"
    found = EvidenceSettings.from_environment(environment)
    assert found.bucket == BucketSettings("kept", "http://minio:9000", prefix="a/b")
    store = store_of(found, None)  # type: ignore[arg-type] # it asks nothing of Kubernetes
    assert isinstance(store, ObjectStorage)
    assert store.name is StoreKind.OBJECT_STORAGE


@pytest.mark.parametrize("lacking", [object_storage.ACCESS_KEY, object_storage.SECRET_KEY])
async def test_a_secret_without_its_keys_is_a_doubt_before_anything_is_touched(tmp_path: Path, lacking: str) -> None:
    keys = mounted(tmp_path / "keys", **{lacking: ""})
    said = await doubt(ObjectStorage(BucketSettings(BUCKET, "https://nowhere.invalid", keys=keys), MUCH))
    assert said is not None
    assert (said.state, said.reason) == (EvidenceState.DOUBTFUL, "NoCredentials")
    assert f"has no {lacking}" in said.message


# What is kept


async def test_what_is_kept_is_found_again_and_once_more_is_no_harm() -> None:
    run, store = whole(), in_memory()
    bundle = bundle_of(run)
    stored = await store.keep(OWNER, "run-1", bundle)
    assert (stored.place, stored.bytes, stored.failed) == (f"s3://kept/{BELOW}/", bundle.bytes, {})
    assert await store.keep(OWNER, "run-1", bundle) == stored
    assert await store.find(OWNER, "run-1") == stored
    assert await store.find(OWNER, "run-2") is None


async def test_what_others_put_there_stays_and_is_no_evidence() -> None:
    store, bundle = in_memory(), bundle_of(whole())
    bucket = await store._reached()
    for strange in (b"{}", b"no json", b'{"kinds": []}', bytes(len(bundle.manifest))):
        await bucket.put(f"{BELOW}/{MANIFEST}", strange)
        assert await store.find(OWNER, "run-1") is None
        with pytest.raises(Refusing, match="is there, and is not what was to be kept") as refused:
            await store.keep(OWNER, "run-1", bundle)
        assert refused.value.reason == "NameTaken"
        assert await bucket.get(f"{BELOW}/{MANIFEST}", MUCH) == strange


async def test_an_operator_that_was_ended_in_the_middle_has_left_what_tells_of_it() -> None:
    store, bundle = in_memory(), bundle_of(whole())
    few: dict[EvidenceKind, bytes] = {
        kind: data for kind, data in bundle.packed.items() if kind is not EvidenceKind.SYSTEM_RESPONSE
    }
    await store.keep(OWNER, "run-1", Bundle(bundle.manifest, few))
    found = await store.find(OWNER, "run-1")
    assert found is not None
    message = "the operator was ended before it had written systemResponse.jsonl.gz"
    assert found.failed == {EvidenceKind.SYSTEM_RESPONSE: message}
    assert found.bytes == bundle.bytes - len(bundle.packed[EvidenceKind.SYSTEM_RESPONSE])


async def test_the_oldest_goes_first_and_that_of_other_namespaces_and_programs_stays() -> None:
    store, bundle = in_memory(), bundle_of(whole())
    bucket = await store._reached()
    await bucket.put("team/a/shop/notes.txt", b"theirs")
    await store.keep({"metadata": {"namespace": "shop-2", "name": "web-slow"}}, "run-9", bundle)
    for number in range(4):
        await store.keep(OWNER, f"run-{number}", bundle)
        await asyncio.sleep(0.002)
    assert await store.make_room("shop", "run-3") == 4 * bundle.bytes
    store.most = 2 * bundle.bytes
    assert await store.make_room("shop", "run-0") == 2 * bundle.bytes
    left = {each.key.split("/")[-2] for each in await bucket.listed("team/a/shop") if each.key.endswith(MANIFEST)}
    assert left == {"run-0", "run-3"}, "that of the run itself stays, though it is the oldest"
    assert await bucket.get("team/a/shop/notes.txt", MUCH) == b"theirs"
    assert len(await bucket.listed("team/a/shop-2")) == 6


# Words


@pytest.mark.parametrize(
    ("status", "code", "reason", "passing"),
    [
        (403, "AccessDenied", "Forbidden", False),
        (403, "Strange", "Forbidden", False),
        (403, "ExpiredToken", "Forbidden", False),
        (403, "QuotaExceeded", "QuotaExceeded", False),
        (400, "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", False),
        (507, "", "StoreFull", False),
        (413, "", "TooLarge", False),
        (301, "", "WrongRegion", False),
        (400, "", "Refused", False),
        (501, "NotImplemented", "Refused", False),
        (409, "ConditionalRequestConflict", "StoreUnreachable", True),
        (429, "", "StoreUnreachable", True),
        (500, "InternalError", "StoreUnreachable", True),
        (503, "SlowDown", "StoreUnreachable", True),
    ],
)
def test_what_may_pass_is_told_from_what_does_not(status: int, code: str, reason: str, passing: bool) -> None:
    answer = f"<Error><Code>{code}</Code><Message>no &amp; no</Message><AWSAccessKeyId>AKID</AWSAccessKeyId></Error>"
    text = f"Generic S3 error: Server returned non-2xx status code: {status} Whatever: {answer if code else ''}"
    found = told(text, "refused", "not done")
    assert (found.reason, found.passing) == (reason, passing)
    assert (f"{code}: no & no" if code else f"status {status}") in found.message
    assert "AKID" not in found.message


def test_what_must_not_be_told_is_in_no_representation() -> None:
    access = Access("kept", "us-east-1", key="AKID", secret="hunter2", token="lent", authority="PEM")
    assert repr(access) == "Access(bucket='kept', region='us-east-1', endpoint='')"


# The command


def test_without_keys_the_command_says_which_variables_it_wants(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["evidence", "--from", f"s3://kept/{BELOW}/"]) == 2
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in capsys.readouterr().err
    assert main(["evidence", "--from", "s3://kept"]) == 2
    assert "must be s3://BUCKET/PREFIX" in capsys.readouterr().err
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    assert main(["evidence", "--from", f"s3://kept/{BELOW}/"]) == 2
    assert "AWS_CA_BUNDLE /nowhere/ca.pem cannot be read" in capsys.readouterr().err
