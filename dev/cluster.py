"""A cluster of our own, seen from outside: bringing it up from its programs, and taking all of it down."""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dev import addons, cache, cgroups, control, control_plane, layout, node, pki
from dev.api import Api, Object
from dev.plan import Plan, Process
from dev.progress import DevError, say, tail
from dev.state import Cluster, Record

UP_SECONDS: Final = 120.0  # far more than it takes: a machine may be busy
KILL_SECONDS: Final = 30.0
# Slave mounts: what the machine unmounts goes here too, and nothing mounted here shows there.
NAMESPACES: Final = (
    *("--fork", "--pid", "--kill-child", "--mount-proc", "--net", "--mount", "--uts", "--ipc"),
    *("--propagation", "slave"),
)
PROJECT: Final = Path(__file__).resolve().parent.parent


def bring_up(cluster: Cluster, provider: str, programs: Mapping[str, str], started: float) -> Record:
    """Start a cluster from its programs and wait until its first node takes pods; `started` is where timing begins."""
    try:
        with _socket_outside() as listener:
            _write_files(cluster, programs, listener)
            process = _start(cluster, listener)
        _wait_until_ready(cluster, process, started)
    except BaseException:
        _end_processes(cluster)  # its folder stays for the logs; `down` or the next `up` removes it
        raise
    record = Record(provider, 1, dict(programs), str(cluster.kubeconfig))
    cluster.write(record)
    return record


def take_down(cluster: Cluster) -> None:
    """End the cluster's processes and remove its cgroups and its folder; what is already gone is no error."""
    _end_processes(cluster)
    cgroups.remove(cluster.name)
    if cluster.folder.exists():
        shutil.rmtree(cluster.folder)


def inside(cluster: Cluster, namespaces: tuple[str, ...] = ("-n", "-m", "-p", "-u", "-i")) -> list[str]:
    """The beginning of a command line that runs the rest in the cluster's namespaces, on its first node."""
    pid = control.first_process(cluster.control)
    if pid is None:
        raise DevError(f"Cluster {cluster.name} does not run; bring it up with: python -m dev up --name {cluster.name}")
    return ["nsenter", "-t", str(pid), *namespaces]


def search_path(programs: Mapping[str, str]) -> str:
    """PATH with the cluster's own programs first."""
    folders = dict.fromkeys(str(Path(program).parent) for program in programs.values())
    return ":".join([*folders, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


@contextlib.contextmanager
def _socket_outside() -> Iterator[socket.socket]:
    """A listening socket of this network namespace on a free port; the cluster inherits it."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield listener


def _write_files(cluster: Cluster, programs: Mapping[str, str], listener: socket.socket) -> None:
    """Certificates, configuration and the plan for the cluster's first process."""
    conf, certificates = cluster.folder / "conf", cluster.folder / "pki"
    for folder in (cluster.folder, conf, cluster.log, cluster.folder / "var"):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    (cluster.folder / "var").chmod(0o755)
    pki.make(certificates, pki.identities(layout.NODE_ADDRESSES, layout.KUBERNETES_SERVICE))
    within = f"https://127.0.0.1:{layout.API_PORT}"
    for user in ("admin", "controller-manager", "scheduler", "proxy"):
        write_secret(conf / f"{user}.kubeconfig", pki.kubeconfig(certificates, user, within))
    outside = f"https://127.0.0.1:{listener.getsockname()[1]}"
    write_secret(cluster.kubeconfig, pki.kubeconfig(certificates, "admin", outside))
    (conf / "proxy.json").write_text(control_plane.proxy_config(conf))
    first = node.Node(layout.FIRST_NODE, cluster.folder, programs)
    node.write_config(first, f"/{cgroups.name_of(cluster.name)}")
    write_secret(first.conf / "kubelet.kubeconfig", pki.kubeconfig(certificates, f"kubelet-{first.name}", within))
    images = addons.images_of_first_node(Path(programs["coredns"]))
    relay = [sys.executable, "-m", "dev.forward", str(layout.API_PORT)]
    processes = [
        *control_plane.processes(programs, certificates, conf),
        *node.processes(first, images, after=["kube-apiserver"]),
        Process("forward", relay, socket=listener.fileno()),
    ]
    needed = [cache.root(), cluster.folder, PROJECT, Path(sys.base_prefix)]
    plan = Plan(
        hostname=first.name,
        path=search_path(programs),
        log=str(cluster.log),
        control=str(cluster.control),
        cgroups=cgroups.make(cluster.name),
        setup=[*node.mounts(cluster.folder / "var", needed), *node.network()],
        processes=processes,
    )
    plan.write(conf / "plan.json")


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    file.touch(mode=0o600)
    file.write_text(text)


def _start(cluster: Cluster, listener: socket.socket) -> "subprocess.Popen[bytes]":
    """Start the cluster's first process in namespaces of its own; it outlives this one."""
    first = [sys.executable, "-m", "dev.init", str(cluster.folder / "conf" / "plan.json")]
    with (cluster.log / "init").open("ab") as log:
        return subprocess.Popen(
            ["unshare", *NAMESPACES, *first],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )


def _wait_until_ready(cluster: Cluster, process: "subprocess.Popen[bytes]", started: float) -> None:
    """Until the API server serves, its DNS is applied, the node is Ready and pods may be made."""
    deadline = time.monotonic() + UP_SECONDS
    api = Api(cluster.kubeconfig)
    try:
        api.wait_until_serving(deadline, alive=lambda: process.poll() is None)
        say(f"  API server ready after {time.monotonic() - started:.1f} s")
        api.wait_for("/api/v1/namespaces", "kube-system", lambda _: True, deadline)
        addons.apply_dns(api)
        api.wait_for("/api/v1/nodes", layout.FIRST_NODE, is_ready, deadline)
        say(f"  {layout.FIRST_NODE} ready after {time.monotonic() - started:.1f} s")
        api.wait_for("/api/v1/namespaces/default/serviceaccounts", "default", lambda _: True, deadline)
    except DevError as failure:
        logs = "\n".join(f"--- {name}\n{tail(cluster.log / name, 8)}" for name in ("init", "kube-apiserver", "kubelet"))
        raise DevError(f"{failure}\n{logs}\nAll logs are in {cluster.log}") from failure


def wait_until_serving(cluster: Cluster) -> None:
    """Until the API server takes requests."""
    deadline = time.monotonic() + UP_SECONDS
    Api(cluster.kubeconfig).wait_until_serving(deadline, alive=lambda: bool(control.first_process(cluster.control)))


def wait_for_dns(cluster: Cluster) -> None:
    """Until names of Services resolve in pods."""
    deployments = "/apis/apps/v1/namespaces/kube-system/deployments"
    Api(cluster.kubeconfig).wait_for(
        deployments, "coredns", lambda seen: seen["status"].get("readyReplicas", 0) > 0, time.monotonic() + UP_SECONDS
    )


def is_ready(seen: Object) -> bool:
    conditions = seen["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _end_processes(cluster: Cluster) -> None:
    """Kill the first process, with which all others go, and whatever else is found in the cluster's cgroups."""
    if (pid := control.first_process(cluster.control)) is not None:
        kill_and_wait(pid)
    for pid in cgroups.members(cluster.name):
        kill_and_wait(pid)


def kill_and_wait(pid: int) -> None:
    """Kill a process and wait until it is gone; of a process namespace's first one, until all of them are."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
        ended, _, _ = select.select([handle], [], [], KILL_SECONDS)
    finally:
        os.close(handle)
    if not ended:
        raise DevError(f"Process {pid} was killed and is still there after {KILL_SECONDS:.0f} s.")
