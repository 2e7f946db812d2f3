"""What makes a machine (or another kernel's) a node: its mounts, its network, containerd and the kubelet."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev import layout
from dev.plan import Process

CONTAINERD_SOCKET: Final = "/run/containerd/containerd.sock"
VOLUME_PLUGINS: Final = "/var/lib/kubelet/volume-plugins"  # by default they would be made in the machine's /usr
HIDDEN: Final = (Path("/var"), Path("/run"))  # a node has folders of its own there
MAX_PODS: Final = 250  # what fits into a node's range of addresses
POD_PIDS_LIMIT: Final = 1024  # processes and threads; the kubelet sets no limit by itself, clusters in use have one


@dataclass(frozen=True)
class Node:
    """One node's name and where its files are."""

    name: str
    folder: Path  # of the cluster
    programs: Mapping[str, str]

    @property
    def conf(self) -> Path:
        return self.folder / "conf" / self.name

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def address(self) -> str:
        return layout.NODE_ADDRESSES[self.name]

    @property
    def pods(self) -> str:
        """The range of its pods' addresses."""
        return layout.NODE_PODS[self.name]


def mounts(var: Path, needed: list[Path]) -> list[list[str]]:
    """Commands that give the node a /var and a /run of its own, so that nothing it writes stays on the machine.

    `needed` are folders of the machine that must stay where they are; those below /var and /run are mounted again.
    """
    run = var / "run-of-node"
    commands = [
        ["mount", "--make-rslave", "/"],
        ["mkdir", "-p", str(run), str(var / "lib"), str(var / "log"), str(var / "tmp")],
        ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(run)],
        ["ln", "-sfn", "/run", str(var / "run")],
    ]
    for folder in needed:
        for hidden, own in zip(HIDDEN, (var, run), strict=True):
            if folder.is_relative_to(hidden):
                again = str(own / folder.relative_to(hidden))
                commands += [["mkdir", "-p", again], ["mount", "--bind", str(folder), again]]
    return [
        *commands,
        ["mount", "--rbind", str(run), "/run"],
        ["mount", "--rbind", str(var), "/var"],
        ["mount", "--make-rshared", "/"],  # the kubelet needs mounts to propagate into its pods
    ]


def network() -> list[list[str]]:
    """Commands that give the first node its address: on a bridge, which other nodes join."""
    address = f"{layout.NODE_ADDRESSES[layout.FIRST_NODE]}/24"
    return [
        ["ip", "link", "set", "lo", "up"],
        ["ip", "link", "add", layout.BRIDGE, "type", "bridge"],
        ["ip", "addr", "add", address, "dev", layout.BRIDGE],
        ["ip", "link", "set", layout.BRIDGE, "up"],
        ["ip", "route", "add", "default", "via", layout.GATEWAY, "dev", layout.BRIDGE],
        ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0"],
        ["sysctl", "-qw", f"net.ipv4.conf.{layout.BRIDGE}.send_redirects=0"],
        # A packet whose address was translated on the bridge would not go back to the node that it came from.
        ["sysctl", "-eqw", "net.bridge.bridge-nf-call-iptables=0"],
    ]


def processes(node: Node, images: list[Path], after: list[str]) -> list[Process]:
    """containerd, the images that every pod needs, then the kubelet (once `after` are ready too)."""
    load = " && ".join(f"{node.programs['ctr']} -n k8s.io images import '{image}'" for image in images)
    return [
        Process("containerd", [node.programs["containerd"], "-c", f"{node.conf}/containerd.toml"], notifies=True),
        Process("images", ["sh", "-c", load], after=["containerd"], once=True),
        Process(
            "kubelet",
            [
                node.programs["kubelet"],
                f"--config={node.conf}/kubelet.json",
                f"--kubeconfig={node.conf}/kubelet.kubeconfig",
                f"--hostname-override={node.name}",
                f"--node-ip={node.address}",
            ],
            after=["images", *after],
        ),
    ]


def write_config(node: Node, cgroup_root: str) -> None:
    """The files that containerd, its network plugins and the kubelet read; the kubeconfig is written beside them."""
    (node.conf / "cni").mkdir(parents=True, exist_ok=True)
    (node.conf / "cni" / "10-pods.conflist").write_text(network_config(node.pods))
    plugins = Path(node.programs["ptp"]).parent
    (node.conf / "containerd.toml").write_text(containerd_config(plugins, node.conf / "cni"))
    (node.conf / "resolv.conf").write_text(f"nameserver {layout.DNS_SERVICE}\n")
    (node.conf / "kubelet.json").write_text(kubelet_config(node, cgroup_root))


def network_config(pods: str) -> str:
    """Each pod on a link of its own, routed: replies to a Service's client pass the node and are translated back.

    On a bridge they would go straight to the client, unless every client's address were replaced by the node's.
    """
    addresses = {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}, indent=1)


def containerd_config(plugins: Path, networks: Path) -> str:
    """Default paths, which are the node's own; what it would write elsewhere on the machine is moved below them."""
    return f"""version = 3
[plugins.'io.containerd.internal.v1.opt']
  path = "/var/lib/containerd/opt"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{layout.PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true  # in a container root may not lower a score; without this every sandbox fails there
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["{plugins}"]
  conf_dir = "{networks}"
"""


def kubelet_config(node: Node, cgroup_root: str) -> str:
    certificate = f"{node.pki}/kubelet-{node.name}"
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{node.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [layout.DNS_SERVICE],
        "clusterDomain": layout.DOMAIN,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "tlsCertFile": f"{certificate}.crt",
        "tlsPrivateKeyFile": f"{certificate}.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,  # kubelets that share one remove each other's pods as orphans
        "failCgroupV1": False,
        "failSwapOn": False,
        "maxPods": MAX_PODS,
        "podPidsLimit": POD_PIDS_LIMIT,
        "resolvConf": f"{node.conf}/resolv.conf",
        "volumePluginDir": VOLUME_PLUGINS,
        # A developer's disk is often nearly full; what counts there is the space that is left, not the share of it.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
    return json.dumps(config, indent=1)
