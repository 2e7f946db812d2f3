"""Where benchmarks run: a cluster of their own with one operator in it, as a process that can be measured."""

from __future__ import annotations

import re
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
    """Its own metrics, read inside the cluster's network."""

    def metrics(self) -> str:
        import subprocess

        from dev.cluster import inside

        line = [*inside(self._cluster, ("-n",)), "curl", "-sf", f"http://127.0.0.1:{self.port}/metrics"]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    def requests(self) -> float:
        """API requests so far, watches included, the lease's renewals too."""
        return sum(
            float(v) for v in re.findall(r"^bounceback_api_requests_total\{[^}]*\} (\S+)$", self.metrics(), re.M)
        )

    def resident(self) -> float:
        """MiB."""
        found = re.search(r"^process_resident_memory_bytes (\S+)$", self.metrics(), re.M)
        assert found is not None
        return float(found[1]) / 2**20


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
            operator = MeasuredOperator(cluster, HOME, "benchmark", 19999, folder / "operator.log")
            operator.start()
            try:
                yield Place(kube, cluster, SHOP, operator)
            finally:
                operator.stop()
                await kube.delete(NAMESPACES, None, SHOP)
    finally:
        run_dev("dev", "down", "--name", name)
