"""Where the proxy of an armed pod finds what it needs: all of it is said by the pod, in its environment and mounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bounceback.types.gate import LINKS_VARIABLE, PORT, PORT_VARIABLE

ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
SHOWN: Final = "/bounceback/ca"
KEPT: Final = "/bounceback/key"
MOVED: Final = Path("/var/run/secrets/bounceback.dev/serviceaccount")
"""Where the other containers have the service account's files: what is shown to them is where those were before."""
LINKS: Final = "namespace,token"


@dataclass(frozen=True, slots=True)
class Places:
    """`account`: where the kubelet puts the service account's files; `shown`: what the other containers see of ours;
    `kept`: what nobody else sees, and what outlives a restart of this container."""

    host: str
    port: int
    account: Path
    shown: Path
    kept: Path
    listen: int
    links: tuple[str, ...]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Places:
        """Raises ValueError with what must be."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
        listen = environment.get(PORT_VARIABLE, str(PORT))
        if not host or not port.isdigit():
            raise ValueError(
                "KUBERNETES_SERVICE_HOST and _PORT must be in the environment: the kubelet puts them there"
            )
        if not listen.isdigit() or not 0 < int(listen) < 65536:
            raise ValueError(f"{PORT_VARIABLE}: must be a port, is {listen!r}")
        if host in ("127.0.0.1", "::1", "localhost") and port == listen:
            raise ValueError("KUBERNETES_SERVICE_HOST and _PORT must be the API server's, and are this proxy's own")
        return cls(
            host,
            int(port),
            account(environment),
            shown(environment),
            kept(environment),
            int(listen),
            links(environment),
        )

    @property
    def trusted(self) -> Path:
        """What the other containers trust."""
        return self.shown / "ca.crt"

    @property
    def authority(self) -> Path:
        """The cluster's, as the kubelet has it."""
        return self.account / "ca.crt"


def links(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The service account's files that are as the kubelet has them."""
    return tuple(filter(None, environment.get(LINKS_VARIABLE, LINKS).split(",")))


def account(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("BOUNCEBACK_GATE_ACCOUNT", ACCOUNT))


def shown(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("BOUNCEBACK_GATE_SHOWN", SHOWN))


def kept(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("BOUNCEBACK_GATE_KEPT", KEPT))
