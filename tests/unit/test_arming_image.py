"""Pods that may come to a node which cannot have our image are not armed; all others are."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bounceback.controller.arming import answer
from bounceback.types.clock import PRELOAD_VARIABLE
from bounceback.vehicles.arming import ARM_LABEL, NOT_ARMED, PROXY, TOKEN_PLACE, ArmSettings, arm
from bounceback.vehicles.clock_arming import ARM_CLOCK_LABEL, CLOCK, NO_CLOCK, arm_clock
from bounceback.vehicles.image_known import LARGEST, LASTS, Lacking, read_record, record_of, still
from bounceback.vehicles.scheduling import Place, may_come

Json = dict[str, Any]
IMAGE = "bounceback:1"
WHY = "ErrImagePull: no such manifest"
LABELS = {"kubernetes.io/hostname": "edge-1", "disk": "ssd", "cores": "8"}
EDGE = Place("edge-1", LABELS)
TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


def settings(*lacking: Lacking) -> ArmSettings:
    return ArmSettings(IMAGE, "IfNotPresent", "0.1.0", lacking=lacking)


def lacks(place: Place = EDGE, at: float = 0.0) -> Lacking:
    return Lacking(place, WHY, at)


def pod(**spec: Any) -> Json:
    mount = {"name": "kube-api-access-1", "mountPath": TOKEN_PLACE}
    access = {"name": "kube-api-access-1", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    containers = [{"name": "main", "image": "app:1", "volumeMounts": [mount]}]
    labels = {ARM_LABEL: "enabled", ARM_CLOCK_LABEL: "enabled"}
    return {"metadata": {"labels": labels}, "spec": {"containers": containers, "volumes": [access], **spec}}


def required(*terms: Json) -> Json:
    rule = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": rule}}


def label(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def name_is(name: str) -> Json:
    """As the controller of a DaemonSet writes it."""
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}


def tainted(*taints: Json) -> Place:
    return Place("edge-1", LABELS, taints)


@pytest.mark.parametrize(
    ("spec", "place", "comes"),
    [
        ({}, EDGE, True),
        ({"nodeName": "edge-1"}, EDGE, True),
        ({"nodeName": "edge-2"}, EDGE, False),
        ({"nodeName": "edge-1"}, tainted(TAINT), True),
        ({"nodeSelector": {"disk": "ssd"}}, EDGE, True),
        ({"nodeSelector": {"disk": "ssd", "zone": "a"}}, EDGE, False),
        (required(label("disk", "In", "hdd", "ssd")), EDGE, True),
        (required(label("disk", "In", "hdd")), EDGE, False),
        (required(label("disk", "NotIn", "hdd")), EDGE, True),
        (required(label("zone", "NotIn", "a")), EDGE, True),
        (required(label("disk", "NotIn", "ssd")), EDGE, False),
        (required(label("disk", "Exists")), EDGE, True),
        (required(label("zone", "Exists")), EDGE, False),
        (required(label("zone", "DoesNotExist")), EDGE, True),
        (required(label("disk", "DoesNotExist")), EDGE, False),
        (required(label("cores", "Gt", "4")), EDGE, True),
        (required(label("cores", "Gt", "8")), EDGE, False),
        (required(label("cores", "Lt", "9")), EDGE, True),
        (required(label("disk", "Gt", "4")), EDGE, False),
        (required(label("zone", "Lt", "4")), EDGE, False),
        (required(label("zone", "Exists"), label("disk", "Exists")), EDGE, True),
        (required({"matchExpressions": [*label("disk", "Exists")["matchExpressions"], *label("zone", "Exists")[
            "matchExpressions"]]}), EDGE, False),
        (required({}), EDGE, False),
        (required(name_is("edge-1")), EDGE, True),
        (required(name_is("edge-2")), EDGE, False),
        (required({**name_is("edge-1"), **label("zone", "Exists")}), EDGE, False),
        (required(label("disk", "Resembles", "ssd")), EDGE, True),
        ({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}}, EDGE, True),
        ({"affinity": {"podAntiAffinity": {}}}, EDGE, True),
        ({}, tainted(TAINT), False),
        ({}, tainted({**TAINT, "effect": "NoExecute"}), False),
        ({}, tainted({**TAINT, "effect": "PreferNoSchedule"}), True),
        ({"tolerations": [{"operator": "Exists"}]}, tainted(TAINT), True),
        ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, tainted(TAINT), True),
        ({"tolerations": [{"key": "gpu", "value": "yes"}]}, tainted(TAINT), True),
        ({"tolerations": [{"key": "gpu", "operator": "Equal", "value": "no"}]}, tainted(TAINT), False),
        ({"tolerations": [{"key": "tpu", "operator": "Exists"}]}, tainted(TAINT), False),
        ({"tolerations": [{"operator": "Exists", "effect": "NoExecute"}]}, tainted(TAINT), False),
        ({"tolerations": [{"operator": "Exists"}]}, tainted(TAINT, {**TAINT, "effect": "NoExecute"}), True),
        ({"tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]},
         tainted(TAINT, {**TAINT, "effect": "NoExecute"}), False),
    ],
)  # fmt: skip
def test_where_a_pod_may_come_follows_from_what_it_says(spec: Json, place: Place, comes: bool) -> None:
    assert may_come(spec, place) is comes


def test_a_node_is_what_pods_choose_it_by() -> None:
    node = {"metadata": {"name": "edge-1", "labels": LABELS}, "spec": {"taints": [{"key": "gpu", "effect": "NoExecute",
            "timeAdded": "2026-01-01T00:00:00Z"}]}}  # fmt: skip
    assert Place.of(node) == Place("edge-1", LABELS, ({"key": "gpu", "value": "", "effect": "NoExecute"},))
    assert Place.of({"metadata": {"name": "bare"}}) == Place("bare", {})


@pytest.mark.parametrize(("armer", "note"), [(arm, NOT_ARMED), (arm_clock, NO_CLOCK)], ids=["proxy", "clock"])
def test_a_pod_that_would_wait_for_the_image_is_made_without_it_and_says_what_to_do(armer: Any, note: str) -> None:
    armed = armer(pod(), settings(lacks(), lacks(Place("edge-2", {}))))
    assert armed.refused == (
        "it may come to node edge-1 and 1 more, where image bounceback:1 cannot be had (ErrImagePull: no such "
        "manifest): have it there, or keep the pod from there (nodeSelector); then make it anew"
    )
    assert [(step["path"], step["value"]) for step in armed.patch] == [("/metadata/annotations", {note: armed.refused})]


@pytest.mark.parametrize(("armer", "ours"), [(arm, PROXY), (arm_clock, CLOCK)], ids=["proxy", "clock"])
def test_a_pod_that_never_comes_there_is_armed(armer: Any, ours: str) -> None:
    armed = armer(pod(nodeSelector={"disk": "hdd"}), settings(lacks()))
    assert not armed.refused
    assert ours in json.dumps(armed.patch)


def test_one_that_waits_for_the_image_already_is_seen_to_as_before() -> None:
    """The API server asks again where another webhook changed the pod; what is known may have changed, too."""
    before = pod()
    for step in arm(before, settings()).patch:
        _, part, name = step["path"].split("/")
        before[part][name] = step["value"]
    again = arm(before, settings(lacks()))
    assert (again.refused, again.patch) == ("", [])
    assert PRELOAD_VARIABLE in json.dumps(arm_clock(before, settings(lacks())).patch)


def test_the_answer_is_a_warning_and_never_a_no() -> None:
    request = {"uid": "7", "namespace": "shop", "object": pod()}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    response = answer(review, settings(lacks()))["response"]
    assert response["allowed"] is True
    assert response["warnings"][0].startswith("Bounceback does not arm this pod: it may come to node edge-1, where")
    assert len(json.loads(base64.b64decode(response["patch"]))) == 1


def test_the_kubelets_words_are_cut_short() -> None:
    (step,) = arm(pod(), settings(Lacking(EDGE, "x" * 5000, 0.0))).patch
    assert len(step["value"][NOT_ARMED]) < 700


def test_what_is_written_down_is_read_again() -> None:
    lacking = (lacks(tainted(TAINT), 7.0), lacks(Place("edge-2", {}), 8.0))
    assert read_record(record_of(lacking, IMAGE, "Always"), IMAGE, "Always") == lacking
    assert read_record(record_of((), IMAGE, "Always"), IMAGE, "Always") == ()


@pytest.mark.parametrize(
    "data",
    [
        record_of([lacks()], "bounceback:2", "Always"),
        record_of([lacks()], IMAGE, "Never"),
        {},
        {"nodes.json": "{"},
        {"nodes.json": "[]"},
        {"nodes.json": json.dumps({"image": IMAGE, "pullPolicy": "Always"})},
        {"nodes.json": json.dumps({"image": IMAGE, "pullPolicy": "Always", "nodes": [{"node": "edge-1"}]})},
        {"nodes.json": json.dumps({"image": IMAGE, "pullPolicy": "Always", "nodes": 7})},
    ],
)
def test_what_is_said_of_another_image_or_is_nonsense_keeps_no_pod_from_being_armed(data: Json) -> None:
    assert read_record(data, IMAGE, "Always") == ()


def test_an_answer_that_nobody_renews_stops_counting() -> None:
    assert list(still([lacks(at=1000.0)], 1000.0 + LASTS - 1)) == [lacks(at=1000.0)]
    assert list(still([lacks(at=1000.0)], 1000.0 + LASTS)) == []


def test_the_record_fits_in_a_config_map_however_many_nodes_lack_it() -> None:
    many = [lacks(Place(f"node-{n:05}", {f"example.com/label-{m}": "x" * 63 for m in range(30)})) for n in range(2000)]
    data = record_of(many, IMAGE, "Always")
    assert sum(map(len, data.values())) < LARGEST + 10_000
    assert len(read_record(data, IMAGE, "Always")) > 100
