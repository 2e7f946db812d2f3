"""What tests on a real cluster share: the cluster, with this tree's image in it, and namespaces that go away."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.client import APPLY_PATCH, Json
from bounceback.kube.resources import NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.containers import AGENT_ACCOUNT
from dev.state import clusters_folder
from tests.commands import CHART, SYSTEM, Commands

ROOT = Path(__file__).parent.parent
ON_THE_CLUSTER = (
    "tests/e2e/",
    "tests/integration/",
    "tests/survival/two_kernels/",
)
"""Tests that share one cluster; all others have none, or one that they make."""
HAVE_THEIR_OWN = "tests/integration/test_dev_cluster.py"
OTHER_KERNEL = "tests/kernel/test_other_kernel.py"
"""It takes a processor for itself for minutes; the examples, which come first, have one of their own."""
SHORT = ("tests/unit/", HAVE_THEIR_OWN)
IMAGE = "bounceback:dev"
ACCOUNT = "bounceback"
OPERATOR = "operator"
RBAC = "rbac.authorization.k8s.io/v1"
KINDS = {
    "ServiceAccount": SERVICE_ACCOUNTS,
    "Role": Resource(RBAC, "roles"),
    "RoleBinding": Resource(RBAC, "rolebindings"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "kubeconfig" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> int:
    """What is short comes last, so that both halves end together; another kernel while the other half is busy."""
    return next((turn for turn, name in enumerate(SHORT, 1) if nodeid.startswith(name)), 0)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Halves:
    return Halves(config, log)


class Halves(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist's classes are not typed
    """With `-n 2` what goes on at the tests' cluster and what goes on elsewhere go on side by side.

    The one leaves the machine idle for half of its time, the kernel's tests for three quarters of theirs. Whoever has
    nothing else to do takes what is left: another kernel, survival, tests of Python alone (file by file), clusters.
    """

    def _split_scope(self, nodeid: str) -> str:
        if on_the_cluster(nodeid):
            return "cluster"
        if nodeid.startswith((OTHER_KERNEL, *SHORT)):
            return nodeid.partition("::")[0]
        return "survival" if nodeid.startswith("tests/survival/") else "elsewhere"


def on_the_cluster(nodeid: str) -> bool:
    return nodeid.startswith(ON_THE_CLUSTER) and not nodeid.startswith(HAVE_THEIR_OWN)


@pytest.fixture(autouse=True)
def in_its_half(request: pytest.FixtureRequest) -> None:
    """Whoever uses the tests' cluster says so, or would go on beside those who do, and disturb them."""
    if "kubeconfig" in request.fixturenames and not on_the_cluster(request.node.nodeid):
        used = request.getfixturevalue("kubeconfig")
        assert used != os.environ.get("BOUNCEBACK_TEST_KUBECONFIG"), "name this file in ON_THE_CLUSTER"


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """The cluster of BOUNCEBACK_TEST_KUBECONFIG, which has the image already, or else the development cluster."""
    if named := os.environ.get("BOUNCEBACK_TEST_KUBECONFIG"):
        return named
    path = run_dev("dev", "up", "--wait-dns")
    run_dev("dev", "load-image", run_dev("dev.image", "build"))
    return path


def at_hand(otherwise: str) -> str:
    """The name of the cluster that the tests have, where it is one of `dev`'s and can be given another node."""
    path = Path(os.environ.get("BOUNCEBACK_TEST_KUBECONFIG", ""))
    return path.parent.name if clusters_folder() in path.parents else otherwise


@pytest.fixture
async def kube(kubeconfig: str) -> AsyncIterator[Kube]:
    """A connection with all rights."""
    async with Kube.connected(kubeconfig) as connected:
        yield connected


@pytest.fixture
async def home(kube: Kube) -> AsyncIterator[str]:
    """A namespace as the operator's own: privileged pods may run there."""
    async with home_in(kube) as name:
        yield name


@pytest.fixture
async def namespace(kube: Kube, home: str) -> AsyncIterator[str]:
    """A namespace for experiments, whose account has the rights that `bounceback access` grants."""
    async with opened(kube, home) as name:
        yield name


@pytest.fixture
def acting(kube: Kube, namespace: str) -> Kube:
    """The same cluster in the name of the namespace's account."""
    return kube.acting_as(namespace, ACCOUNT)


@pytest.fixture(scope="session")
def commands(kubeconfig: str) -> Commands:
    """What people type at the cluster."""
    return Commands.of(kubeconfig)


@pytest.fixture(scope="module")
def policy(commands: Commands) -> Iterator[None]:
    """Our resources and the admission policy, by the chart, without an operator."""
    with installed(commands, "replicas=0,drain.enabled=false"):
        yield


@pytest.fixture(scope="module")
def release(commands: Commands) -> Iterator[str]:
    """The operator, by the chart, leading; its namespace. No other operator may run meanwhile."""
    with installed(commands, f"image.tag={IMAGE.partition(':')[2]}"):
        yield SYSTEM


@contextmanager
def installed(commands: Commands, values: str) -> Iterator[None]:
    """The resources' definitions stay: other tests' experiments are among them."""
    place = ["bounceback", "--namespace", SYSTEM, "--timeout=180s"]
    # Tests may have made the definitions without Helm, and must not be in its way.
    options = ["--create-namespace", "--take-ownership", "--force-conflicts", "--wait", "--set", values]
    commands.helm("upgrade", "--install", *place, str(CHART), *options)
    try:
        commands.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
        yield
    finally:
        commands.helm("uninstall", *place, "--wait")


@asynccontextmanager
async def home_in(kube: Kube) -> AsyncIterator[str]:
    name = f"bb-home-{secrets.token_hex(4)}"
    await make_namespace(kube, name, {"pod-security.kubernetes.io/enforce": "privileged"})
    try:
        await kube.create(SERVICE_ACCOUNTS, name, {"metadata": {"name": AGENT_ACCOUNT}})
        yield name
    finally:
        for secret in (await kube.list(SECRETS, name))[0]:  # a journal that is kept would keep the namespace for ever
            if secret["metadata"].get("finalizers"):
                await kube.patch(SECRETS, name, secret["metadata"]["name"], {"metadata": {"finalizers": None}})
        await kube.delete(NAMESPACES, None, name)


@asynccontextmanager
async def opened(kube: Kube, home: str) -> AsyncIterator[str]:
    name = f"bb-test-{secrets.token_hex(4)}"
    await make_namespace(kube, name)
    try:
        await apply(kube, access_manifest(name, ACCOUNT, home, OPERATOR))
        await until_known(kube.acting_as(name, ACCOUNT), name)
        yield name
    finally:
        await drop_namespace(kube, name)


async def until_known(acting: Kube, namespace: str, resource: Resource = PODS, name: str = "") -> None:
    """The API server's authorizer learns of new rights by a watch, and what comes sooner is forbidden.

    `name`: the right is to get that one alone, whether it is there or not.
    """
    async with asyncio.timeout(60):
        while True:
            try:
                await (acting.get(resource, namespace, name) if name else acting.list(resource, namespace))
            except KubeError as error:
                if name and error.gone:
                    return
                if error.status != 403:
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def make_namespace(kube: Kube, name: str, labels: dict[str, str] | None = None) -> None:
    """With the account that pods have there, without which none can be made."""
    await kube.create(NAMESPACES, None, {"metadata": {"name": name, "labels": labels or {}}})
    async with asyncio.timeout(60):
        while True:
            try:
                await kube.get(SERVICE_ACCOUNTS, name, "default")
            except KubeError as error:
                if not error.gone:
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def drop_namespace(kube: Kube, name: str) -> None:
    try:
        await kube.delete(NAMESPACES, None, name)
    except KubeError as error:
        if not error.gone and not error.conflict:  # the test may have done it
            raise


async def apply(kube: Kube, manifest: list[Json]) -> None:
    """As kubectl apply --server-side does."""
    for item in manifest:
        metadata = item["metadata"]
        await kube.patch(
            KINDS[item["kind"]], metadata["namespace"], metadata["name"], item, content_type=APPLY_PATCH, force=True
        )


def run_dev(module: str, *arguments: str) -> str:
    """The last line that the tool prints; its progress goes to the terminal."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
