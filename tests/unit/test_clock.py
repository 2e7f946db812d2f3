"""A clock that is wrong: the page that says so, who is armed for it, and which programs could not be told."""

from __future__ import annotations

import copy
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from bounceback.agent.clock import clock
from bounceback.controller.arming import CLOCK_PATH, answer
from bounceback.drivers import KernelError, Refused, clock_page
from bounceback.drivers.clock_page import TRUE, Page, Setting
from bounceback.drivers.programs import _against
from bounceback.faults.clock_skew import ClockSkew
from bounceback.types.clock import CONTAINERS_VARIABLE, FOLDER, LIBRARY, PAGE, PRELOAD_VARIABLE, Skew
from bounceback.types.inside import Container
from bounceback.vehicles.arming import ARM_LABEL, PROXY, TOKEN_PLACE, ArmSettings, arm
from bounceback.vehicles.clock_arming import ARM_CLOCK_LABEL, CLOCK, NO_CLOCK, NOTHING, arm_clock
from bounceback.vehicles.pods import pod_info

Json = dict[str, Any]
SOURCE = Path(__file__).resolve().parents[2] / "operator" / "clock" / "clock.c"
SETTINGS = ArmSettings("bounceback:1", "IfNotPresent", "0.1.0")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    place = tmp_path / "page"
    place.write_bytes(clock_page.empty())
    made = Page.opened(os.open(place, os.O_RDWR), "app")
    yield made
    made.close()


def test_a_page_says_what_was_written_last_and_the_setting_before_stays_whole(page: Page) -> None:
    first, second = Setting(5, 6, 7, 8), Setting(-5, -6, 9, 10)
    assert page.setting() == TRUE
    page.write(first)
    assert page.setting() == first
    before = os.pread(page.file, 64, 16)
    page.write(second)
    assert page.setting() == second
    after = os.pread(page.file, 64, 16)
    assert sum(before[at : at + 32] == after[at : at + 32] for at in (0, 32)) == 1


def test_a_page_that_is_cut_short_or_somebody_elses_is_noticed(page: Page, tmp_path: Path) -> None:
    os.ftruncate(page.file, 10)
    with pytest.raises(KernelError, match="cut short"):
        page.setting()
    (tmp_path / "other").write_bytes(bytes(clock_page.SIZE))
    with pytest.raises(Refused, match="none of ours"):
        Page.opened(os.open(tmp_path / "other", os.O_RDWR), "app")


def test_a_setting_holds_until_its_time_and_drifts_meanwhile() -> None:
    setting = Setting(drift=-500, since=1_000, until=10_000_001_000)
    assert setting.holds(10_000_000_999)
    assert not setting.holds(10_000_001_000)
    assert not TRUE.holds(-1)
    assert setting.gained(10_000_001_000) == -5_000_000, "half a millisecond a second"


def test_the_library_has_the_same_layout() -> None:
    text = SOURCE.read_text()
    (magic,) = re.findall(r"#define MAGIC 0x(\w+)UL", text)
    assert int(magic, 16).to_bytes(8, "little") == clock_page.empty()[:8]
    assert re.findall(r"#define (SIZE|SLOTS) (\d+)", text) == [
        ("SIZE", str(clock_page.SIZE)),
        ("SLOTS", str(clock_page.SLOTS)),
    ]
    assert f'#define PLACE "{PAGE}"' in text


def test_a_weaker_skew_is_smaller() -> None:
    assert Skew(offset_milliseconds=-1000, drift_ppm=10).scaled(0.5) == Skew(offset_milliseconds=-500, drift_ppm=5)
    assert str(Skew(offset_milliseconds=-1500, drift_ppm=10)) == "-1.5 s and +10 ppm"


def program(*headers: tuple[int, bytes], bits: int = 2) -> bytes:
    """An ELF file with those segments: type and content."""
    head = bytearray(64)
    head[:5] = b"\x7fELF" + bytes([bits])
    struct.pack_into("=Q", head, 32, 64)
    struct.pack_into("=HH", head, 54, 56, len(headers))
    at, table, contents = 64 + 56 * len(headers), b"", b""
    for kind, content in headers:
        table += struct.pack("=IIQQQQQQ", kind, 0, at + len(contents), 0, 0, len(content), 0, 0)
        contents += content
    return bytes(head) + table + contents


LOADED = (1, b"code")
BY_A_LOADER = (3, b"/lib64/ld-linux-x86-64.so.2\0")
OF_GO = (4, b"\4\0\0\0\x53\0\0\0\4\0\0\0Go\0\0abc")
OF_GCC = (4, b"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0abc")


@pytest.mark.parametrize(
    ("content", "against"),
    [
        (program(LOADED, BY_A_LOADER, OF_GCC), ""),
        (program(LOADED, OF_GCC), "it is statically linked, so no library can answer for its clock"),
        (program(LOADED, OF_GO), "it is written in Go, which asks the kernel itself"),
        (program(LOADED, BY_A_LOADER, OF_GO), "it is written in Go, which asks the kernel itself"),
        (program(LOADED, BY_A_LOADER, bits=1), "it is a program of 32 bits"),
        (b"", ""),
    ],
    ids=["dynamic", "static", "go", "go-with-c", "32-bits", "gone"],
)
def test_which_programs_can_be_told_a_wrong_time(tmp_path: Path, content: bytes, against: str) -> None:
    (tmp_path / "program").write_bytes(content)
    with (tmp_path / "program").open("rb") as file:
        assert _against(file.fileno()) == against


def test_only_armed_containers_can_be_hit_and_the_way_out_is_told() -> None:
    fault = ClockSkew(offset_seconds=1)
    assert fault.obstacle([Container("web", clock=True), Container("bounceback-api-proxy")]) is None
    obstacle = fault.obstacle([Container("web", clock=True), Container("log")])
    assert obstacle is not None
    assert obstacle.reason == "NotArmed"
    assert "container log has no clock that can be changed: install the chart with arming.enabled" in obstacle.message
    assert (
        ClockSkew(offset_seconds=1, container="web").obstacle([Container("web", clock=True), Container("log")]) is None
    )
    refused = fault.obstacle([Container("web", no_clock="it runs on Windows")])
    assert refused is not None
    assert refused.message.endswith("it runs on Windows")


def test_what_is_laid_out_for_each_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "library"
    source.write_bytes(b"code")
    monkeypatch.setenv(CONTAINERS_VARIABLE, "web,log")
    for _ in range(2):  # a pod may be set up anew
        assert clock(source, tmp_path) == 0
    for name in ("web", "log"):
        page, library = tmp_path / name / Path(PAGE).name, tmp_path / name / Path(LIBRARY).name
        assert (page.read_bytes(), page.stat().st_mode & 0o777) == (clock_page.empty(), 0o666)
        assert (library.read_bytes(), library.stat().st_mode & 0o777) == (b"code", 0o555)
    assert clock(tmp_path / "nothing", tmp_path) == 1


def pod(*containers: Json, label: str = "enabled", **spec: Any) -> Json:
    given = list(containers) or [{"name": "web", "image": "app:1"}]
    labels = {ARM_CLOCK_LABEL: label}
    metadata = {"generateName": "web-", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": given, **spec}}


def patched(before: Json, armer: Any = arm_clock) -> Json:
    """As the API server applies it: `add` of a whole member."""
    after = copy.deepcopy(before)
    for step in armer(before, SETTINGS).patch:
        _, part, name = step["path"].split("/")
        after[part][name] = step["value"]
    return after


def test_the_containers_of_an_armed_pod_preload_the_library_from_a_folder_of_their_own() -> None:
    sidecar = {"name": "log", "image": "log:1", "restartPolicy": "Always"}
    before = {"name": "before", "image": "app:1"}
    web = {"name": "web", "image": "app:1", "env": [{"name": PRELOAD_VARIABLE, "value": "/a.so /b.so"}]}
    armed = patched(pod(web, initContainers=[before, sidecar]))
    kubernetes_validate.validate(armed, "1.36", strict=True)
    layer, untouched, log = armed["spec"]["initContainers"]
    assert (layer["name"], untouched) == (CLOCK, before)
    assert layer["env"] == [{"name": CONTAINERS_VARIABLE, "value": "log,web"}]
    assert {m["mountPath"]: m.get("subPath") for m in layer["volumeMounts"]} == {FOLDER: None, TOKEN_PLACE: NOTHING}
    (web,) = armed["spec"]["containers"]
    for each, preloaded in ((log, LIBRARY), (web, f"{LIBRARY}:/a.so:/b.so")):
        assert each["env"] == [{"name": PRELOAD_VARIABLE, "value": preloaded}]
        assert each["volumeMounts"] == [{"name": CLOCK, "mountPath": FOLDER, "subPath": each["name"]}]
    assert [volume["name"] for volume in armed["spec"]["volumes"]] == [CLOCK]
    assert arm_clock(armed, SETTINGS).patch == [], "once is enough"


def test_a_pod_may_be_armed_for_both() -> None:
    token = {"name": "token", "mountPath": TOKEN_PLACE}
    access = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    both = pod({"name": "web", "image": "app:1", "volumeMounts": [token]}, volumes=[access])
    both["metadata"]["labels"][ARM_LABEL] = "enabled"
    for first, second in ((arm, arm_clock), (arm_clock, arm)):
        armed = patched(patched(both, first), second)
        assert [each["name"] for each in armed["spec"]["initContainers"]] == [PROXY, CLOCK]
        again = patched(patched(armed, first), second)
        assert [each["name"] for each in again["spec"]["initContainers"]] == [PROXY, CLOCK]
        (web,) = again["spec"]["containers"]
        assert len(web["env"]) == len({each["name"] for each in web["env"]}) == 4
        assert len(web["volumeMounts"]) == len({each["mountPath"] for each in web["volumeMounts"]}) == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (pod(hostNetwork=True), "hostNetwork"),
        (pod(os={"name": "windows"}), "Windows"),
        (pod({"name": CLOCK, "image": "app:1"}), f"is named {CLOCK}"),
        (pod({"name": "web", "volumeMounts": [{"name": "a", "mountPath": FOLDER}]}), f"mounts {FOLDER}"),
        (pod({"name": "web", "env": [{"name": PRELOAD_VARIABLE, "valueFrom": {}}]}), "valueFrom"),
    ],
    ids=["host-network", "windows", "name", "mount", "preload"],
)
def test_a_pod_that_cannot_be_armed_is_made_as_it_is_and_says_why(given: Json, words: str) -> None:
    after = patched(given)
    assert after["spec"] == given["spec"]
    assert words in after["metadata"]["annotations"][NO_CLOCK]
    after["metadata"] |= {"namespace": "shop", "name": "web", "uid": "1"}
    assert words in pod_info(after).containers[0].no_clock
    assert not pod_info(after).containers[0].clock


def test_who_does_not_ask_is_left_alone() -> None:
    assert CLOCK_PATH == "/arm-clock"
    request = {"uid": "1", "object": pod(label="no")}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    assert "patch" not in answer(review, SETTINGS, arm_clock)["response"]
