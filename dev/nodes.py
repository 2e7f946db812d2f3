"""The commands on a cluster, whatever provides it: each is carried out the way its provider needs."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dev import archives, cgroups, cluster, control, host, kind, layout, providers, remote, uml
from dev.progress import DevError, UnsupportedError, say
from dev.state import Cluster, Record

OURS = ("binaries", "build")  # the providers whose clusters are made here


def up(wanted: Cluster, provider: str, count: int, started: float) -> Record:
    """The cluster, brought up unless it is, with `count` nodes; what is left of a dead one is removed first."""
    record = wanted.record()
    if record and _runs(wanted, record):
        say(f"{wanted.name} is up")
    else:
        if wanted.folder.exists() or cgroups.branches(wanted.name):
            say(f"removing what is left of an earlier {wanted.name}")
            down(wanted)
        record = _make(wanted, providers.choose(provider, os.environ), started)
    if count > 1 and record.provider not in OURS:
        raise UnsupportedError(
            f"A node with another kernel joins only a cluster made here; this one is {record.provider}."
        )
    if count > record.nodes:
        uml.join(wanted, record.programs, started)
        record = replace(record, nodes=count)
        wanted.write(record)
    return record


def _runs(wanted: Cluster, record: Record) -> bool:
    match record.provider:
        case "existing":
            return False  # it is noted down anew each time: the environment may name another one by now
        case "kind":
            return kind.is_up(wanted)
        case _:
            return control.first_process(wanted.control) is not None


def _make(wanted: Cluster, provider: str, started: float) -> Record:
    match provider:
        case "existing":
            return _existing(wanted)
        case "kind":
            return kind.bring_up(wanted)
        case _:
            host.prepare()
            programs = providers.programs(provider, os.environ)
            say(f"starting {wanted.name}")
            return cluster.bring_up(wanted, provider, programs, started)


def _existing(wanted: Cluster) -> Record:
    """Note down the cluster that the user named; it is never changed but by what is loaded or applied."""
    record = Record("existing", 0, {}, providers.existing_kubeconfig(os.environ))
    wanted.folder.mkdir(parents=True, exist_ok=True)
    wanted.write(record)
    return record


def down(unwanted: Cluster) -> None:
    """Remove the cluster; one that existed before is only forgotten."""
    record = unwanted.record()
    if record and record.provider == "kind":
        kind.take_down(unwanted)
    cluster.take_down(unwanted)


def describe(one: Cluster) -> list[str]:
    """What is known of a cluster, a line each."""
    record = one.record()
    if record and record.provider not in OURS:
        return [f"{one.name}: {record.provider}, {record.kubeconfig}"]
    if not one.folder.exists():
        return [f"{one.name}: there is none"]
    if control.first_process(one.control) is None:
        return [f"{one.name}: not running; what is left is in {one.folder} (python -m dev down --name {one.name})"]
    lines = [f"{one.name}: {record.provider if record else 'starting'}, {one.kubeconfig}"]
    for node in names(record) if record else [layout.FIRST_NODE]:
        lines.append(f"  {node}")
        for name, program in ask(one, node, {"do": "status"})["programs"].items():
            lines.append(f"    {name:26}{program['state']:9}pid {program['pid'] or '-':<7}starts {program['starts']}")
    return lines


def names(record: Record) -> list[str]:
    """The nodes of a cluster of ours."""
    return [layout.FIRST_NODE, layout.OTHER_KERNEL_NODE][: record.nodes]


def load_images(target: Cluster, files: Sequence[Path]) -> None:
    """Load archives into every node, under the names that a pod would use."""
    record = target.known()
    for file in files:
        found = archives.names(file)
        if record.provider == "kind":
            kind.load_image(target, file)
        else:
            for node in names(_ours(record)):
                _load_image(target, node, file, found)
        say(f"loaded {', '.join(found) or file.name}")


def _load_image(target: Cluster, node: str, file: Path, found: Sequence[str]) -> None:
    """Load an archive with the names `found` by way of the cluster's folder, which every node sees."""
    with tempfile.NamedTemporaryFile(dir=target.folder, suffix=".tar") as copy:
        shutil.copyfile(file, copy.name)
        commands = [["ctr", "-n", "k8s.io", "images", "import", copy.name]]
        for name in found:
            if (full := archives.full_name(name)) != name:
                commands.append(["ctr", "-n", "k8s.io", "images", "tag", "--force", name, full])
        script = "\n".join(shlex.join(command) for command in commands)
        done = _run(target, node, ["sh", "-ec", script], capture_output=True)
    if done.returncode:
        raise DevError(f"{file} cannot be loaded into {node}:\n{done.stderr.decode(errors='replace')}")


def execute(target: Cluster, node: str, words: Sequence[str]) -> int:
    """Run a command on a node, with its programs and a kubeconfig that works there; returns its exit code."""
    if target.known().provider == "kind":
        return kind.execute(target, words)
    return _run(target, node, words).returncode


def switch(target: Cluster, node: str, action: str, program: str) -> None:
    """Stop or start one of a node's programs; returns when it is gone, or started, the API server when it serves."""
    record = target.known()
    if record.provider == "kind":
        kind.switch(target, action, program)
        return
    _ours(record)
    if program == "apiserver":
        ask(target, layout.FIRST_NODE, {"do": action, "name": "kube-apiserver"})
        if action == "start":
            cluster.wait_until_serving(target)
    else:
        ask(target, node, {"do": action, "name": program})


def ask(target: Cluster, node: str, request: dict[str, object]) -> dict[str, Any]:
    """A request to the first process of a node."""
    if node == layout.FIRST_NODE:
        return control.request(target.control, request)
    words = [sys.executable, "-m", "dev.control", remote.GUEST_CONTROL, json.dumps(request)]
    done = _run(target, node, words, cwd=cluster.PROJECT, capture_output=True)
    if done.returncode:
        raise DevError(f"{node} does not answer: {done.stderr.decode(errors='replace')}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _ours(record: Record) -> Record:
    if record.provider not in OURS:
        raise DevError(
            "This cluster was not made here: images get into it, and commands run on its nodes, its own way."
        )
    return record


def _run(
    target: Cluster,
    node: str,
    words: Sequence[str],
    cwd: Path | None = None,
    capture_output: bool = False,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command in the namespaces of a node of ours."""
    record = _ours(target.known())
    if node not in names(record):
        raise DevError(f"{target.name} has no node {node}; it has {', '.join(names(record))}.")
    settings = {"PATH": cluster.search_path(record.programs), "KUBECONFIG": str(target.inner_kubeconfig)}
    folder = cwd or Path.cwd()
    if node == layout.FIRST_NODE:
        entered = [*cluster.inside(target), f"--wd={folder}", "env", *(f"{k}={v}" for k, v in settings.items())]
        return subprocess.run([*entered, *words], capture_output=capture_output)
    settings["KUBECONFIG"] = str(uml.inner_kubeconfig(target))
    address = [layout.NODE_ADDRESSES[node], str(remote.PORT)]
    client = [sys.executable, "-m", "dev.remote", "run", str(target.folder), *address]
    entered = [*cluster.inside(target, ("-n",)), *client, str(folder), json.dumps(settings)]
    return subprocess.run([*entered, *words], capture_output=capture_output, cwd=cluster.PROJECT)
