"""A second node whose kernel is not the machine's: user-mode Linux, which has netem wherever it runs.

Its root is the machine's, through hostfs, so it runs the same programs; what it writes stays in its own memory. It is
a program of the cluster's first process and goes with it. Its network is a link on the first node's bridge.
"""

import ipaddress
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from dev import addons, cache, cgroups, cluster, control, layout, node, pki, remote
from dev.api import Api
from dev.plan import Plan, Process
from dev.progress import DevError, UnsupportedError, run_logged, say, tail
from dev.state import Cluster

NAME: Final = layout.OTHER_KERNEL_NODE
PACKAGES: Final = ("user-mode-linux", "libc6", "libgcc-s1")
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MEMORY: Final = "4G"
MEMORY_FILE: Final = "6g"  # the file that holds the guest's memory must fit, and Linux wants some more
DISK: Final = "3g"  # /var of the guest, images included: in its memory
READY_SECONDS: Final = 120.0
TAP: Final = "tap0"
LINK: Final = "vec0"
PODS_TABLE: Final = "100"
MODULES: Final = (
    *("overlay", "loop", "veth", "bridge", "br_netfilter", "ifb", "tun", "fuse"),
    *("nf_tables", "nft_ct", "nft_numgen", "nft_limit", "nft_quota", "nft_hash", "nft_reject", "nft_redir", "nft_masq"),
    *("sch_netem", "sch_prio", "sch_tbf", "sch_htb", "sch_ingress"),
    *(
        "cls_u32",
        "cls_flower",
        "cls_matchall",
        "cls_fw",
        "cls_basic",
        "cls_bpf",
        "act_mirred",
        "act_gact",
        "act_police",
    ),
)


def fetch() -> Path:
    """The folder with the other kernel, from Debian's unstable suite, beside the C library that it needs.

    Nothing is installed on the machine. Raises UnsupportedError with the reason where the packages cannot be had.
    """

    def make(folder: Path) -> None:
        if not shutil.which("apt-get") or not KEYRING.exists():
            raise UnsupportedError("There is no second kernel here: its package comes by apt-get from a Debian mirror.")
        say("fetching user-mode Linux")
        log = cache.root() / "log" / "uml"
        log.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bounceback-uml-") as work:
            try:
                _download(Path(work), log)
            except DevError as failure:
                raise UnsupportedError(f"There is no second kernel here: {failure}") from failure
            for package in Path(work).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
        for mount_point in ("host", "proc", "dev", "tmp", "sys"):
            (folder / "root" / mount_point).mkdir(exist_ok=True)
        for name in ("lib", "lib64"):
            if not (folder / "root" / name).exists():
                (folder / "root" / name).symlink_to(f"usr/{name}")
        (folder / "modules" / "lib").mkdir(parents=True)
        (folder / "modules" / "lib" / "modules").symlink_to(Path("..", "..", "root", "usr", "lib", "uml", "modules"))

    return cache.entry("uml", "debian-unstable", make)


def _download(work: Path, log: Path) -> None:
    """The packages, by a throw-away apt that knows the unstable suite of the machine's own mirror."""
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    mirrors = subprocess.run(targets, check=True, capture_output=True, text=True).stdout.split()
    mirror = next((one for one in mirrors if "security" not in one), None)
    if mirror is None:
        raise DevError("apt-get has no Debian mirror configured.")
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "archives" / "partial").mkdir(parents=True)
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} sid main\n")
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work,
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    run_logged([*apt, "update"], log, "apt-get update", cwd=work)
    run_logged([*apt, "download", *PACKAGES], log, "apt-get download", cwd=work)


def join(target: Cluster, programs: Mapping[str, str], started: float) -> None:
    """Start the second node and wait until it is Ready; `started` is where timing begins."""
    kernel = fetch()
    _write_files(target, programs, kernel)
    for process in _processes(target, kernel):
        control.request(target.control, {"do": "add", "process": asdict(process)})
    try:
        Api(target.kubeconfig).wait_for("/api/v1/nodes", NAME, cluster.is_ready, time.monotonic() + READY_SECONDS)
    except DevError as failure:
        control.request(target.control, {"do": "stop", "name": "uml"})
        logs = "\n".join(f"--- {name}\n{tail(_log(target) / name, 8)}" for name in ("init", "kubelet", "containerd"))
        raise DevError(f"{failure}\n{logs}\nAll of its logs are in {_log(target)}") from failure
    say(f"  {NAME} ready after {time.monotonic() - started:.1f} s")


def inner_kubeconfig(target: Cluster) -> Path:
    """The owner's kubeconfig as it works on this node."""
    return target.folder / "conf" / NAME / "admin.kubeconfig"


def _log(target: Cluster) -> Path:
    return target.log / NAME


def _write_files(target: Cluster, programs: Mapping[str, str], kernel: Path) -> None:
    """Configuration, kubeconfig and the plan of the guest's first process."""
    guest = node.Node(NAME, target.folder, programs)
    node.write_config(guest, cgroup_root="/")
    api = f"https://{layout.NODE_ADDRESSES[layout.FIRST_NODE]}:{layout.API_PORT}"
    cluster.write_secret(guest.conf / "kubelet.kubeconfig", pki.kubeconfig(guest.pki, f"kubelet-{NAME}", api))
    cluster.write_secret(inner_kubeconfig(target), pki.kubeconfig(guest.pki, "admin", api))
    (guest.conf / "hairpin.nft").write_text(hairpin_rules(layout.NODE_PODS[NAME]))
    remote.make_keys(target.folder, layout.NODE_ADDRESSES[NAME])
    _log(target).mkdir(exist_ok=True)
    (target.folder / "var-uml").mkdir(exist_ok=True)
    needed = [cache.root(), target.folder, cluster.PROJECT, Path(sys.base_prefix)]
    address = [layout.NODE_ADDRESSES[NAME], str(remote.PORT)]
    server = [sys.executable, "-m", "dev.remote", "serve", str(target.folder), *address]
    plan = Plan(
        hostname=NAME,
        path=cluster.search_path(programs),
        log=str(_log(target)),
        control=remote.GUEST_CONTROL,
        cgroups=[],
        setup=[*_mounts(target.folder / "var-uml", needed), *_kernel_setup(kernel), *_network()],
        processes=[Process("remote", server), *node.processes(guest, addons.images_of_every_node(), after=[])],
    )
    plan.write(guest.conf / "plan.json")
    init = guest.conf / "init"
    init.write_text(
        f"#!/bin/sh\ncd {shlex.quote(str(cluster.PROJECT))}\nexport HOME=/root PATH={shlex.quote(plan.path)}\n"
        f"exec {shlex.quote(sys.executable)} -m dev.init {shlex.quote(str(guest.conf / 'plan.json'))} "
        f">> {shlex.quote(str(_log(target) / 'init'))} 2>&1\n"
    )
    init.chmod(0o700)


def _mounts(var: Path, needed: list[Path]) -> list[list[str]]:
    """Commands that replace what must be the guest's own: hostfs takes neither overlays nor sockets."""
    kernels_own = [["mount", "-t", kind, kind, path] for kind, path in (("proc", "/proc"), ("sysfs", "/sys"))]
    devices = [  # the kernel has mounted /dev itself
        ["mkdir", "-p", "/dev/pts", "/dev/shm"],
        ["mount", "-t", "devpts", "devpts", "/dev/pts"],
        ["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"],
    ]
    controllers = "for c in $(cat cgroup.controllers); do echo +$c > cgroup.subtree_control; done"
    groups = [
        ["mount", "-t", "cgroup2", "none", str(cgroups.MOUNT)],
        ["sh", "-c", f"cd {cgroups.MOUNT}; {controllers}"],
    ]
    own_var = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", str(var)]
    return [*kernels_own, *devices, *groups, own_var, *node.mounts(var, needed)]


def _kernel_setup(kernel: Path) -> list[list[str]]:
    """Commands that load the modules; others are loaded when they are asked for, as on any machine."""
    folder = shlex.quote(str(kernel / "modules"))
    loader = "/run/modprobe"
    return [
        ["modprobe", "-a", "-d", str(kernel / "modules"), *MODULES],
        ["sh", "-c", f"printf '#!/bin/sh\\nexec /sbin/modprobe -d {folder} \"$@\"\\n' > {loader} && chmod +x {loader}"],
        ["sysctl", "-qw", f"kernel.modprobe={loader}"],
        # cadvisor wants to know a clock speed, and this kernel does not tell any
        ["sh", "-c", "(cat /proc/cpuinfo; echo 'cpu MHz : 2000.000') > /run/cpuinfo"],
        ["mount", "--bind", "/run/cpuinfo", "/proc/cpuinfo"],
    ]


def _network() -> list[list[str]]:
    """Commands for the guest's link and routes.

    Pods' packets always pass the first node, also those from pod to pod in here: there kube-proxy translates a
    Service's address, and only there replies can be translated back. So no pod's own address needs to be hidden.
    """
    pods = layout.NODE_PODS[NAME]
    first = layout.NODE_ADDRESSES[layout.FIRST_NODE]
    return [
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", f"{layout.NODE_ADDRESSES[NAME]}/24", "dev", LINK],
        ["ip", "link", "set", LINK, "up"],
        ["ip", "route", "add", "default", "via", first],
        ["ip", "route", "add", "default", "via", first, "table", PODS_TABLE],
        ["ip", "rule", "add", "pref", "100", "iif", LINK, "lookup", "main"],
        ["ip", "rule", "add", "pref", "110", "iif", "lo", "lookup", "main"],
        ["ip", "rule", "add", "pref", "120", "from", pods, "lookup", PODS_TABLE],
        ["sysctl", "-qw", "net.ipv4.ip_forward=1"],
    ]


def hairpin_rules(pods: str) -> str:
    """For nft: a pod of this node that reaches itself through a Service is shown the first node's address, not its own.

    kube-proxy, which runs on the first node, has such rules for that node's pods only.
    """
    pairs = ", ".join(f"{address} . {address}" for address in ipaddress.ip_network(pods).hosts())
    return f"""table ip {NAME} {{
    set same {{ type ipv4_addr . ipv4_addr; elements = {{ {pairs} }}; }}
    chain postrouting {{
        type nat hook postrouting priority srcnat - 1;
        ct status dnat ip saddr . ip daddr @same masquerade
    }}
}}
"""


def _processes(target: Cluster, kernel: Path) -> list[Process]:
    """What the cluster's first process has to run: the link for the guest, then the guest."""
    link = [
        f"ip link show {TAP} 2>/dev/null || ip tuntap add {TAP} mode tap",
        f"ip link set {TAP} master {layout.BRIDGE} up",
        f"ip route replace {layout.NODE_PODS[NAME]} via {layout.NODE_ADDRESSES[NAME]}",
        f"nft list table ip {NAME} 2>/dev/null || nft -f {shlex.quote(str(target.folder))}/conf/{NAME}/hairpin.nft",
    ]
    root = shlex.quote(str(kernel / "root"))
    # A root with its own C library; the machine's root below it is what the guest sees as its own.
    prepare = [
        f"cd {root}",
        "mount --rbind / host",
        "mount -t proc proc proc",
        "mount --rbind /dev dev",
        "mount -t sysfs sys sys",
        f"mount -t tmpfs -o exec,size={MEMORY_FILE} tmpfs tmp",
        "export HOME=/tmp",  # linux.uml keeps a folder there, and panics where it does not exist
    ]
    linux = [
        "/usr/bin/linux.uml",
        f"mem={MEMORY}",
        *("rootfstype=hostfs", "rootflags=/host", "rw", f"init={target.folder}/conf/{NAME}/init"),
        *("con=null", "con0=fd:0,fd:1", "quiet", "seccomp=on"),
        f"{LINK}:transport=tap,ifname={TAP},depth=64,gro=1",
    ]
    script = "\n".join([*prepare, f"exec chroot . {shlex.join(linux)}"])
    return [
        Process("uml-link", ["sh", "-ec", "\n".join(link)], once=True),
        Process("uml", ["unshare", "-m", "--propagation", "slave", "sh", "-ec", script], after=["uml-link"]),
    ]
