"""The operator as a process of its own inside the cluster's network, so that it can be killed, stopped and doubled."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.cluster import inside
from dev.state import Cluster
from tests.conftest import IMAGE, ROOT

START_SECONDS: Final = 30.0
ports: Final = itertools.count(19000)


class OperatorProcess:
    """`identity` is its name in the lease; `port` must be free in the cluster's network."""

    def __init__(
        self, cluster: Cluster, home: str, identity: str, port: int, log: Path, more: Mapping[str, str] | None = None
    ) -> None:
        """`more` is added to its environment."""
        self._line = [*inside(cluster, ("-n",)), sys.executable, "-m", "bounceback", "operator"]
        self._cluster = cluster
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
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._line,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # which the kernel gives as much of a processor as all that the tests start
            )

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
            assert self._process is not None
            self._process.wait(START_SECONDS)
