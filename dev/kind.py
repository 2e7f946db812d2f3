"""A cluster from kind, where a Docker engine runs."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dev.progress import DevError, say
from dev.state import Cluster, Record

CONFIG: Final = Path(__file__).resolve().parent.parent / "kind-config.yaml"
MANIFEST: Final = "/etc/kubernetes/manifests/kube-apiserver.yaml"
ASIDE: Final = "/etc/kubernetes/kube-apiserver.yaml"


def bring_up(cluster: Cluster) -> Record:
    """Create the cluster with the project's configuration and wait for its nodes."""
    cluster.folder.mkdir(parents=True, exist_ok=True)
    say(f"kind creates {cluster.name}")
    named = [f"--name={cluster.name}", f"--kubeconfig={cluster.kubeconfig}"]
    _run(["kind", "create", "cluster", *named, f"--config={CONFIG}", "--wait=180s"])
    record = Record("kind", len(_nodes(cluster)), {}, str(cluster.kubeconfig))
    cluster.write(record)
    return record


def take_down(cluster: Cluster) -> None:
    _run(["kind", "delete", "cluster", f"--name={cluster.name}", f"--kubeconfig={cluster.kubeconfig}"])


def is_up(cluster: Cluster) -> bool:
    return bool(_nodes(cluster))


def load_image(cluster: Cluster, archive: Path) -> None:
    """Load an archive into every node."""
    _run(["kind", "load", "image-archive", f"--name={cluster.name}", str(archive)])


def execute(cluster: Cluster, words: Sequence[str]) -> int:
    """Run a command on the control plane's node, with its kubeconfig; returns the exit code."""
    settings = ["--env=KUBECONFIG=/etc/kubernetes/admin.conf"]
    return subprocess.run(["docker", "exec", "--interactive", *settings, _control_plane(cluster), *words]).returncode


def switch(cluster: Cluster, action: str, program: str) -> None:
    """Stop or start the kubelet, or the API server, which the kubelet runs from a file."""
    if program == "kubelet":
        words = ["systemctl", action, "kubelet"]
    else:
        words = ["mv", MANIFEST, ASIDE] if action == "stop" else ["mv", ASIDE, MANIFEST]
    _run(["docker", "exec", _control_plane(cluster), *words])


def _control_plane(cluster: Cluster) -> str:
    return f"{cluster.name}-control-plane"


def _nodes(cluster: Cluster) -> list[str]:
    return _run(["kind", "get", "nodes", f"--name={cluster.name}"]).split()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DevError(f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
