from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from bounceback.types.plan import Feature
from tests.kernel.lab import OPERATOR, Lab, network

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


@pytest.fixture
def allowed() -> None:
    if os.geteuid() != 0:
        pytest.skip("changes network namespaces: needs root")
    if not shutil.which("ip"):
        pytest.skip("needs iproute2's ip")


@pytest.fixture
def lab(allowed: None) -> Iterator[Lab]:
    with network() as made:
        yield made


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What armed pods load for a clock that can be changed, made as the image has it."""
    if not shutil.which("gcc") or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("needs gcc, and a processor for which the library can be made")
    made = tmp_path_factory.mktemp("clock") / "libbounceback-clock.so"
    subprocess.run([OPERATOR / "clock" / "build.sh", made], check=True)
    return made


@cache
def _features() -> frozenset[Feature]:
    """Of this machine's kernel, tried in a namespace of their own."""
    from bounceback.drivers import fanotify
    from bounceback.drivers.capabilities import features

    with network() as made:
        return frozenset(features(made.two)) | fanotify.features()


@pytest.fixture
def needs(allowed: None) -> Callable[..., None]:
    """`needs(Feature.X, ...)` skips, with the reason, where this kernel has not got them."""

    def check(*wanted: Feature) -> None:
        if missing := [feature for feature in wanted if feature not in _features()]:
            pytest.skip(f"this kernel has no {', '.join(missing)}")

    return check
