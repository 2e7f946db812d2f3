"""Armed pods on a real cluster: their clients reach the API server through our proxy, as themselves, whatever dies."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bounceback.vehicles.arming import ARM_LABEL, AUTHORITY, MOVED_PLACE, NOT_ARMED, PROXY, TOKEN_PLACE
from tests.commands import SYSTEM, Commands, Json, until
from tests.e2e.arming import READY, arming, client_pod, is_armed, would_be_armed

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ARMING = "bounceback-arming"
CLIENT = """
import asyncio, json, os, sys
from kubernetes.aio import client, config

async def main():
    config.load_incluster_config()
    namespace = open("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read()
    async with client.ApiClient() as api:
        core, auth = client.CoreV1Api(api), client.AuthenticationV1Api(api)
        who = (await auth.create_self_subject_review(client.V1SelfSubjectReview())).status.user_info
        maps = [each.metadata.name for each in (await core.list_namespaced_config_map(namespace)).items]
        try:
            await core.list_namespaced_secret(namespace)
            refused = 0
        except client.ApiException as error:
            refused = error.status
        pods = (who.extra or {}).get("authentication.kubernetes.io/pod-name")
        print(json.dumps({
            "host": api.configuration.host, "user": who.username, "pods": pods, "maps": maps, "refused": refused
        }))
asyncio.run(main())
"""
"""Any in-cluster program."""
ASKING = """
import asyncio, time
from kubernetes.aio import client, config

async def main():
    config.load_incluster_config()
    async with client.ApiClient() as api:
        core = client.CoreV1Api(api)
        while True:
            try:
                await core.list_namespaced_config_map("NAMESPACE", _request_timeout=10)
                print("ok", flush=True)
            except Exception as error:
                print("failed", type(error).__name__, flush=True)
            await asyncio.sleep(0.2)
asyncio.run(main())
"""
"""One that goes on, with what it read of its surroundings when it began."""
KILL = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        line = open(f"/proc/{pid}/cmdline").read().split("\\0")
    except OSError:
        continue
    if line[1:3] == ["-m", "bounceback.gate"] and "ready" not in line:
        os.kill(int(pid), 9)
        print("killed")
"""


@pytest.fixture(scope="module")
def armory(commands: Commands) -> Iterator[str]:
    """An operator that arms."""
    with arming(commands):
        yield SYSTEM


@pytest.fixture(scope="module")
def shop(commands: Commands, armory: str) -> Iterator[str]:
    """A namespace whose pods are armed and must be `restricted`, and whose account may read ConfigMaps."""
    with commands.namespace("bb-armed") as name:
        open_to(commands, name, f"{ARM_LABEL}=enabled", "pod-security.kubernetes.io/enforce=restricted")
        yield name


def open_to(commands: Commands, namespace: str, *labels: str) -> None:
    if labels:
        commands.kubectl("label", "namespace", namespace, *labels)
    verbs = ["--verb=get,list,watch", "--resource=configmaps"]
    commands.kubectl("create", "role", "reader", "-n", namespace, *verbs)
    commands.kubectl(
        "create", "rolebinding", "r", "-n", namespace, "--role=reader", f"--serviceaccount={namespace}:default"
    )
    who = f"--as=system:serviceaccount:{namespace}:default"
    until(lambda: commands.ask("kubectl", "get", "configmaps", "-n", namespace, who).code == 0, "rights")


def made(commands: Commands, namespace: str, *objects: Json) -> None:
    """All of them run."""
    commands.apply(namespace, *objects)
    for each in objects:
        commands.kubectl(
            "wait", "-n", namespace, f"pod/{each['metadata']['name']}", "--for=condition=Ready", f"--timeout={READY}s"
        )


def found(commands: Commands, namespace: str, name: str) -> Json:
    return commands.get("pod", name, "-n", namespace)


def run(commands: Commands, namespace: str, name: str, script: str) -> str:
    return commands.kubectl("exec", "-n", namespace, name, "-c", "main", "--", "python3", "-c", script).strip()


def lines(commands: Commands, namespace: str, name: str, *options: str) -> list[str]:
    return commands.kubectl("logs", "-n", namespace, name, "-c", "main", *options).splitlines()


def test_a_program_in_an_armed_pod_is_itself_to_the_api_server(commands: Commands, shop: str) -> None:
    made(commands, shop, client_pod("client"))
    assert is_armed(found(commands, shop, "client"))
    told = json.loads(run(commands, shop, "client", CLIENT))
    assert told == {
        "host": "https://127.0.0.1:15443",
        "user": f"system:serviceaccount:{shop}:default",
        "pods": ["client"],
        "maps": ["kube-root-ca.crt"],
        "refused": 403,
    }


def test_the_token_is_the_kubelets_own_file_and_the_proxy_has_none(commands: Commands, shop: str) -> None:
    made(commands, shop, client_pod("files"))
    look = f"""
import os
def real(name): return os.path.realpath("{TOKEN_PLACE}/" + name)
print(os.readlink("{TOKEN_PLACE}/token"), real("token").endswith("/token"), os.path.getsize(real("token")) > 100)
print(open("{TOKEN_PLACE}/namespace").read(), open("{TOKEN_PLACE}/ca.crt").read().count("BEGIN CERTIFICATE") > 1)
try: open("{TOKEN_PLACE}/ca.crt", "a")
except OSError as error: print(error.strerror)
"""
    assert run(commands, shop, "files", look).splitlines() == [
        f"{MOVED_PLACE}/token True True",
        f"{shop} True",
        "Read-only file system",
    ]
    inside = f"import os; print(sorted(each for each in os.listdir('{TOKEN_PLACE}') if each[0] != '.'))"
    proxy = commands.kubectl("exec", "-n", shop, "files", "-c", PROXY, "--", "python3", "-c", inside)
    assert proxy.strip() == "['ca.crt']"


def test_a_job_of_an_armed_pod_ends(commands: Commands, shop: str) -> None:
    template = client_pod("once", "python3", "-c", CLIENT, restartPolicy="Never")
    del template["metadata"]["name"], template["apiVersion"], template["kind"]
    init = {**template["spec"]["containers"][0], "name": "before"}
    template["spec"]["initContainers"] = [init]
    spec = {"template": template, "backoffLimit": 0}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": spec}
    commands.apply(shop, job)
    commands.kubectl("wait", "-n", shop, "job/once", "--for=condition=Complete", f"--timeout={READY}s")
    (ended,) = commands.get("pods", "-n", shop, "-l", "batch.kubernetes.io/job-name=once")["items"]
    assert is_armed(ended)
    assert [each["name"] for each in ended["spec"]["initContainers"]] == [PROXY, "before"]


def test_a_proxy_that_is_killed_comes_back_and_its_clients_go_on(commands: Commands, shop: str) -> None:
    asking = client_pod("asking", "python3", "-c", ASKING.replace("NAMESPACE", shop), shareProcessNamespace=True)
    made(commands, shop, asking)
    until(lambda: "ok" in lines(commands, shop, "asking"), "it asks")
    authority = run(commands, shop, "asking", f"print(open('{TOKEN_PLACE}/ca.crt').read())")
    assert run(commands, shop, "asking", KILL) == "killed"

    def restarted() -> bool:
        (proxy,) = found(commands, shop, "asking")["status"]["initContainerStatuses"]
        return proxy["restartCount"] == 1 and bool(proxy["ready"])

    until(restarted, "the kubelet starts it again", READY)
    until(lambda: lines(commands, shop, "asking", "--tail=5") == ["ok"] * 5, "its client goes on", READY)
    assert run(commands, shop, "asking", f"print(open('{TOKEN_PLACE}/ca.crt').read())") == authority
    (main,) = found(commands, shop, "asking")["status"]["containerStatuses"]
    assert main["restartCount"] == 0


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("tokenless", client_pod("tokenless", automountServiceAccountToken=False), "none of its containers has"),
        ("says-no", client_pod("says-no", labels={ARM_LABEL: "disabled"}), ""),
    ],
)
def test_a_pod_that_is_not_armed_is_made_and_says_why(
    commands: Commands, shop: str, name: str, body: Json, why: str
) -> None:
    result = commands.ask("kubectl", "create", "-n", shop, "-f", "-", stdin=json.dumps(body))
    assert result.code == 0, result.err
    assert why in result.err
    unarmed = found(commands, shop, name)
    assert not is_armed(unarmed)
    assert AUTHORITY not in json.dumps(unarmed)
    assert why in unarmed["metadata"].get("annotations", {}).get(NOT_ARMED, "")


def test_without_the_namespaces_label_only_a_pod_that_asks_for_it_is_armed(commands: Commands, armory: str) -> None:
    with commands.namespace("bb-unarmed") as place:
        open_to(commands, place)
        made(commands, place, client_pod("asks", labels={ARM_LABEL: "enabled"}), client_pod("silent"))
        assert is_armed(found(commands, place, "asks"))
        assert not is_armed(found(commands, place, "silent"))
        assert json.loads(run(commands, place, "asks", CLIENT))["maps"] == ["kube-root-ca.crt"]


def test_nobody_waits_for_an_operator_that_is_gone_and_a_new_one_arms_again(commands: Commands, shop: str) -> None:
    made(commands, shop, client_pod("before"))
    commands.kubectl("scale", "-n", SYSTEM, "deployment/bounceback", "--replicas=0")
    chosen = ["-n", SYSTEM, "-l", "app.kubernetes.io/component=operator"]
    commands.kubectl("wait", "pod", *chosen, "--for=delete", f"--timeout={READY}s")
    made(commands, shop, client_pod("meanwhile"))
    assert not is_armed(found(commands, shop, "meanwhile"))
    assert json.loads(run(commands, shop, "before", CLIENT))["maps"] == ["kube-root-ca.crt"]
    # Even with nothing left of its certificate.
    commands.kubectl(
        "patch", "secret", ARMING, "-n", SYSTEM, "--type=json", "-p", '[{"op": "remove", "path": "/data"}]'
    )
    commands.kubectl("scale", "-n", SYSTEM, "deployment/bounceback", "--replicas=2")
    commands.kubectl("rollout", "status", "-n", SYSTEM, "deployment/bounceback", f"--timeout={READY}s")
    until(lambda: would_be_armed(commands), "a new operator arms", READY)
    assert all(would_be_armed(commands) for _ in range(10)), "whichever of the two is asked"
    commands.kubectl("scale", "-n", SYSTEM, "deployment/bounceback", "--replicas=1")
