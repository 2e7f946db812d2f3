"""The tests of this folder, on a node whose kernel has what this machine's may lack (netem), and lacks other things."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.layout import OTHER_KERNEL_NODE

PROJECT = Path(__file__).resolve().parents[2]
SAME_EVERYWHERE = (
    "test_agent_lost.py",
    "test_api_rules.py",
    "test_both_gone.py",
    "test_clock.py",
    "test_dead_man.py",
    "test_files.py",
    "test_guard.py",
    "test_kubelet.py",
    "test_kubelet_service.py",
)
"""What asks nothing of a kernel but sockets, files and processes: that one is slow, and there is nothing to find."""
LACKING = (
    "test_partition.py",
    "test_relay.py",
    "test_relay_names.py",
    "test_relay_udp.py",
    "test_relay_udp_course.py",
    "test_waiting.py",
)
"""What asks for rules that this kernel has, and that one has not: each would be skipped there."""
NOT_YET = ("test_killed_clients.py", "test_rights.py")
"""It takes minutes there."""
ELSEWHERE = (
    "test_pressure.py::test_what_cannot_be_had_is_refused",
    "test_disk.py::test_the_nodes_own_file_system_is_filled_within_its_bounds_only",
    "test_signals.py::test_what_is_to_stop_once_the_kernel_lets_go_of_it_is_not_forgotten",
    "test_signals.py::test_a_ramp_freezes_more_and_more_and_blames_nobody",
    "test_access.py::test_between_its_turns_nothing_is_held",
)
"""Long there, and decided before any kernel is asked, or about an agent's own times; or about the node's disk, which is
the machine's."""
DESCRIPTORS = 65536
"""As many as a container runtime lets an agent have open; who is started there otherwise has 4,096."""
CLUSTER = f"bbt-kernel-{os.getpid()}"
"""One of its own: it takes minutes, in which the tests' cluster is needed."""
WEIGHT = "4"
"""Twice that of the tests' cluster: it has but one processor, and needs all of that for times to be what they are."""


def dev(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dev", *words], cwd=PROJECT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def node() -> Iterator[str]:
    """The name of a cluster that has such a node; BOUNCEBACK_TEST_OTHER_KERNEL names one that is there already."""
    if there := os.environ.get("BOUNCEBACK_TEST_OTHER_KERNEL"):
        yield there
        return
    made = dev("up", "--name", CLUSTER, "--nodes", "2", "--weight", WEIGHT)
    try:
        if made.returncode == 3:
            pytest.skip(made.stderr.strip().splitlines()[-1])
        assert made.returncode == 0, made.stderr
        # No pods are asked for, and a kubelet that looks after none takes a fifth of that processor.
        stopped = dev("stop-kubelet", "--name", CLUSTER, "--node", OTHER_KERNEL_NODE)
        assert stopped.returncode == 0, stopped.stderr
        yield CLUSTER
    finally:
        dev("down", "--name", CLUSTER)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_netem_does_what_it_promises(node: str) -> None:
    left_out = (Path(__file__).name, *SAME_EVERYWHERE, *LACKING, *NOT_YET)
    ignored = " ".join(f"--ignore tests/kernel/{name}" for name in left_out)
    ignored += "".join(f" --deselect tests/kernel/{name}" for name in ELSEWHERE)
    tests = f"tests/kernel -q -p no:cacheprovider --durations 10 -rs {ignored}"
    there = f"ulimit -n {DESCRIPTORS} && cd {PROJECT} && {sys.executable} -m pytest {tests}"
    done = dev("exec", "--name", node, "--node", OTHER_KERNEL_NODE, "--", "sh", "-c", there)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 45, f"most tests were skipped there: {done.stdout}"
    inside = re.findall(r"SKIPPED.*(?:cgroups|cannot mount).*", done.stdout)
    assert not inside, "faults inside containers are for both versions of cgroups"
