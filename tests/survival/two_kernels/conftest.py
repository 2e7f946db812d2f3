"""A cluster whose second node has a kernel of its own, with netem."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from dev.layout import OTHER_KERNEL_NODE
from dev.state import Cluster
from tests.commands import Commands
from tests.conftest import ROOT, at_hand, run_dev

NAME = at_hand("two-kernels")
CANNOT = 3  # the exit code of `dev up` where this machine cannot have such a node


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[str]:
    was_up = Cluster(NAME).record() is not None
    line = [sys.executable, "-m", "dev", "up", "--name", NAME, "--nodes", "2"]
    made = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if made.returncode == CANNOT:
        pytest.skip(made.stderr.strip().splitlines()[-1])
    assert made.returncode == 0, made.stderr
    path = made.stdout.strip().splitlines()[-1]
    try:
        Commands.of(path).kubectl("cordon", OTHER_KERNEL_NODE)  # nothing is to be there but what names it
        run_dev("dev", "load-image", "--name", NAME, run_dev("dev.image", "build"))
        yield path
    finally:
        if not was_up:
            run_dev("dev", "down", "--name", NAME)


@pytest.fixture
def cluster(kubeconfig: str) -> Cluster:
    return Cluster(NAME)
