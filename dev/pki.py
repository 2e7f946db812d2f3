"""A cluster's own certificate authority, its certificates, and the kubeconfigs made of them."""

import base64
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VALID_DAYS: Final = 365
ROOT: Final = "root.crt"
# Without a configuration of our own, openssl would add the extensions of the machine's one.
OPENSSL_CONFIG: Final = "[req]\ndistinguished_name = subject\n[subject]\n"
LEAF: Final = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=serverAuth,clientAuth",
    "subjectKeyIdentifier=hash",
    "authorityKeyIdentifier=keyid",
)


@dataclass(frozen=True)
class Identity:
    """Who a certificate stands for, and the names under which its owner may serve."""

    subject: str
    names: tuple[str, ...] = ()


def identities(node_addresses: Mapping[str, str], service_address: str) -> dict[str, Identity]:
    """Everyone who needs a certificate, by file name. `node_addresses` maps node names to addresses."""
    first = next(iter(node_addresses.values()))
    api_names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    addresses = ("IP:127.0.0.1", f"IP:{service_address}", f"IP:{first}")
    everyone = {
        "apiserver": Identity("/CN=kube-apiserver", (*addresses, *(f"DNS:{n}" for n in api_names), "DNS:localhost")),
        "kubelet-client": Identity("/O=system:masters/CN=kube-apiserver-kubelet-client"),
        "admin": Identity("/O=system:masters/CN=admin"),
        "controller-manager": Identity("/CN=system:kube-controller-manager"),
        "scheduler": Identity("/CN=system:kube-scheduler"),
        "proxy": Identity("/CN=system:kube-proxy"),
    }
    for node, address in node_addresses.items():
        subject = f"/O=system:nodes/CN=system:node:{node}"
        everyone[f"kubelet-{node}"] = Identity(subject, (f"IP:{address}", f"DNS:{node}"))
    return everyone


def make(folder: Path, everyone: Mapping[str, Identity]) -> None:
    """Write ca.crt and ca.key, NAME.crt and NAME.key for everyone, and sa.key with sa.pub for service accounts.

    root.crt is what clients trust; it is the same authority until there is another one (`dev.rotation`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / "openssl.cnf").write_text(OPENSSL_CONFIG)
    make_authority(folder, "ca", "/CN=bounceback-dev")
    (folder / ROOT).write_bytes((folder / "ca.crt").read_bytes())
    for name, identity in everyone.items():
        sign(folder, name, identity)
    _openssl(folder, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", "sa.key")
    _openssl(folder, "pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub")


def make_authority(folder: Path, name: str, subject: str) -> None:
    """NAME.crt and NAME.key of somebody who signs."""
    authority = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
    _certificate(folder, name, subject, (*authority, "subjectKeyIdentifier=hash"), signer=None)


def sign(folder: Path, name: str, identity: Identity, signer: str = "ca") -> None:
    """NAME.crt and NAME.key for somebody whom that authority of the folder vouches for."""
    alternatives = (f"subjectAltName={','.join(identity.names)}",) if identity.names else ()
    _certificate(folder, name, identity.subject, LEAF + alternatives, signer)


def kubeconfig(pki: Path, user: str, server: str) -> str:
    """A kubeconfig with the certificates in it, so that it can be moved and mounted."""

    def embedded(file: str) -> str:
        return base64.b64encode((pki / file).read_bytes()).decode()

    cluster = {"server": server, "certificate-authority-data": embedded(ROOT)}
    credentials = {
        "client-certificate-data": embedded(f"{user}.crt"),
        "client-key-data": embedded(f"{user}.key"),
    }
    context = {"cluster": "bounceback-dev", "user": user}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bounceback-dev", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "bounceback-dev", "context": context}],
            "current-context": "bounceback-dev",
        },
        indent=1,
    )


def _certificate(folder: Path, name: str, subject: str, extensions: tuple[str, ...], signer: str | None) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
    signed = ("-CA", f"{signer}.crt", "-CAkey", f"{signer}.key") if signer else ()
    added = [argument for extension in extensions for argument in ("-addext", extension)]
    valid = ("-days", str(VALID_DAYS))
    request = ("req", "-config", "openssl.cnf", "-x509", "-subj", subject)
    _openssl(folder, *request, *key, "-out", f"{name}.crt", *valid, *signed, *added)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
