"""A further node of a cluster, whose process 1 is systemd: it runs containerd and the kubelet as services.

Its processes, mounts, network and cgroups are its own, within those of the cluster; what it could change of the machine
is read-only. It goes with its first process, and with the cluster's.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from dev import addons, archives, cache, cgroups, layout, pki
from dev.api import Api, RefusedError
from dev.cluster import PROJECT, inside, is_ready, kill_and_wait, search_path, write_secret
from dev.node import Node, mounts, processes, write_config
from dev.nodes import OURS
from dev.plan import Process
from dev.progress import DevError
from dev.state import Cluster

SYSTEMD: Final = Path("/lib/systemd/systemd")
NAME: Final = "node-systemd"
LINK: Final = "systemd0"
GATEWAY: Final = "10.251.0.1"
READY_SECONDS: Final = 120.0
LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces"
TARGETS: Final = ("node", "network-online", "sysinit", "basic", "timers", "shutdown")
"""Those that services and timers name by themselves, and the one that is begun with."""
ALIKE: Final = "[Unit]\nDefaultDependencies=no\n"
NO_V1: Final = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
"""It would mount the controllers that are not mounted here, for the whole machine."""


class OfSystemd(Node):
    """Where its files are."""

    @property
    def address(self) -> str:
        return "10.251.0.2"

    @property
    def pods(self) -> str:
        return "10.244.2.0/24"


@dataclass(frozen=True)
class SystemdNode:
    """One that is up."""

    number: int  # of its process 1, here
    programs: Mapping[str, str]

    def systemctl(self, *words: str) -> str:
        return self.run(["systemctl", *words]).stdout.strip()

    def of_kubelet(self, name: str) -> str:
        """That property of the kubelet's service."""
        return self.systemctl("show", "kubelet.service", f"--property={name}", "--value")

    def timers(self) -> str:
        """Those of ours that it has, and what they start."""
        return self.systemctl("list-units", "--all", "--plain", "--no-legend", "bounceback-*")

    def log_of(self, pod: str, container: str) -> str:
        """What the container of the pod with that UID has said, as the kubelet would tell it."""
        files = Path(f"/proc/{self.number}/root/var/log/pods").glob(f"*_{pod}/{container}/*.log")
        return "".join(file.read_text() for file in files)

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        there = ["nsenter", "-t", str(self.number), "-p", "-m", "-n", "env", f"PATH={search_path(self.programs)}"]
        return subprocess.run([*there, *words], capture_output=True, text=True, check=False)


@contextmanager
def joined(cluster: Cluster, image: Path, log: Path) -> Iterator[SystemdNode]:
    """The node, Ready and with that image; the test is skipped where there can be none."""
    record = cluster.known()
    refuse(record.provider)
    branch = f"{cluster.name}-systemd"
    node = OfSystemd(NAME, cluster.folder, record.programs)
    var = cluster.folder / f"var-{NAME}"
    api = Api(cluster.kubeconfig)
    try:
        line = _line(cluster, branch, _write(cluster, node, var, log))
        with (log / "systemd").open("ab") as output, _begun(line, output) as process:
            try:
                here = SystemdNode(_first(branch, process, log), record.programs)
                _until_ready(api, log)
                _load(here, image)
                yield here
            finally:
                while members := cgroups.members(branch):
                    kill_and_wait(min(members))
                process.kill()
    finally:
        cgroups.remove(branch)
        for made in (var, node.conf):
            shutil.rmtree(made, ignore_errors=True)
        for made in node.pki.glob(f"kubelet-{NAME}.*"):
            made.unlink()
        _forget(api)


def refuse(provider: str) -> None:
    """Skips the test where no systemd can be set apart."""
    if provider not in OURS:
        pytest.skip(f"a node joins only a cluster that is made here; this one is {provider}")
    if not (SYSTEMD.exists() and shutil.which("systemctl")):
        pytest.skip("there is no systemd here")
    if not any(_is_v2(each) or each.name == "systemd" for each in cgroups.hierarchies()):
        pytest.skip("there is no hierarchy of cgroups here that systemd could use")


def _write(cluster: Cluster, node: OfSystemd, var: Path, log: Path) -> Path:
    """Certificate, configuration and units; the script that begins it all."""
    write_config(node, cgroup_root="/")
    user = f"kubelet-{NAME}"
    first = layout.NODE_ADDRESSES[layout.FIRST_NODE]
    addresses = {layout.FIRST_NODE: first, NAME: node.address}
    pki.sign(node.pki, user, pki.identities(addresses, layout.KUBERNETES_SERVICE)[user])
    api = f"https://{first}:{layout.API_PORT}"
    write_secret(node.conf / "kubelet.kubeconfig", pki.kubeconfig(node.pki, user, api))
    units = node.conf / "units"
    units.mkdir()
    for target in TARGETS:
        (units / f"{target}.target").write_text(ALIKE)
    (units / "node.target").write_text(f"{ALIKE}Wants=kubelet.service\n")
    for each in processes(node, addons.images_of_every_node(), after=[]):
        (units / f"{each.name}.service").write_text(_unit(each, log, search_path(node.programs)))
    (node.conf / "cgroups").write_text(NO_V1)
    var.mkdir()
    needed = [cache.root(), cluster.folder, PROJECT, Path(sys.base_prefix), log]
    setup = [
        *_network(node),
        *_own(node, log),
        *mounts(var, needed),
        ["mkdir", "/run/systemd"],
        ["cp", "-r", str(units), "/run/systemd/system"],
    ]
    systemd = [str(SYSTEMD), "--system", "--unit=node.target", "--log-target=null", "--show-status=no"]
    begin = node.conf / "begin"
    begin.write_text(
        "\n".join(
            [
                "set -ex",
                *map(shlex.join, setup),
                "exec 7<&-",
                "export container=bounceback SYSTEMD_UNIT_PATH=/run/systemd/system:/run/systemd/transient",
                f"exec {shlex.join(systemd)}",
            ]
        )
    )
    return begin


def _unit(process: Process, log: Path, path: str) -> str:
    """As the packages of containerd and of the kubelet have theirs."""
    after = " ".join(f"{each}.service" for each in process.after)
    kind = "notify" if process.notifies else "oneshot" if process.once else "simple"
    again = "RemainAfterExit=yes" if process.once else "Restart=always\nRestartSec=10"
    delegated = "Delegate=yes\nKillMode=process" if process.notifies else ""
    return f"""[Unit]
Wants=network-online.target {after}
After=network-online.target {after}
StartLimitIntervalSec=0
[Service]
Type={kind}
Environment=PATH={path}
ExecStart={shlex.join(process.argv).replace("%", "%%")}
StandardOutput=append:{log / process.name}
StandardError=inherit
{again}
{delegated}
"""


def _network(node: OfSystemd) -> list[list[str]]:
    """A link of its own to the first node, whose network is descriptor 7; what was made there goes with the link."""
    at_first = ["nsenter", "--net=/proc/self/fd/7", "ip"]
    return [
        [*at_first, "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", "1"],
        [*at_first, "addr", "add", f"{GATEWAY}/30", "dev", LINK],
        [*at_first, "link", "set", LINK, "up"],
        [*at_first, "route", "add", node.pods, "via", node.address],
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", f"{node.address}/30", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        ["ip", "route", "add", "default", "via", GATEWAY],
        ["sysctl", "-qw", "net.ipv4.ip_forward=1"],
    ]


def _own(node: OfSystemd, log: Path) -> list[list[str]]:
    """What it writes is its own, and its cgroups; the rest is the machine's, and read-only.

    Of the machine's settings the kubelet wants some to be as that of the first node has set them already.
    """
    shared = ["/dev", "/sys", *(f"/proc/sys/{each}" for each in ("fs", "kernel", "vm"))]
    return [
        *(["mount", "--bind", str(each), str(each)] for each in (node.folder, log)),
        *(command for each in shared for command in (["mount", "--bind", each, each], _read_only(each))),
        _read_only("/"),
        *_cgroups(node.conf / "cgroups"),
    ]


def _read_only(place: str) -> list[str]:
    return ["mount", "-o", "remount,bind,ro", place]


def _cgroups(none: Path) -> list[list[str]]:
    """The hierarchies that there are, each from this node's own branch on; `none` tells of no others."""
    top = str(cgroups.MOUNT)
    roots = cgroups.hierarchies()
    if roots == [cgroups.MOUNT]:
        return [["mount", "-t", "cgroup2", "cgroup2", top]]
    commands = [
        ["mount", "--bind", str(none), "/proc/cgroups"],
        ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", top],
    ]
    for root in roots:
        options = ["-o", "none,name=systemd" if root.name == "systemd" else root.name]
        kind = ["-t", "cgroup2"] if _is_v2(root) else ["-t", "cgroup", *options]
        commands += [["mkdir", str(root)], ["mount", *kind, "cgroup", str(root)]]
        commands += [["ln", "-s", root.name, f"{top}/{each}"] for each in root.name.split(",") if each != root.name]
    return commands


def _is_v2(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()


def _line(cluster: Cluster, branch: str, begin: Path) -> list[str]:
    apart = ["--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--mount", "--uts", "--ipc", "--cgroup"]
    join = [f"echo 0 > {shlex.quote(each)}/cgroup.procs" for each in cgroups.make(branch)]
    start = shlex.join(["unshare", *apart, "--propagation", "slave", "sh", str(begin)])
    script = "\n".join(["set -e", *join, "exec 7</proc/self/ns/net", f"exec {start}"])
    return [*inside(cluster), "sh", "-c", script]


def _begun(line: list[str], output: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def _first(branch: str, process: subprocess.Popen[bytes], log: Path) -> int:
    """Its process 1, once that is systemd; skips the test where the machine refuses what it takes."""
    end = time.monotonic() + READY_SECONDS
    while process.poll() is None:
        for number in cgroups.members(branch):
            with suppress(OSError):
                if Path(f"/proc/{number}/comm").read_text().strip() == "systemd":
                    return number
        assert time.monotonic() < end, (log / "systemd").read_text()
        time.sleep(0.1)
    pytest.skip(f"no systemd can be set apart here: {' '.join((log / 'systemd').read_text().splitlines()[-2:])}")


def _until_ready(api: Api, log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    try:
        api.wait_for("/api/v1/nodes", NAME, is_ready, end)
        api.wait_for(f"{LEASES}/kube-node-lease/leases", NAME, lambda _: True, end)
    except DevError as failure:
        raise AssertionError(f"{failure}\n{_told(log)}") from failure


def _told(log: Path) -> str:
    return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in log.iterdir())


def _load(node: SystemdNode, image: Path) -> None:
    """Under the names that a pod would use."""
    ctr = ["ctr", "-n", "k8s.io", "images"]
    done = [node.run([*ctr, "import", str(image)])]
    for name in archives.names(image):
        if (full := archives.full_name(name)) != name:
            done.append(node.run([*ctr, "tag", "--force", name, full]))
    assert not any(each.returncode for each in done), [each.stderr for each in done]


def _forget(api: Api) -> None:
    """What ran there would wait for its kubelet for ever."""
    with suppress(RefusedError):  # it never joined
        for each in api.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NAME}")["items"]:
            pod = each["metadata"]
            with suppress(RefusedError):  # it goes by itself
                path = f"/api/v1/namespaces/{pod['namespace']}/pods/{pod['name']}"
                api.call("DELETE", path, {"gracePeriodSeconds": 0})
        api.call("DELETE", f"/api/v1/nodes/{NAME}")
