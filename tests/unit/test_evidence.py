"""Evidence: whole, small, the same again for the same run, without secrets; what is cut or changed is found out."""

from __future__ import annotations

import base64
import errno
import json
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.cli.main import main
from bounceback.controller.keeping import told
from bounceback.controller.settings import Settings, StoreKind
from bounceback.controller.store import Refusing, Stored
from bounceback.controller.stores import Volume
from bounceback.engine.recording import COUNTS_OF_RUN, AgentLines, Recorded, Recording, Room
from bounceback.engine.samples import History, Sample
from bounceback.report import folder
from bounceback.report.bundle import MANIFEST, Bundle, digest_of, file_name, opened, pack
from bounceback.report.evidence import CHUNK, Whole
from bounceback.report.kept import STATES, experiment_of, with_evidence, without_evidence
from bounceback.report.maps import PARTS, head_name, joined, maps_of, parts_of
from bounceback.report.markdown import as_markdown
from bounceback.report.page import as_page
from bounceback.report.record import record, schema
from bounceback.report.redact import HIDDEN, redacted
from bounceback.report.subject import Subject
from bounceback.types.fields import Model
from bounceback.types.instants import Instant
from bounceback.types.outcome import EvidenceKind, EvidenceState
from bounceback.types.told import Line, Told
from tests.finished_runs import RUNS
from tests.spec_cases import CASES

MODELS: dict[str, type[Model]] = {"FaultExperiment": FaultExperimentSpec, "RecoveryCheck": RecoveryCheckSpec}
MUCH = 64 * 1024 * 1024
EVERY_KIND = pytest.mark.parametrize("kind", list(EvidenceKind))
Json = dict[str, Any]


def whole(samples: int = 300, *, room: int = 1_000_000, lines: int = 0) -> Whole:
    """A run that passed, with so many samples 100 ms apart that take 1 ms and from 7 s to 27 s in 50 ms."""
    body = RUNS["passed"]()
    subject = Subject.of(body)
    started = subject.status.started_at
    assert started is not None
    begin = started.instant()
    history, recording = History(0.1, 1.0), Recording(Room(room))
    history.keep = recording.add
    for n in range(samples):
        start = begin.plus(n / 10)
        slow = 7 <= n / 10 < 27
        message = "" if n % 50 or not slow else "GET http://admin:hunter2@web/: no answer"
        history.add(Sample(start, start.plus(0.05 if slow else 0.001), not message, message))
    agents = AgentLines()
    for n in range(lines):
        agents.add("bb-1", False, Line(Told.STEP, begin, "slow-1", detail={"percent": n, "noise": random.random()}))
    seen = Recorded("web-healthy", "probes", "home", "http", history, recording)
    return Whole(body, subject.spec, subject.status, subject.status.injections, agents, [seen])


def bundle_of(run: Whole, most: int = MUCH) -> Bundle:
    return pack(run.about(), run.lines, most)


def lines_of(run: Whole, kind: EvidenceKind) -> list[Json]:
    return list(run.lines(kind, False))


def test_every_sample_is_there_and_the_same_run_is_the_same_bytes() -> None:
    run = whole(2 * CHUNK + 1)
    samples = [line for line in lines_of(run, EvidenceKind.SYSTEM_RESPONSE) if line["type"] == "samples"]
    starts = [start for line in samples for start in line["startMicroseconds"]]
    assert [len(line["said"]) for line in samples] == [CHUNK, CHUNK, 1]
    assert starts == [n * 100_000 for n in range(2 * CHUNK + 1)]
    one, other = bundle_of(run), bundle_of(run)
    assert one == other
    assert opened(one.manifest, one.packed, one.digest).whole


def test_a_message_is_told_once_and_without_the_password_in_it() -> None:
    found = lines_of(whole(), EvidenceKind.SYSTEM_RESPONSE)
    (probe,) = [line for line in found if line["type"] == "probe"]
    (samples,) = [line for line in found if line["type"] == "samples"]
    assert probe["messages"] == ["GET http://***@web/: no answer"]
    assert set(samples["said"]) == {0, 1}
    assert "hunter2" not in json.dumps(found)


def test_samples_beyond_the_bound_are_counted_and_make_it_partial() -> None:
    run = whole(300, room=100)
    assert run.not_recorded == 200
    bundle = bundle_of(run)
    status = told(Volume(Path("/evidence"), MUCH), Stored("there", bundle.manifest, bundle.bytes))
    assert (status.state, status.reason) == (EvidenceState.PARTIAL, "SamplesMissing")
    assert "200 samples" in status.message


def test_samples_of_an_operator_before_this_one_are_missed_and_its_histories_are_there() -> None:
    run = whole()
    stored = run.recorded[0].history.to_json()
    status = run.status.model_copy(update={"histories": {"web-healthy/probes/home": stored}})
    alone = Whole(run.body, run.spec, status, run.injections, run.told, [])
    assert alone.not_recorded == 300
    (probe,) = [line for line in lines_of(alone, EvidenceKind.SYSTEM_RESPONSE) if line["type"] == "probe"]
    assert probe["recorded"] == 0
    assert probe["history"]["samples"] == [300, stored["samples"][1]]


def test_what_runs_hold_is_given_back_to_all_of_them() -> None:
    everyone = Room(100)
    one, other = Room(80, everyone), Room(80, everyone)
    assert sum(one.take() for _ in range(90)) == 80
    assert sum(other.take() for _ in range(90)) == 20
    one.give_back()
    assert everyone.taken == 20
    assert sum(other.take() for _ in range(90)) == 60


def test_a_log_that_is_read_again_is_not_told_twice_and_counts_leave_room_for_news() -> None:
    lines, now = AgentLines(), Instant.now()
    for _ in range(2):
        lines.begin("bb-1", False)
        lines.add("bb-1", False, Line(Told.STARTED, now))
        lines.add("bb-1", False, Line(Told.HEARTBEAT, now))
    assert [json.loads(line)["told"] for _, _, line in lines] == [Told.STARTED]
    for n in range(COUNTS_OF_RUN):
        lines.add("bb-1", False, Line(Told.HITS, now, "slow-1", hits=n))
    lines.add("bb-1", False, Line(Told.CLEARED, now, "slow-1"))
    assert lines.left_out == 1
    assert [json.loads(line)["told"] for _, _, line in lines][-1] == Told.CLEARED


def test_what_is_too_much_is_given_in_short_and_then_left_out_and_said_so() -> None:
    run = whole(6_000, lines=1_000)
    full = bundle_of(run)
    short = bundle_of(run, full.bytes // 2)
    kinds = json.loads(short.manifest)["kinds"]
    assert short.bytes <= full.bytes // 2
    assert [kind for kind, entry in kinds.items() if entry.get("brief")] == ["injection", "systemResponse"]
    tiny = bundle_of(run, 3_000)
    entries = json.loads(tiny.manifest)["kinds"]
    assert sum(map(len, tiny.packed.values())) <= 3_000
    assert "more than the limit of 3000" in next(e["problem"] for e in entries.values() if "problem" in e)
    status = told(Volume(Path("/evidence"), MUCH), Stored("there", tiny.manifest, tiny.bytes))
    assert status.state is EvidenceState.PARTIAL
    assert any(part.kept for part in status.kinds)
    assert not all(part.kept for part in status.kinds)


@EVERY_KIND
@pytest.mark.parametrize(
    ("harm", "found_out"),
    [
        (lambda data: None, "missing"),
        (lambda data: data[:-9], "cut"),
        (lambda data: data[: len(data) // 2], "cut"),
        (lambda data: b"no gzip", "cannot be unpacked"),
        (lambda data: zlib.compress(b"{}\n", wbits=31), "changed: its sha256"),
        (lambda data: data + data, "cut"),
    ],
)
def test_what_was_cut_changed_or_lost_is_named_and_the_rest_is_read(
    kind: EvidenceKind, harm: Callable[[bytes], bytes | None], found_out: str
) -> None:
    bundle = bundle_of(whole())
    packed = dict(bundle.packed)
    harmed = harm(packed.pop(kind))
    read = opened(bundle.manifest, packed | ({kind: harmed} if harmed is not None else {}), bundle.digest)
    (problem,) = read.problems
    assert problem.startswith(f"{kind}: ")
    assert found_out in problem
    assert [k for k in EvidenceKind if read.has(k)] == [k for k in EvidenceKind if k is not kind]


def test_evidence_that_was_made_to_fit_its_manifest_does_not_fit_the_status() -> None:
    bundle = bundle_of(whole())
    forged = bundle_of(whole(10))
    read = opened(forged.manifest, forged.packed, bundle.digest)
    assert "not the one that was written" in read.problems[0]
    assert not opened(bundle.manifest, bundle.packed, None).known


@pytest.mark.parametrize(
    "manifest", [b"", b"{", b"[]", b'{"kinds": 3}', b'{"kinds": {}, "version": 2}', b'{"kinds": {"injection": 1}}']
)
def test_a_manifest_that_is_none_is_refused(manifest: bytes) -> None:
    with pytest.raises(ValueError, match=r"manifest|version"):
        opened(manifest, {}, None)


@pytest.mark.parametrize("shard", [700, 3_000, 900 * 1024])
def test_config_maps_stay_within_their_limit_and_give_back_what_was_put_in(shard: int) -> None:
    run = whole(5_000)
    bundle = bundle_of(run)
    head, parts = maps_of(bundle, "uid-1", run.body | {"apiVersion": "bounceback.dev/v1alpha1"}, shard)
    everything = [head, *(part for listed in parts.values() for part in listed)]
    for each in everything:
        held = sum(len(base64.b64decode(data)) for data in each["binaryData"].values())
        assert held <= shard
        assert each["immutable"] is True
        assert each["metadata"]["ownerReferences"][0]["uid"] == run.body["metadata"]["uid"]
    assert len({each["metadata"]["name"] for each in everything}) == len(everything)
    by_name = {part["metadata"]["name"]: part for listed in parts.values() for part in listed}
    manifest, found = joined(head, by_name)
    assert opened(manifest, found, bundle.digest).whole
    if parts:  # with one gone, only its kind is missing
        kind, names = next(iter(parts_of(head).items()))
        by_name.pop(names[-1])
        read = opened(*joined(head, by_name), bundle.digest)
        assert read.problems == (f"{kind}: missing",)


def test_a_head_that_names_what_is_not_its_own_is_not_followed() -> None:
    head = {"metadata": {"name": head_name("uid-1")}, "data": {PARTS: '{"injection": ["kube-root-ca.crt"]}'}}
    with pytest.raises(ValueError, match=r"kube-root-ca\.crt, which is none of its parts"):
        parts_of(head)


def test_what_telling_keys_and_secrets_hold_is_hidden_and_the_shape_stays() -> None:
    secret = {"metadata": {"name": "db"}, "type": "Opaque", "data": {"user": "YQ==", "x": "Yg=="}}
    rows = {"rows": [{"id": 1, "password": "hunter2", "tokens": ["a", "b"], "apiKey": 12345}]}
    variables = {"env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "MODE", "value": "fast"}]}
    assert redacted(secret)["data"] == {"user": HIDDEN, "x": HIDDEN}
    assert redacted(rows) == {"rows": [{"id": 1, "password": HIDDEN, "tokens": [HIDDEN, HIDDEN], "apiKey": HIDDEN}]}
    assert [each["value"] for each in redacted(variables)["env"]] == [HIDDEN, "fast"]
    assert redacted({"login": {"secretName": "db", "passwordKey": "pw"}}) == {
        "login": {"secretName": "db", "passwordKey": "pw"}
    }
    assert redacted({"kind": "Secret", "data": "odd", "n": None, "ok": True})["data"] == HIDDEN
    assert redacted(["postgres://bob:pw@db/", 3, None]) == ["postgres://***@db/", 3, None]


def test_a_long_word_is_gone_through_once() -> None:
    """With a pattern that may begin at each of its letters this took minutes, and held the run's evidence up."""
    long = "0af9" * 100_000
    assert redacted({"noise": long, "told": f"{long}-token: {long}"}) == {"noise": long, "told": f"{long}-token: ***"}


def test_every_good_spec_is_still_one_without_its_secrets() -> None:
    for case in CASES:
        if not case.message and not case.schema_says and case.kind in MODELS:
            model = MODELS[case.kind]
            model.model_validate(redacted(model.model_validate(case.spec).to_json()))


def test_observed_values_are_in_the_evidence_without_their_secrets() -> None:
    found = lines_of(whole(), EvidenceKind.CONSISTENCY)
    before = next(line for line in found if line["type"] == "observed")
    assert before["value"] == {"count": 4210, "token": HIDDEN}
    at_clear = [line for line in found if line.get("when") == "clear"]
    assert [line["type"] for line in at_clear] == ["observed", "notObserved"]
    assert at_clear[0]["value"] == {"count": 4301, "token": HIDDEN}
    assert at_clear[1]["name"] == "stock" and at_clear[1]["message"] == "connection refused by redis://***@stock"
    assert {"type": "observedAtClear", "leastSeconds": 0.112, "mostSeconds": 0.431} in found
    everything = json.dumps([lines_of(whole(), kind) for kind in EvidenceKind])
    assert "do-not-show-this" not in everything


def test_a_report_has_all_injections_and_how_long_answers_took() -> None:
    run = whole()
    more = [*run.injections, *(run.injections[0].model_copy(update={"name": f"more-{n}"}) for n in range(150))]
    run = Whole(run.body, run.spec, run.status, more, run.told, run.recorded)
    bundle = bundle_of(run)
    subject = with_evidence(Subject.of(run.body), opened(bundle.manifest, bundle.packed, bundle.digest))
    told = record(subject)
    assert len(told.injections) == 152
    assert told.evidence is not None
    assert told.evidence.verified is True
    (probe,) = told.probes
    assert probe.before is not None
    assert probe.during is not None
    assert probe.after is not None
    assert (probe.before.p50_milliseconds, probe.during.p50_milliseconds, probe.after.p50_milliseconds) == (1, 50, 1)
    assert (probe.before.samples, probe.during.samples, probe.after.samples) == (70, 200, 30)
    assert probe.during.samples - probe.during.healthy == 4
    jsonschema.validate(told.to_json(), json.loads(schema()))
    assert "web-healthy/home" in as_page(subject)


@pytest.mark.parametrize("state", list(EvidenceState))
def test_a_report_tells_what_became_of_the_evidence_though_it_cannot_be_read(state: EvidenceState) -> None:
    body = RUNS["passed"]()
    why = "exceeded quota <b>, password=hunter2"
    body["status"]["evidence"] = {"state": state, "reason": "QuotaExceeded", "message": why, "store": "ConfigMaps"}
    subject = without_evidence(Subject.of(body), "not read: may not get configmaps")
    jsonschema.validate(record(subject).to_json(), json.loads(schema()))
    for text in (as_page(subject), as_markdown(subject)):
        assert STATES[state] in text
        assert "may not get configmaps" in text
        assert "exceeded quota" in text
        assert "<b>" not in text
        assert "hunter2" not in text


def test_the_evidence_of_another_run_is_not_taken_for_this_one() -> None:
    bundle = bundle_of(whole())
    other = RUNS["failed"]()
    other["metadata"]["uid"] = "another"
    with pytest.raises(ValueError, match="and not of"):
        with_evidence(Subject.of(other), opened(bundle.manifest, bundle.packed, None))


def test_a_report_is_made_where_nothing_but_the_evidence_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, place = whole(), tmp_path / "kept"
    folder.written(place, bundle_of(run))
    assert main(["report", "--evidence", str(place)]) == 0
    text = capsys.readouterr().out
    assert "# ✅ shop/web-slow: Passed" in text
    assert "home | during | 200 | 196 | 50.0 ms" in text
    assert "held against no digest" in text
    assert experiment_of(opened(*folder.read(place), None))["metadata"]["name"] == "web-slow"


def test_the_command_holds_a_folder_against_the_digest_of_the_experiment_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, place = whole(), tmp_path / "kept"
    bundle = bundle_of(run)
    folder.written(place, bundle)
    body = run.body | {"status": {**run.body["status"], "evidence": {"state": "Kept", "digest": bundle.digest}}}
    (place / "experiment.json").write_text(json.dumps(body))
    assert main(["evidence", "--from", str(place), "--to", str(tmp_path / "copy")]) == 0
    assert "as in the status" in capsys.readouterr().out
    assert main(["evidence", "--from", str(place), "--to", str(tmp_path / "copy")]) == 2
    assert "must be new or empty" in capsys.readouterr().err
    (place / file_name(EvidenceKind.CONSISTENCY)).unlink()
    assert main(["evidence", "--from", str(place)]) == 3
    assert "consistency: missing" in capsys.readouterr().out
    (place / MANIFEST).write_bytes(bundle.manifest.replace(b'"Passed"', b'"Failed"'))
    assert main(["evidence", "--from", str(place)]) == 1
    assert main(["evidence", "--from", str(tmp_path / "nowhere")]) == 2
    assert "holds no evidence" in capsys.readouterr().err
    assert main(["report", "--evidence", str(tmp_path / "nowhere")]) == 2


def test_files_that_hold_something_else_are_bad_input_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = pack(whole().about(), lambda kind, brief: [{"kind": str(kind)}], MUCH)
    folder.written(tmp_path / "strange", strange)
    assert main(["report", "--evidence", str(tmp_path / "strange")]) == 2
    assert "--evidence" in capsys.readouterr().err


async def test_a_volume_keeps_a_run_once_and_gives_up_the_oldest(tmp_path: Path) -> None:
    run = whole()
    bundle = bundle_of(run)
    store = Volume(tmp_path, 3 * bundle.bytes)
    await store.try_out(run.body, "run-0")
    for n in range(4):
        kept = await store.keep(run.body, f"run-{n}", bundle)
        assert kept.failed == {}
        assert opened(*folder.read(Path(kept.place)), bundle.digest).whole
        _age(Path(kept.place), 100 - n)
    assert (await store.keep(run.body, "run-3", bundle)).failed == {}, "once more is no harm"
    with pytest.raises(Refusing, match="is not what was to be kept"):
        await store.keep(run.body, "run-3", bundle_of(whole(10)))
    found = await store.find(run.body, "run-3")
    assert found is not None
    assert found.manifest == bundle.manifest
    assert await store.find(run.body, "run-9") is None
    assert await store.make_room("shop", "run-3") == 3 * bundle.bytes
    assert names(tmp_path / "shop" / "web-slow") == ["run-1", "run-2", "run-3"]
    assert names(tmp_path) == ["shop"], "nothing else is left"


async def test_a_volume_that_is_full_keeps_what_it_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = whole(lines=3_000)  # more than the disk has room for, in one kind
    bundle, room = bundle_of(run), 20_000
    wrote = 0

    def write(path: Path, data: bytes) -> None:
        nonlocal wrote
        if wrote + len(data) > room:
            path.write_bytes(data[: max(0, room - wrote)])
            raise OSError(errno.ENOSPC, "No space left on device")
        wrote += len(data)
        path.write_bytes(data)

    monkeypatch.setattr(folder, "_write", write)
    kept = await Volume(tmp_path, MUCH).keep(run.body, "run-0", bundle)
    assert kept.failed == {EvidenceKind.INJECTION: "No space left on device"}
    status = told(Volume(tmp_path, MUCH), kept)
    assert status.state is EvidenceState.PARTIAL
    assert status.message == "injection: No space left on device"
    read = opened(*folder.read(Path(kept.place)), status.digest)
    assert read.problems == ("injection: missing",)
    room = 0
    with pytest.raises(Refusing, match="no room") as refused:
        await Volume(tmp_path, MUCH).keep(run.body, "run-1", bundle)
    assert refused.value.reason == "StoreFull"
    assert names(tmp_path / "shop" / "web-slow") == ["run-0"], "no half of it is left"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("STORE", "S3", "must be ConfigMaps, Volume, ObjectStorage, None"),
        ("DIRECTORY", "evidence", "must be a path from /"),
        ("RUN_MEBIBYTES", "0", "whole number of MiB from 1 to 1048576"),
        ("RUN_MEBIBYTES", "4MiB", "whole number of MiB"),
        ("NAMESPACE_MEBIBYTES", "2", "no less than that of a run"),
    ],
)
def test_a_setting_that_is_wrong_is_named(name: str, value: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"BOUNCEBACK_EVIDENCE_{name} .*{told}"):
        Settings.from_environment({f"BOUNCEBACK_EVIDENCE_{name}": value})


def test_config_maps_are_the_default_and_none_is_none() -> None:
    assert Settings.from_environment({}).evidence.store is StoreKind.CONFIG_MAPS
    assert Settings.from_environment({"BOUNCEBACK_EVIDENCE_STORE": "None"}).evidence.store is StoreKind.NONE


def test_the_digest_is_that_of_the_manifest() -> None:
    assert digest_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def names(place: Path) -> list[str]:
    return sorted(each.name for each in place.iterdir())


def _age(place: Path, seconds: float) -> None:
    told = place.stat()
    os.utime(place, (told.st_atime - seconds, told.st_mtime - seconds))
