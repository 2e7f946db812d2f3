"""An operator that arms pods, as tests have it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bounceback.vehicles.arming import ARM_LABEL, ARMED_LABEL, PROXY
from tests.commands import Commands, Json, until
from tests.conftest import IMAGE, installed
from tests.workload import pod

READY = 90
SLEEP = ("python3", "-c", "import time; time.sleep(3600)")


@contextmanager
def arming(commands: Commands, more: str = "") -> Iterator[None]:
    """The operator is Ready before kube-proxy leads the API server to it: that is waited for, too."""
    with installed(commands, f"image.tag={IMAGE.partition(':')[2]},arming.enabled=true{more}"):
        until(lambda: would_be_armed(commands), "the Service leads to it", READY)
        yield


def client_pod(name: str, *command: str, **more: Any) -> Json:
    return pod(name, *(command or SLEEP), **{"automountServiceAccountToken": True, **more})


def is_armed(body: Json) -> bool:
    names = [each["name"] for each in body["spec"].get("initContainers", [])]
    return body["metadata"].get("labels", {}).get(ARMED_LABEL) == "true" and names[:1] == [PROXY]


def would_be_armed(commands: Commands) -> bool:
    """Of a pod that asks for it, by a dry run."""
    body = json.dumps(client_pod("tried", labels={ARM_LABEL: "enabled"}))
    options = ["-n", "default", "--dry-run=server", "-o", "json", "-f", "-"]
    return is_armed(json.loads(commands.kubectl("create", *options, stdin=body)))
