"""Real clients that reach a real API server through `bounceback proxy`, and what they need to be there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import Commands, Json, Result, until
from tests.relay.command import Api, Proxy, proxy
from tests.workload import pod

BUSYBOX = "bounceback.local/busybox:1"
COUNTING = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done"


@dataclass(frozen=True)
class Through:
    """`commands` go through the proxy that is running."""

    commands: Commands
    running: Proxy
    control: Api

    @contextlib.contextmanager
    def fault(self, name: str, **entry: Any) -> Iterator[None]:
        """In force meanwhile."""
        status, said = self.control.ask("PUT", f"/faults/{name}", entry)
        assert status == 201, said
        try:
            yield
        finally:
            assert self.control.ask("DELETE", f"/faults/{name}")[0] == 204

    @property
    def counters(self) -> Json:
        status, said = self.control.ask("GET", "/counters")
        assert status == 200
        return dict(said["cluster"])

    def hits(self, name: str) -> int:
        return int(self.counters["rules"][name]["hits"])

    def kind(self, verb: str, resource: str) -> Json:
        """What clients did with that, in all."""
        found = (k for k in self.counters["behavior"]["kinds"] if (k["verb"], k["resource"]) == (verb, resource))
        return dict(next(found, {"count": 0, "codes": {}, "lost": 0}))

    def asked(self, verb: str, resource: str) -> int:
        return int(self.kind(verb, resource)["count"])


@contextlib.contextmanager
def through(commands: Commands, folder: Path, *words: str, **variables: str) -> Iterator[Through]:
    """A proxy before the API server that `commands` go to, as its user."""
    out = folder / "through.yaml"
    place = ["--kubeconfig", commands.kubeconfig, "--write-kubeconfig", str(out), "--control", "127.0.0.1:0"]
    with proxy(*place, "-o", "json", *words, **variables) as running:
        control = Api(running)
        yield Through(Commands(str(out), commands.programs), running, control)


@contextlib.contextmanager
def started(line: Iterable[str], folder: Path, name: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A client that runs meanwhile; what it says is in `NAME.log` of the folder, and fails the test with it."""
    path = folder / f"{name}.log"
    with path.open("w", encoding="utf-8") as log:
        environment = {**os.environ, **variables}
        process = subprocess.Popen(
            list(line), stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, env=environment
        )
    try:
        yield process
    except AssertionError as error:
        error.add_note(f"{name} said: {path.read_text(encoding='utf-8')[-4000:]}")
        raise
    finally:
        process.kill()
        process.communicate()


def said(folder: Path, name: str) -> str:
    return (folder / f"{name}.log").read_text(encoding="utf-8")


def kubectl(commands: Commands, *words: str) -> list[str]:
    """The line of a command that a test starts itself."""
    return [commands.programs.get("kubectl", "kubectl"), f"--kubeconfig={commands.kubeconfig}", *words]


def timed(commands: Commands, *words: str, stdin: str | None = None) -> tuple[Result, float]:
    """What kubectl answered, and in how many seconds."""
    began = time.monotonic()
    result = commands.ask("kubectl", *words, stdin=stdin)
    return result, time.monotonic() - began


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def counting(name: str) -> Json:
    """A pod that says a line every tenth of a second."""
    return shell(name, COUNTING)


def pending(name: str, scheduler: str) -> Json:
    """A deployment whose pods wait for that scheduler."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {**counting(name)["spec"], "schedulerName": scheduler},
            },
        },
    }


def shell(name: str, script: str) -> Json:
    """A pod with a shell, tar and a /tmp that it may write to."""
    made = pod(name, "sh", "-c", script, image=BUSYBOX, volumes=[{"name": "tmp", "emptyDir": {}}])
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    return made


def made(commands: Commands, namespace: str, *objects: Json) -> None:
    """The pods among them run."""
    commands.apply(namespace, *objects)
    for each in objects:
        if each["kind"] == "Pod":
            commands.kubectl("wait", "-n", namespace, f"pod/{each['metadata']['name']}", "--for=condition=Ready")


def kubeconfig_as(commands: Commands, path: Path, user: Json) -> Commands:
    """Another user of the same cluster."""
    document = json.loads(commands.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    document["users"] = [{"name": "other", "user": user}]
    document["contexts"][0]["context"]["user"] = "other"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    path.chmod(0o600)
    return Commands(str(path), commands.programs)


def account(commands: Commands, namespace: str, name: str, role: str = "edit") -> str:
    """A token of a service account that has this role in its namespace."""
    commands.kubectl("create", "serviceaccount", name, "-n", namespace)
    holder = f"--serviceaccount={namespace}:{name}"
    commands.kubectl("create", "rolebinding", name, "-n", namespace, f"--clusterrole={role}", holder)
    token = commands.kubectl("create", "token", name, "-n", namespace).strip()
    who = f"--as=system:serviceaccount:{namespace}:{name}"
    until(lambda: "yes" in commands.ask("kubectl", "auth", "can-i", "list", "pods", "-n", namespace, who).out, "rights")
    return token


def exec_plugin(folder: Path, token: str) -> Json:
    """A user whose token a plug-in beside the kubeconfig tells: what `credential` says when it is asked."""
    (folder / "credential").write_text(token, encoding="utf-8")
    script = folder / "plugin"
    told = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}'
    script.write_text(
        f"#!/bin/sh\necho asked >> {folder}/asked\nprintf '{told}' \"$(cat {folder}/credential)\"\n", "utf-8"
    )
    script.chmod(0o700)
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": "./plugin", "interactiveMode": "Never"}}


def is_noted(commands: Commands, namespace: str, word: str) -> bool:
    """By the operator."""
    metadata = commands.get("configmap", "noted", "-n", namespace)["metadata"]
    return bool(metadata["annotations"].get("noted") == word)


@contextlib.contextmanager
def operating(proxied: Through, namespace: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The operator of noting_operator.py, by kopf, through the proxy."""
    operator = Path(__file__).with_name("noting_operator.py")
    line = [sys.executable, "-m", "kopf", "run", str(operator), "--standalone", "-n", namespace, "--verbose"]
    watches = proxied.asked("watch", "configmaps")
    with started(line, folder, "kopf", KUBECONFIG=proxied.commands.kubeconfig) as process:
        until(lambda: proxied.asked("watch", "configmaps") > watches, "its watch")
        yield process


@contextlib.contextmanager
def scheduling(
    proxied: Through, namespace: str, folder: Path, name: str, patience: int = 60
) -> Iterator[subprocess.Popen[str]]:
    """A kube-scheduler for pods that name it. Skips where no such program is.

    Its lease is in the namespace; it ends when it cannot renew that for `patience` seconds.
    """
    if (program := proxied.commands.programs.get("kube-scheduler")) is None:
        pytest.skip("no kube-scheduler of the cluster's version is here")
    config = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": proxied.commands.kubeconfig},
        "leaderElection": {
            "leaderElect": True,
            "resourceName": name,
            "resourceNamespace": namespace,
            "leaseDuration": f"{patience + 2}s",
            "renewDeadline": f"{patience}s",
            "retryPeriod": "1s",
        },
        "profiles": [{"schedulerName": name}],
    }
    file = folder / "scheduler.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    with started([program, f"--config={file}", "--secure-port=0", "-v=3"], folder, "scheduler") as process:
        yield process
