"""Another root authority for a cluster made here, in the steps in which one is replaced while everything goes on."""

import base64
import json
from pathlib import Path
from typing import Final

from dev import cluster, control, layout, pki
from dev.state import Cluster

NEXT: Final = "next-ca"
TRUSTING: Final = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
"""Read whom they trust when they start. The kubelet then looks at all that it mounted, not only within a minute."""


class Rotation:
    """Of one cluster with one node: trust both authorities, serve by the next one, trust that one alone.

    It is about who signs for the API server. Those who sign for its clients stay as they are.
    """

    def __init__(self, target: Cluster) -> None:
        self._target = target
        self._pki = target.folder / "pki"
        pki.make_authority(self._pki, NEXT, "/CN=bounceback-dev-next")

    @property
    def old(self) -> bytes:
        return (self._pki / "ca.crt").read_bytes()

    @property
    def new(self) -> bytes:
        return (self._pki / f"{NEXT}.crt").read_bytes()

    def trust_both(self) -> None:
        self._trust(self.old + self.new)

    def serve_by_the_next(self) -> None:
        """The API server looks at its files by itself."""
        name = "apiserver"
        identity = pki.identities(layout.NODE_ADDRESSES, layout.KUBERNETES_SERVICE)[name]
        made = self._pki / "next"
        made.mkdir(mode=0o700)
        for file in ("openssl.cnf", f"{NEXT}.crt", f"{NEXT}.key"):
            (made / file).write_bytes((self._pki / file).read_bytes())
        pki.sign(made, name, identity, NEXT)
        for file in (f"{name}.key", f"{name}.crt"):
            (made / file).replace(self._pki / file)

    def trust_the_next_alone(self) -> None:
        self._trust(self.new)

    def _trust(self, authorities: bytes) -> None:
        _replace(self._pki / pki.ROOT, authorities)
        for file in (self._target.kubeconfig, *(self._target.folder / "conf").rglob("*.kubeconfig")):
            config = json.loads(file.read_text())
            config["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(authorities).decode()
            _replace(file, json.dumps(config, indent=1).encode())
        for action in ("stop", "start"):
            for program in TRUSTING:
                control.request(self._target.control, {"do": action, "name": program})


def _replace(file: Path, content: bytes) -> None:
    """All at once: somebody may read it meanwhile."""
    begun = file.with_name(f".{file.name}")
    cluster.write_secret(begun, content.decode())
    begun.replace(file)
