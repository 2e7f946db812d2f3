"""Which pods are armed, what is changed in them, and that nothing else is."""

from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest

from bounceback.types.gate import PORT
from bounceback.vehicles.arming import (
    ARM_LABEL,
    ARMED_BY,
    ARMED_LABEL,
    AUTHORITY,
    KEY,
    MOVED_PLACE,
    NOT_ARMED,
    PROXY,
    SERVER,
    TOKEN_PLACE,
    VARIABLES,
    ArmSettings,
    arm,
)

Json = dict[str, Any]
SETTINGS = ArmSettings("registry.example.com/bounceback:1", "IfNotPresent", "0.1.0")
TOKEN = {"name": "kube-api-access-x7k2p", "readOnly": True, "mountPath": TOKEN_PLACE}
ACCESS = {
    "name": "kube-api-access-x7k2p",
    "projected": {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ],
    },
}
"""As the API server's admission adds it."""
HIDDEN = {"name": "nothing", "emptyDir": {}}


def container(name: str, **more: Any) -> Json:
    return {"name": name, "image": "app:1", "volumeMounts": [TOKEN], **more}


def pod(*containers: Json, **spec: Any) -> Json:
    given = list(containers) or [container("main")]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", "labels": {"app": "web"}},
        "spec": {"containers": given, "volumes": [ACCESS], "serviceAccountName": "web", **spec},
    }


def patched(before: Json, settings: ArmSettings = SETTINGS) -> Json:
    """As the API server applies it: `add` of a whole member."""
    after = copy.deepcopy(before)
    for step in arm(before, settings).patch:
        _, part, name = step["path"].split("/")
        assert step["op"] == "add"
        after[part][name] = step["value"]
    return after


def named(pod: Json, name: str) -> Json:
    (found,) = [c for c in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]) if c["name"] == name]
    return dict(found)


def mounts(container: Json) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


def told(container: Json) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


def test_every_client_in_the_pod_is_led_to_the_proxy() -> None:
    data = {"name": "data", "mountPath": "/data"}
    before = pod(
        container("main", env=[{"name": "MODE", "value": "x"}], volumeMounts=[data, TOKEN]),
        container("helper"),
        initContainers=[container("migrate"), container("beside", restartPolicy="Always")],
        volumes=[{"name": "data", "emptyDir": {}}, ACCESS],
    )
    after = patched(before)
    for name in ("main", "helper", "migrate", "beside"):
        assert told(named(after, name)).items() >= VARIABLES.items()
        assert mounts(named(after, name))[TOKEN_PLACE] == AUTHORITY
        assert mounts(named(after, name))[MOVED_PLACE] == TOKEN["name"]
    assert told(named(after, "main"))["MODE"] == "x"
    assert mounts(named(after, "main"))["/data"] == "data"
    assert after["metadata"]["labels"] == {"app": "web", ARMED_LABEL: "true"}
    assert after["metadata"]["annotations"] == {ARMED_BY: "0.1.0"}


def test_nobody_but_the_proxy_can_write_the_authority_or_see_its_key() -> None:
    after = patched(pod(container("main"), container("helper")))
    for name in ("main", "helper"):
        (ours,) = [m for m in named(after, name)["volumeMounts"] if m["name"] == AUTHORITY]
        assert ours["readOnly"] is True
        assert KEY not in mounts(named(after, name)).values()
    assert mounts(named(after, PROXY)) == {"/bounceback/ca": AUTHORITY, "/bounceback/key": KEY, TOKEN_PLACE: SERVER}
    (server,) = [v for v in after["spec"]["volumes"] if v["name"] == SERVER]
    assert "serviceAccountToken" not in str(server), "it forwards its clients' tokens and has none"


def test_the_proxy_comes_first_and_lets_jobs_end() -> None:
    after = patched(pod(initContainers=[container("migrate")]))
    assert [each["name"] for each in after["spec"]["initContainers"]] == [PROXY, "migrate"]
    assert named(after, PROXY)["restartPolicy"] == "Always"
    assert named(after, PROXY)["startupProbe"]["exec"]["command"][-1] == "ready"


def test_nothing_else_is_changed() -> None:
    before = pod(
        container("main", args=["serve"], ports=[{"containerPort": 80}], resources={"limits": {"memory": "1Gi"}}),
        nodeSelector={"disk": "ssd"},
        tolerations=[{"operator": "Exists"}],
        securityContext={"fsGroup": 7},
    )
    untouched = copy.deepcopy(before)
    after = patched(before)
    assert before == untouched
    stripped = copy.deepcopy(after)
    stripped["spec"]["initContainers"].pop(0)
    assert stripped["spec"].pop("initContainers") == []
    stripped["spec"]["volumes"] = [v for v in stripped["spec"]["volumes"] if not v["name"].startswith(PROXY)]
    main = stripped["spec"]["containers"][0]
    assert main.pop("env") == [{"name": name, "value": value} for name, value in VARIABLES.items()]
    main["volumeMounts"] = [TOKEN]
    del stripped["metadata"]["labels"][ARMED_LABEL], stripped["metadata"]["annotations"]
    assert stripped == before


def test_a_container_without_the_token_is_left_as_it_is() -> None:
    elsewhere = {**TOKEN, "mountPath": "/etc/token"}
    hidden = {"name": "nothing", "mountPath": TOKEN_PLACE}
    before = pod(
        container("main"),
        container("plain", volumeMounts=[]),
        container("other", volumeMounts=[elsewhere]),
        container("without", volumeMounts=[hidden]),
        volumes=[ACCESS, HIDDEN],
    )
    after = patched(before)
    assert after["spec"]["containers"][1:] == before["spec"]["containers"][1:]


@pytest.mark.parametrize(
    ("volume", "links"),
    [
        (ACCESS, "namespace,token"),
        ({"name": ACCESS["name"], "secret": {"secretName": "token-of-old"}}, "namespace,token"),
        (
            {
                "name": ACCESS["name"],
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token"}},
                        {"configMap": {"name": "service-ca", "items": [{"key": "a", "path": "service-ca.crt"}]}},
                        {"secret": {"name": "more", "items": [{"key": "b", "path": "more/b"}]}},
                    ]
                },
            },
            "more,namespace,service-ca.crt,token",
        ),
    ],
)
def test_what_lies_beside_the_authority_stays_where_clients_look_for_it(volume: Json, links: str) -> None:
    assert told(named(patched(pod(volumes=[volume])), PROXY))["BOUNCEBACK_GATE_LINKS"] == links


def test_an_armed_pod_is_not_armed_twice() -> None:
    after = patched(pod(initContainers=[container("migrate")]))
    assert arm(after, SETTINGS).patch == []


def test_what_another_webhook_added_to_an_armed_pod_is_led_to_the_proxy_too() -> None:
    after = patched(pod())
    after["spec"]["initContainers"].insert(0, container("mesh-init"))
    after["spec"]["containers"].append(container("mesh"))
    again = patched(after)
    assert [each["name"] for each in again["spec"]["initContainers"]] == [PROXY, "mesh-init"]
    for name in ("main", "mesh", "mesh-init"):
        assert mounts(named(again, name)) == {TOKEN_PLACE: AUTHORITY, MOVED_PLACE: TOKEN["name"]}
    assert arm(again, SETTINGS).patch == []


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (pod(hostNetwork=True), "hostNetwork"),
        (pod(os={"name": "windows"}), "Windows"),
        (pod(nodeSelector={"kubernetes.io/os": "windows"}), "Windows"),
        (pod(container("main", volumeMounts=[]), volumes=[]), "none of its containers has a service account token"),
        (
            pod(container("main", volumeMounts=[{"name": "nothing", "mountPath": TOKEN_PLACE}]), volumes=[HIDDEN]),
            "none",
        ),
        (pod(container("main", env=[{"name": "KUBERNETES_SERVICE_HOST", "value": "api"}])), "main sets KUBERNETES_"),
        (pod(container("main", env=[{"name": "KUBERNETES_SERVICE_PORT", "valueFrom": {}}])), "main sets KUBERNETES_"),
        (pod(container("main", volumeMounts=[TOKEN, {"name": "a", "mountPath": f"{TOKEN_PLACE}/a"}])), "inside the"),
        (pod(container(PROXY)), "is named bounceback-api-proxy"),
        (pod(container("main", ports=[{"containerPort": PORT}])), "has port 15443"),
    ],
)
def test_a_pod_that_cannot_be_armed_says_why_and_is_made_all_the_same(before: Json, words: str) -> None:
    answer = arm(before, SETTINGS)
    assert words in answer.refused
    (step,) = answer.patch
    assert step == {"op": "add", "path": "/metadata/annotations", "value": {NOT_ARMED: answer.refused}}
    assert patched(patched(before)) == patched(before)


def test_a_pod_that_may_not_be_able_to_pull_the_image_is_not_armed() -> None:
    settings = ArmSettings("private/bounceback:1", "Always", "0.1.0", needs_secret=True)
    assert "imagePullSecrets" in arm(pod(), settings).refused
    assert not arm(pod(imagePullSecrets=[{"name": "pull"}]), settings).refused


def test_a_pod_that_says_no_is_left_alone() -> None:
    before = pod()
    before["metadata"]["labels"][ARM_LABEL] = "disabled"
    assert (arm(before, SETTINGS).patch, arm(before, SETTINGS).refused) == ([], "")


def test_what_was_once_refused_is_forgotten_when_it_is_armed() -> None:
    before = pod()
    before["metadata"] = {"annotations": {NOT_ARMED: "the template was copied", "mine": "x"}}
    after = patched(before)["metadata"]
    assert after["annotations"] == {"mine": "x", ARMED_BY: "0.1.0"}
    assert after["labels"] == {ARMED_LABEL: "true"}


def test_the_proxy_has_no_privilege_and_takes_what_it_is_given() -> None:
    given = {"limits": {"cpu": "100m", "memory": "160Mi"}}
    proxy = named(patched(pod(), ArmSettings("i", "Never", "1", resources=given)), PROXY)
    security = proxy["securityContext"]
    assert proxy["resources"] == given
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    bounded = patched(pod(resources={"requests": {"memory": "1Gi"}}))
    assert "resources" not in named(bounded, PROXY), "the requests of all containers may not exceed the pod's"


def test_kubernetes_knows_every_field_of_it() -> None:
    after = patched(pod(initContainers=[container("migrate")]))
    after["metadata"]["name"] = "web-1"
    kubernetes_validate.validate(after, "1.36", strict=True)
