"""Paths inside a container's root, its mounts, and which of them are the node's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bounceback.drivers import Refused
from bounceback.drivers.rooted import Mount, is_nodes_own, mount_in, open_in

KUBELET = "/var/lib/kubelet/pods/6f1c1b8e-8a5b-4a3c-9d1e-0123456789ab"
NODE = f"""\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / {KUBELET}/volumes/kubernetes.io~empty-dir/cache rw shared:9 - tmpfs tmpfs rw,size=16384k
41 22 8:16 / /var/lib/kubelet/plugins/kubernetes.io/csi/x/globalmount rw shared:10 - xfs /dev/sdb rw
42 22 8:16 / {KUBELET}/volumes/kubernetes.io~csi/pvc-1/mount rw shared:10 - xfs /dev/sdb rw
43 22 8:32 / /mnt/disks/one rw shared:11 - ext4 /dev/sdc rw
44 22 8:32 / {KUBELET}/volumes/kubernetes.io~local-volume/pv rw shared:12 - ext4 /dev/sdc rw
"""
INSIDE = f"""\
90 80 0:60 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c
91 90 8:16 / /data rw,relatime - xfs /dev/sdb rw
92 90 8:1 {KUBELET}/volumes/kubernetes.io~empty-dir/tmp /tmp rw,relatime - ext4 /dev/sda1 rw
93 90 8:1 {KUBELET}/volumes/kubernetes.io~configmap/c /etc/c ro,relatime - ext4 /dev/sda1 rw
94 90 0:40 / /cache rw,relatime - tmpfs tmpfs rw,size=16384k
95 90 8:32 / /local\\040disk rw master:3 - ext4 /dev/sdc ro
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A folder that is a container's root; a secret is beside it."""
    (tmp_path / "secret").write_text("of the node")
    (tmp_path / "root" / "data").mkdir(parents=True)
    (tmp_path / "root" / "data" / "file").write_text("of the container")
    descriptor = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def content(root: int, path: str) -> str:
    descriptor = open_in(root, path, os.O_RDONLY)
    with os.fdopen(descriptor) as file:
        return file.read()


@pytest.mark.parametrize("path", ["/data/file", "/../../data/file", "//data/./file", "/link", "/absolute", "/up"])
def test_a_path_is_followed_inside_the_root(root: int, tmp_path: Path, path: str) -> None:
    (tmp_path / "root" / "link").symlink_to("data/file")
    (tmp_path / "root" / "absolute").symlink_to("/data/file")
    (tmp_path / "root" / "up").symlink_to("../../../data/file")
    assert content(root, path) == "of the container"


@pytest.mark.parametrize("target", ["../secret", "/{}/secret", "/proc/self/root/{}/secret"])
def test_no_link_leads_out_of_the_root(root: int, tmp_path: Path, target: str) -> None:
    assert (tmp_path / "secret").read_text() == "of the node"
    (tmp_path / "root" / "out").symlink_to(target.format(tmp_path))
    with pytest.raises(FileNotFoundError):
        open_in(root, "/out", os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        open_in(root, "/../secret", os.O_RDONLY)


@pytest.mark.parametrize(
    ("number", "mount"),
    [
        (90, Mount("0:60", "overlay", "/", True)),
        (91, Mount("8:16", "xfs", "/data", True)),
        (93, Mount("8:1", "ext4", "/etc/c", False)),
        (95, Mount("8:32", "ext4", "/local\\040disk", False)),
    ],
)
def test_a_mount_is_told_by_its_number(number: int, mount: Mount) -> None:
    assert mount_in(INSIDE, number) == mount


def test_a_mount_that_the_target_has_not_got_is_refused() -> None:
    with pytest.raises(Refused, match="not in the mounts of the target"):
        mount_in(INSIDE, 22)


@pytest.mark.parametrize(
    ("number", "own"),
    [
        (90, True),  # what a container writes outside of volumes is on its runtime's disk
        (91, False),  # a disk that the node has mounted for pods only
        (92, True),  # an emptyDir on disk
        (94, False),  # one in memory
        (95, True),  # the node has it mounted for itself, too
    ],
)
def test_which_file_systems_are_the_nodes_own(number: int, own: bool) -> None:
    assert is_nodes_own(mount_in(INSIDE, number), NODE) is own
