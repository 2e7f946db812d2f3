"""What every cluster has from the start: the images that are packed here, and the cluster's DNS."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dev import archives, cache, layout
from dev.api import Api

PAUSE: Final = r"""
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Holds a pod's namespaces, and reaps its orphans where the pod shares its processes. */
static void on(int signal) {
    if (signal != SIGCHLD) _exit(0);
    while (waitpid(-1, 0, WNOHANG) > 0) continue;
}

int main(void) {
    signal(SIGTERM, on);
    signal(SIGINT, on);
    signal(SIGCHLD, on);
    for (;;) pause();
}
"""

# Names of this cluster, and nothing else: there is no way out of it, so any other name is unknown at once.
COREFILE: Final = f"""
{layout.DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {{
    errors
    health
    ready
    kubernetes {layout.DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
DNS_LABELS: Final = {"k8s-app": "kube-dns"}


def images_of_every_node() -> list[Path]:
    """Archives of pause and busybox, packed from static binaries and kept in the cache."""
    return [_pause(), _busybox()]


def images_of_first_node(coredns: Path) -> list[Path]:
    """The same, and CoreDNS."""
    return [*images_of_every_node(), _coredns(coredns)]


def _pause() -> Path:
    def make(folder: Path) -> None:
        source, root = folder / "pause.c", folder / "root"
        source.write_text(PAUSE)
        root.mkdir()
        subprocess.run(["gcc", "-O2", "-static", "-o", str(root / "pause"), str(source)], check=True)
        archives.pack(layout.PAUSE_IMAGE, root, folder / "image.tar", ["/pause"])
        shutil.rmtree(root)

    return cache.entry("images", f"pause-{cache.digest(PAUSE)}", make) / "image.tar"


def _busybox() -> Path:
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()

    def make(folder: Path) -> None:
        root = folder / "root"
        for name in ("bin", "tmp", "etc", "proc"):
            (root / name).mkdir(parents=True)
        shutil.copy(busybox, root / "bin" / "busybox")
        archives.link_applets(root / "bin", applets)
        archives.pack(layout.BUSYBOX_IMAGE, root, folder / "image.tar", ["/bin/sh", "-c", "sleep infinity"])
        shutil.rmtree(root)

    made_from = cache.digest(busybox.stat().st_size, applets)
    return cache.entry("images", f"busybox-{made_from}", make) / "image.tar"


def _coredns(binary: Path) -> Path:
    def make(folder: Path) -> None:
        root = folder / "root"
        root.mkdir()
        shutil.copy(binary, root / "coredns")
        archives.pack(layout.COREDNS_IMAGE, root, folder / "image.tar", ["/coredns"])
        shutil.rmtree(root)

    return cache.entry("images", f"coredns-{cache.digest(str(binary), binary.stat().st_size)}", make) / "image.tar"


def apply_dns(api: Api) -> None:
    """Cluster DNS as users know it: CoreDNS behind the Service kube-dns in kube-system."""
    for path, body in dns_objects().items():
        api.apply(path, body)


def dns_objects() -> dict[str, dict[str, Any]]:
    """Every object of the cluster's DNS by its path in the API."""
    roles = "/apis/rbac.authorization.k8s.io/v1"
    system = "/api/v1/namespaces/kube-system"
    subject = {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    ports = [{"name": f"dns-{kind.lower()}", "port": 53, "protocol": kind} for kind in ("UDP", "TCP")]
    named = {"name": "coredns", "namespace": "kube-system"}
    return {
        f"{system}/serviceaccounts/coredns": _object("v1", "ServiceAccount", named),
        f"{roles}/clusterroles/system:coredns": _object(
            "rbac.authorization.k8s.io/v1", "ClusterRole", {"name": "system:coredns"}, rules=rules
        ),
        f"{roles}/clusterrolebindings/system:coredns": _object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            {"name": "system:coredns"},
            roleRef=role,
            subjects=[subject],
        ),
        f"{system}/configmaps/coredns": _object("v1", "ConfigMap", named, data={"Corefile": COREFILE}),
        f"{system}/services/kube-dns": _object(
            "v1",
            "Service",
            {"name": "kube-dns", "namespace": "kube-system", "labels": DNS_LABELS},
            spec={"clusterIP": layout.DNS_SERVICE, "selector": DNS_LABELS, "ports": ports},
        ),
        "/apis/apps/v1/namespaces/kube-system/deployments/coredns": _object(
            "apps/v1",
            "Deployment",
            {**named, "labels": DNS_LABELS},
            spec={
                "replicas": 1,
                "selector": {"matchLabels": DNS_LABELS},
                "template": {"metadata": {"labels": DNS_LABELS}, "spec": _dns_pod()},
            },
        ),
    }


def _object(version: str, kind: str, metadata: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": dict(metadata), **rest}


def _dns_pod() -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": layout.COREDNS_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/coredns", "-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "ports": [{"containerPort": 53, "name": f"dns-{kind.lower()}", "protocol": kind} for kind in ("UDP", "TCP")],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "30Mi"}, "limits": {"memory": "170Mi"}},
    }
    return {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "nodeSelector": {"kubernetes.io/hostname": layout.FIRST_NODE},
        "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
        "containers": [container],
    }
