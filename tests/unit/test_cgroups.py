"""Cgroups of both versions, as the kernel shows them: where a container's are, what they allow, what they counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bounceback.drivers import Refused
from bounceback.drivers.cgroups import Group, Hierarchy, counter, hierarchies
from bounceback.drivers.processes import Process

UID = "7db75bd2-457f-4a07-8e6f-4b06bb0586f4"
SLICE = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"
HYBRID = """\
284 283 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
285 284 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
286 284 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
287 284 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
288 284 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
UNIFIED = "30 29 0:26 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
FIRST = f"9:name=systemd:/k/pod{UID}/c1\n4:memory:/k/pod{UID}/c1\n1:cpu,cpuacct:/k/pod{UID}/c1\n0::/k/pod{UID}/c1\n"


def node(folder: Path, mounts: str, cgroups: str, files: dict[str, str]) -> tuple[Process, str]:
    """A process 7 of that node, and the node's /proc; `files` are below /sys/fs/cgroup."""
    for path, text in {"1/mountinfo": mounts, "7/cgroup": cgroups}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path, text in files.items():
        file = folder / "1" / "root" / "sys" / "fs" / "cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Process(7, 0, "app", "app", str(folder)), str(folder)


def test_each_version_says_which_hierarchies_it_has() -> None:
    assert list(hierarchies(HYBRID, "/proc/1/root")) == [
        Hierarchy(frozenset({"cpu", "cpuacct"}), "/proc/1/root/sys/fs/cgroup/cpu,cpuacct", "/"),
        Hierarchy(frozenset({"memory"}), "/proc/1/root/sys/fs/cgroup/memory", "/"),
        Hierarchy(frozenset({"name=systemd"}), "/proc/1/root/sys/fs/cgroup/systemd", "/"),
        Hierarchy(frozenset(), "/proc/1/root/sys/fs/cgroup/unified", "/"),
    ]
    assert list(hierarchies(UNIFIED, "")) == [Hierarchy(frozenset(), "/sys/fs/cgroup", "/")]


def test_of_a_mount_that_shows_a_branch_only_paths_begin_there() -> None:
    assert Hierarchy(frozenset(), "/cg", "/node").at("/node/kubepods/x") == "/cg/kubepods/x"


def test_limits_of_version_1_are_the_least_of_the_container_and_its_pod(tmp_path: Path) -> None:
    pod, own = f"k/pod{UID}", f"k/pod{UID}/c1"
    files = {
        "memory/memory.limit_in_bytes": "1000\n",  # the node's own: none of the pod's
        f"memory/{pod}/memory.limit_in_bytes": "200000\n",
        f"memory/{pod}/memory.usage_in_bytes": "150000\n",
        f"memory/{pod}/memory.stat": "total_inactive_file 20000\ninactive_file 1\n",
        f"memory/{own}/memory.limit_in_bytes": "9223372036854771712\n",
        f"memory/{own}/memory.usage_in_bytes": "1\n",
        f"memory/{own}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        f"cpu,cpuacct/{pod}/cpu.cfs_quota_us": "-1\n",
        f"cpu,cpuacct/{pod}/cpu.cfs_period_us": "100000\n",
        f"cpu,cpuacct/{own}/cpu.cfs_quota_us": "50000\n",
        f"cpu,cpuacct/{own}/cpu.cfs_period_us": "100000\n",
        f"cpu,cpuacct/{own}/cpu.stat": "nr_throttled 2\nthrottled_time 1500000000\n",
        f"unified/{own}/cpu.pressure": "some avg10=0.00 total=2500000\nfull avg10=0.00 total=1\n",
    }
    process, proc = node(tmp_path, HYBRID, FIRST, files)
    memory, cpu = (Group.of(process, name, UID, proc) for name in ("memory", "cpu"))
    assert (memory.words, cpu.words) == ("cgroup v1", "cgroup v1")
    assert [Path(level).name for level in memory.levels] == ["c1", f"pod{UID}"]
    assert (memory.memory_limit(), memory.memory_room(), memory.oom_kills()) == (200_000, 70_000, 3)
    assert not memory.dies_as_one()
    assert (cpu.processors(), cpu.throttled()) == (0.5, 1.5)
    pressure = Group.pressure_of(process, UID, proc)
    assert pressure is not None
    assert pressure.waited("cpu") == 2.5
    assert pressure.waited("memory") == 0.0
    with pytest.raises(Refused, match="does not use the cgroup controller pids"):
        Group.of(process, "pids", UID, proc)


def test_limits_of_version_2_and_of_systemd(tmp_path: Path) -> None:
    path = f"kubepods.slice/kubepods-burstable.slice/{SLICE}/cri-containerd-1.scope"
    files = {
        f"{path}/cgroup.controllers": "cpuset cpu memory pids\n",
        f"{path}/memory.max": "100000\n",
        f"{path}/memory.current": "60000\n",
        f"{path}/memory.stat": "anon 1\ninactive_file 10000\n",
        f"{path}/memory.oom.group": "1\n",
        f"{path}/memory.events": "low 0\noom 4\noom_kill 2\noom_group_kill 1\n",
        f"{path}/cpu.max": "max 100000\n",
        f"{path}/pids.max": "max\n",
        f"{path}/../cpu.max": "250000 100000\n",
        f"{path}/../pids.max": "1024\n",
        f"{path}/../pids.current": "24\n",
        f"{path}/../pids.events": "max 5\n",
        f"{path}/../cpu.stat": "nr_throttled 1\nthrottled_usec 250000\n",
        f"{path}/../memory.max": "max\n",
    }
    process, proc = node(tmp_path, UNIFIED, f"0::/{path}\n", files)
    memory, cpu, pids = (Group.of(process, name, UID, proc) for name in ("memory", "cpu", "pids"))
    assert [Path(level).name for level in cpu.levels] == ["cri-containerd-1.scope", SLICE]
    assert (memory.words, memory.memory_limit(), memory.memory_room()) == ("cgroup v2", 100_000, 50_000)
    assert (memory.oom_kills(), memory.dies_as_one()) == (2, True)
    assert (cpu.processors(), cpu.throttled()) == (2.5, 0.25)
    assert (pids.pids_limit(), pids.pids_room(), pids.refused_forks()) == (1024, 1000, 5)


def test_what_has_ended_counts_nothing(tmp_path: Path) -> None:
    assert counter(str(tmp_path / "memory.events"), "oom_kill") == 0
    process, proc = node(tmp_path, UNIFIED, "", {})
    with pytest.raises(Refused) as refused:
        Group.of(process, "cpu", UID, proc)
    assert refused.value.reason == "TargetGone"
