"""Where benchmarks run: a cluster of their own with one operator in it, as a process that can be measured."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from bounceback.kube import Kube, Resource
from bounceback.kube.client import APPLY_PATCH
from bounceback.kube.resources import NAMESPACES, SERVICE_ACCOUNTS
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.containers import AGENT_ACCOUNT
from dev.cluster import inside
from dev.state import Cluster
from tests.conftest import ACCOUNT, OPERATOR, ROOT, apply, make_namespace, run_dev
from tests.survival.operators import OperatorProcess

HOME, SHOP = "bounceback-system", "benchmark"
DEFINITIONS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)


@dataclass(frozen=True)
class Place:
    kube: Kube
    cluster: Cluster
    namespace: str
    operator: MeasuredOperator


class MeasuredOperator(OperatorProcess):
    """A process that shares nothing with another; its own metrics, read inside the cluster's network."""

    def start(self) -> None:
        line = [*inside(self._cluster, ("-n",)), sys.executable, "-m", "bounceback", "operator"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                line, cwd=ROOT, env=self._environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def metrics(self) -> str:
        line = [*inside(self._cluster, ("-n",)), "curl", "-sf", f"http://127.0.0.1:{self.port}/metrics"]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    def requests(self) -> float:
        """API requests so far, watches included, the lease's renewals too."""
        return sum(self.requests_by_method().values())

    def requests_by_method(self) -> collections.Counter[str]:
        counted: collections.Counter[str] = collections.Counter()
        for method, value in re.findall(
            r'^bounceback_api_requests_total\{.*method="(\w+)".*\} (\S+)$', self.metrics(), re.M
        ):
            counted[method] += round(float(value))
        return counted

    def finished(self) -> int:
        """Runs that have their verdict."""
        return round(sum(map(float, re.findall(r"^bounceback_runs_total\{.*\} (\S+)$", self.metrics(), re.M))))

    def under_way(self) -> int:
        """Runs that are taken through their steps, or wait for a place."""
        found = re.findall(r"^bounceback_runs_(?:running|waiting) (\S+)$", self.metrics(), re.M)
        return round(sum(map(float, found)))

    def resident(self) -> float:
        """MiB."""
        return self._memory("VmRSS")

    def peak(self) -> float:
        """MiB, the most that it had since it started."""
        return self._memory("VmHWM")

    def cpu_seconds(self) -> float:
        """Since it started."""
        times = self._proc("stat").rpartition(")")[2].split()  # proc_pid_stat(5): utime and stime are fields 14, 15
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self, which: str) -> float:
        found = re.search(rf"^{which}:\s+(\d+) kB$", self._proc("status"), re.M)
        assert found is not None
        return int(found[1]) / 1024

    def _proc(self, file: str) -> str:
        """nsenter(1) becomes the program that it starts, unless it enters a process namespace."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/{file}").read_text()


@asynccontextmanager
async def place(name: str, folder: Path) -> AsyncIterator[Place]:
    kubeconfig = run_dev("dev", "up", "--name", name)
    run_dev("dev", "load-image", "--name", name, run_dev("dev.image", "build"))
    cluster = Cluster(name)
    try:
        async with Kube.connected(kubeconfig) as kube:
            for path in sorted((ROOT / "crds").glob("*.yaml")):
                body = yaml.safe_load(path.read_text())
                await kube.patch(
                    DEFINITIONS, None, body["metadata"]["name"], body, content_type=APPLY_PATCH, force=True
                )
            await make_namespace(kube, HOME, {"pod-security.kubernetes.io/enforce": "privileged"})
            await kube.create(SERVICE_ACCOUNTS, HOME, {"metadata": {"name": AGENT_ACCOUNT}})
            await make_namespace(kube, SHOP)
            await apply(kube, access_manifest(SHOP, ACCOUNT, HOME, OPERATOR))
            log, quiet = folder / "operator.log", {"BOUNCEBACK_LOG": "INFO"}  # as it is by default
            operator = MeasuredOperator(cluster, HOME, "benchmark", 19999, log, quiet)
            operator.start()
            try:
                yield Place(kube, cluster, SHOP, operator)
            finally:
                operator.stop()
                await kube.delete(NAMESPACES, None, SHOP)
    finally:
        run_dev("dev", "down", "--name", name)
