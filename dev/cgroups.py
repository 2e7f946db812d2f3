"""A cluster's own branch in every cgroup hierarchy of the machine."""

import os
from pathlib import Path
from typing import Final

from dev.progress import DevError

MOUNT: Final = Path("/sys/fs/cgroup")
PROCESSES: Final = "cgroup.procs"
DAEMONS: Final = "daemons"  # the cluster's programs; its pods are beside it
INHERITED: Final = ("cpuset.cpus", "cpuset.mems")  # version 1 starts these empty, and an empty one takes no process
OF_ONE: Final = {"cpu.shares": 1024, "cpu.weight": 100}  # by version: what a group gets of which nothing is said


def name_of(cluster: str) -> str:
    return f"bounceback-{cluster}"


def hierarchies(mount: Path = MOUNT) -> list[Path]:
    """The roots: the one of version 2, or each controller's of version 1 (several names may lead to one).

    Folders that are none may be among them: mount points at which nothing is mounted.
    """
    if (mount / "cgroup.controllers").exists():
        return [mount]
    return sorted({path.resolve() for path in mount.iterdir() if (path / PROCESSES).exists()})


def make(cluster: str) -> list[str]:
    """Make the branch; returns the folders that the cluster's programs have to join."""
    joined = []
    try:
        for root in hierarchies():
            branch = root / name_of(cluster)
            for group in (branch, branch / DAEMONS):
                group.mkdir(exist_ok=True)
                _inherit(group)
            joined.append(str(branch / DAEMONS))
    except OSError as error:
        raise DevError(
            f"No cgroup can be made here ({error}); the local cluster needs a writable /sys/fs/cgroup."
        ) from error
    return joined


def _inherit(group: Path) -> None:
    parent = group.parent
    for file in INHERITED:
        if (group / file).exists() and not (parent / "cgroup.controllers").exists():
            (group / file).write_text((parent / file).read_text())
    if (parent / "cgroup.controllers").exists() and group.name != DAEMONS:
        for holder in (parent, group):
            controllers = (holder / "cgroup.controllers").read_text().split()
            (holder / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in controllers))


def weigh(cluster: str, weight: int) -> None:
    """How much processor time all of it gets beside other work, where there is not enough: 1 as one terminal does."""
    for root in hierarchies():
        for file, one in OF_ONE.items():
            if (setting := root / name_of(cluster) / file).exists():
                setting.write_text(str(one * weight))


def branches(cluster: str) -> list[Path]:
    """What exists of the cluster's branch, the deepest groups first."""
    found: list[Path] = []
    for root in hierarchies():
        for folder, _, _ in os.walk(root / name_of(cluster), topdown=False):
            found.append(Path(folder))
    return found


def clusters(mount: Path = MOUNT) -> set[str]:
    """The names of all clusters that have a branch, also of those whose folder is gone."""
    found = {path.name for root in hierarchies(mount) for path in root.glob(name_of("*"))}
    return {name.removeprefix(name_of("")) for name in found}


def members(cluster: str) -> set[int]:
    """The processes in the cluster's branch, its pods included."""
    pids: set[int] = set()
    for group in branches(cluster):
        try:
            pids.update(int(line) for line in (group / PROCESSES).read_text().split())
        except FileNotFoundError:  # gone between the two looks
            continue
    return pids


def remove(cluster: str) -> None:
    """Remove the branch, which must have no process any more."""
    for group in branches(cluster):
        try:
            group.rmdir()
        except OSError as error:
            raise DevError(
                f"{group} cannot be removed ({error.strerror}); processes in it: {members(cluster)}"
            ) from error
