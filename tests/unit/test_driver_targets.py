"""A pod's processes, found as a node sees them; the node here is a folder that looks like /proc."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bounceback.drivers import Refused
from bounceback.drivers.targets import find, in_pod, own, read

UID = "6f1c1b8e-8a5b-4a3c-9d1e-0123456789ab"
UNDERSCORES = UID.replace("-", "_")


@pytest.mark.parametrize(
    "cgroups",
    [
        f"0::/kubepods/besteffort/pod{UID}/8a1f",  # v2, cgroupfs
        f"0::/kubepods/pod{UID}/8a1f",  # guaranteed
        f"12:pids:/kubepods/burstable/pod{UID}/8a1f\n1:name=systemd:/",  # v1
        f"0::/kubelet/kubepods/pod{UID}/8a1f",  # a node in a container
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORES}.slice/cri-containerd-8a.scope",
        f"0::/kubepods.slice/kubepods-pod{UNDERSCORES}.slice/crio-8a1f.scope",
        f"0::/../../pod{UID}/8a1f",  # read from another cgroup namespace
        f"0::/../kubepods-burstable-pod{UNDERSCORES}.slice/cri-containerd-8a1f.scope",
    ],
)
def test_both_drivers_spellings_in_both_versions_are_known(cgroups: str) -> None:
    assert in_pod(cgroups, UID)


@pytest.mark.parametrize(
    "cgroups",
    [
        "",
        "0::/",
        f"0::/kubepods/besteffort/pod{UID}0/8a1f",
        f"0::/kubepods/besteffort/podx/pod{UID[:-1]}/8a1f",
        f"0::/kubepods.slice/kubepods-pod{UNDERSCORES}0.slice/x.scope",
        f"0::/user.slice/{UID}",
    ],
)
def test_other_groups_are_not_the_pods(cgroups: str) -> None:
    assert not in_pod(cgroups, UID)


class Proc:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.add(1, "0::/init.scope", "host", started=0)

    def add(self, number: int, cgroup: str, netns: str, started: int) -> None:
        namespace = self.folder / f"netns-{netns}"
        namespace.touch()
        (self.folder / str(number) / "ns").mkdir(parents=True)
        (self.folder / str(number) / "cgroup").write_text(cgroup + "\n")
        fields = ["S", *["0"] * 18, str(started), *["0"] * 20]
        (self.folder / str(number) / "stat").write_text(f"{number} (a) name) {' '.join(fields)}\n")
        (self.folder / str(number) / "ns" / "net").hardlink_to(namespace)

    def end(self, number: int) -> None:
        shutil.rmtree(self.folder / str(number))

    def inode(self, netns: str) -> int:
        return (self.folder / f"netns-{netns}").stat().st_ino


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    (tmp_path / "sys").mkdir()  # /proc has more than processes
    return Proc(tmp_path)


def test_the_sandboxs_network_is_taken_not_one_that_the_application_made(proc: Proc, tmp_path: Path) -> None:
    proc.add(40, f"0::/kubepods/pod{UID}/app", "of-its-own", started=900)
    proc.add(77, f"0::/kubepods/pod{UID}/pause", "pod", started=100)  # numbers wrap, start times do not
    proc.add(50, "0::/kubepods/podother/x", "other", started=50)
    target = find(UID, str(tmp_path))
    assert target.netns.inode == proc.inode("pod")
    target.close()


def test_a_pod_that_is_not_here_is_gone(proc: Proc, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no process of pod") as refusal:
        find(UID, str(tmp_path))
    assert refusal.value.reason == "TargetGone"


def test_a_pod_on_the_nodes_own_network_is_refused(proc: Proc, tmp_path: Path) -> None:
    proc.add(40, f"0::/kubepods/pod{UID}/app", "host", started=900)
    with pytest.raises(Refused, match="hit the whole node") as refusal:
        find(UID, str(tmp_path))
    assert refusal.value.reason == "HostNetwork"
    allowed = find(UID, str(tmp_path), host_network=True)
    assert allowed.netns.inode == proc.inode("host")
    allowed.close()


def test_a_pod_lives_as_long_as_one_process_is_in_its_network(proc: Proc, tmp_path: Path) -> None:
    proc.add(40, f"0::/kubepods/pod{UID}/pause", "pod", started=10)
    proc.add(41, f"0::/kubepods/pod{UID}/app", "pod", started=20)
    target = find(UID, str(tmp_path))
    assert target.alive()
    proc.end(40)
    assert target.alive()
    proc.end(41)
    assert not target.alive()
    target.close()


def test_a_pod_that_was_restarted_in_another_network_is_gone(proc: Proc, tmp_path: Path) -> None:
    proc.add(40, f"0::/kubepods/pod{UID}/pause", "pod", started=10)
    target = find(UID, str(tmp_path))
    proc.end(40)
    proc.add(60, f"0::/kubepods/pod{UID}/pause", "new", started=30)
    assert not target.alive()
    target.close()


def test_ones_own_pod_is_there_as_long_as_oneself() -> None:
    assert own().alive()


def test_a_zombie_has_ended() -> None:
    """The kernel refuses to open some of its files (EINVAL), and shows others empty."""
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
        folder = os.open(f"/proc/{child.pid}", os.O_RDONLY)
        try:
            assert read(folder, "mountinfo", whole=True) == ""
            assert read(folder, "stat")
        finally:
            os.close(folder)
