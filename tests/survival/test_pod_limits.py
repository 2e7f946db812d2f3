"""Pressure by a share of a limit that only the pod as a whole has: what its kubelet makes of it is what is pressed."""

from __future__ import annotations

from collections.abc import Callable

from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.client import Json
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, make_experiment
from tests.workload import pod, running

SECONDS = 6
IDLE = ("python3", "-c", "import time; time.sleep(3600)")


def on(name: str, **fault: Json) -> Json:
    return {"name": f"{name}-{next(iter(fault)).lower()}", "target": name, "durationSeconds": SECONDS, **fault}


def target(name: str) -> Json:
    return {"name": name, "pods": {"selector": {"matchLabels": {"app": name}}}}


async def test_shares_of_a_limit_that_only_the_pod_has(
    kube: Kube, namespace: str, shop: tuple[list[PodInfo], PodInfo], make_operator: Callable[[], OperatorProcess]
) -> None:
    make_operator().start()
    limits = {"limits": {"cpu": "400m", "memory": "128Mi"}}
    await running(kube, namespace, [pod("bounded", *IDLE, resources=limits), pod("boundless", *IDLE)])

    share = {"percentOfLimit": 50}
    faults = [on("bounded", cpuPressure=share), on("bounded", memoryPressure=share)]
    await make_experiment(kube, namespace, "shares", *faults, targets=[target("bounded")])
    status = await finished(kube, namespace, "shares")
    assert (status["verdict"], status["axes"]["cleanup"]) == ("Passed", "Clean"), status
    hits = {injection["fault"]: injection["hits"] for injection in status["injections"]}
    (burned,) = (each for each in status["injections"] if each["fault"] == "bounded-cpupressure")
    seconds = burned["clearedAt"]["utc"] - burned["inForceAt"]["utc"]
    assert hits["bounded-memorypressure"] == 64, status["injections"]
    assert 0.4 * 200 * SECONDS <= hits["bounded-cpupressure"] <= 1.1 * 200 * seconds + 20, status["injections"]

    await make_experiment(
        kube, namespace, "no-limit", on("boundless", cpuPressure=share), targets=[target("boundless")]
    )
    status = await finished(kube, namespace, "no-limit")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "NoLimit"), status
    assert "container main has no CPU limit, nor has its pod" in status["ending"]["message"]
    assert not status.get("injections")
