"""The operator as a process of its own inside the cluster's network, so that it can be killed, stopped and doubled."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.control import first_process
from dev.state import Cluster
from tests.commands import PRELOADED, until
from tests.conftest import IMAGE
from tests.preloaded import Forked

END_SECONDS: Final = 30.0
ports: Final = itertools.count(19000)


class OperatorProcess:
    """`identity` is its name in the lease; `port` must be free in the cluster's network."""

    def __init__(
        self, cluster: Cluster, home: str, identity: str, port: int, log: Path, more: Mapping[str, str] | None = None
    ) -> None:
        """`more` is added to its environment."""
        self._cluster = cluster
        self._network = f"/proc/{first_process(cluster.control)}/ns/net"
        self.port = port
        self._log = log
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(cluster.inner_kubeconfig),
            "BOUNCEBACK_NAMESPACE": home,
            "BOUNCEBACK_POD_NAME": identity,
            "BOUNCEBACK_IMAGE": IMAGE,
            "BOUNCEBACK_METRICS_PORT": str(port),
            "BOUNCEBACK_LOG": "DEBUG",
            **(more or {}),
        }
        self._process: Forked | subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            streams = (log.fileno(), log.fileno())
            self._process = PRELOADED.start(["operator"], self._environment, *streams, network=self._network)

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: it lets go of its lease."""
        self._end(signal.SIGTERM)

    def suspend(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self.alive:
            self._signal(signal.SIGCONT)
            self._signal(number)
            until(lambda: not self.alive, "it has ended", END_SECONDS)
