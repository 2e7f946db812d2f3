"""Paths as a container sees them, followed from its node with no way out of the container's root.

The root is /proc/PID/root, and openat2(2) follows every part of the path inside it (RESOLVE_IN_ROOT): a symbolic link,
absolute or with `..`, that somebody put into a volume leads where it leads in the container, and never to the node.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bounceback.drivers import KernelError, Refused, TargetGone
from bounceback.drivers.processes import Process, chosen, of_pod
from bounceback.types.inside import Who

_OPENAT2: Final = 437  # the same number on all architectures that containers run on
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
_TRIES: Final = 10  # EAGAIN: something was renamed while `..` was followed
_OF_VOLUME: Final = re.compile(r"/pods/[^/]+/volume(s|-subpaths|Devices)/|/kubelet/plugins/")
_OVERLAY: Final = "overlay"
MEMORY: Final = "tmpfs"
NO_FILES: Final = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "devtmpfs", "nsfs", "bpf"})
"""File systems that are the kernel's own words."""


class _How(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class Mount:
    """What is mounted where a path is, as /proc/PID/mountinfo has it (proc(5))."""

    device: str  # major:minor of the file system
    filesystem: str
    point: str  # in the container
    writable: bool


@dataclass(frozen=True, slots=True)
class Rooted:
    """A container's root, open. Its process may end meanwhile: the descriptor stays good."""

    root: int
    process: Process

    def open(self, path: str, flags: int) -> int:
        """The caller's to close. Raises OSError."""
        return open_in(self.root, path, flags)

    def mount(self, descriptor: int) -> Mount:
        """Where that file is. Raises TargetGone."""
        try:
            with open(f"{self.process.folder}/mountinfo") as file:  # noqa: PTH123 - pathlib is not needed here
                text = file.read()
        except (FileNotFoundError, ProcessLookupError) as error:
            raise TargetGone("the container ended") from error
        return mount_in(text, _mount_number(descriptor))

    def close(self) -> None:
        os.close(self.root)


def open_in(root: int, path: str, flags: int) -> int:
    """A descriptor of that path below the folder `root`. Raises OSError; KernelError on a kernel before 5.6."""
    how = _How(flags | os.O_CLOEXEC, 0o600 if flags & (os.O_CREAT | os.O_TMPFILE) == os.O_TMPFILE else 0, 0)
    how.resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS
    libc = ctypes.CDLL(None, use_errno=True)
    number = 0
    for _ in range(_TRIES):
        found = libc.syscall(_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return int(found)
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    if number == errno.ENOSYS:
        raise KernelError("this node's kernel has no openat2 (Linux 5.6), so paths cannot be kept inside a container")
    raise OSError(number, os.strerror(number), path)


def containers(pod_uid: str, who: Who, proc: str) -> list[Rooted]:
    """One process of each container that is meant, its first, with its root. Raises Refused where there is none."""
    firsts: dict[str, Process] = {}
    for process in chosen(of_pod(pod_uid, proc), who):
        firsts.setdefault(process.container, process)
    found = []
    for process in firsts.values():
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(at(process))
    if not found:
        raise Refused("NoProcess", f"the pod has no running container with {who}")
    return found


def at(process: Process) -> Rooted:
    """Of that process's container. Raises FileNotFoundError, ProcessLookupError."""
    return Rooted(os.open(f"{process.folder}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), process)


def find(pod_uid: str, who: Who, path: str, proc: str, flags: int) -> tuple[Rooted, int]:
    """The container whose path it is, and the path, open; both the caller's to close.

    Raises Refused where no container that is meant has the path, or two have different things there.
    """
    kept: tuple[Rooted, int] | None = None
    trouble = f"no container of the pod has {path}"
    everywhere = containers(pod_uid, who, proc)
    for rooted in everywhere:
        try:
            descriptor = rooted.open(path, flags)
        except OSError as error:
            if error.errno != errno.ENOENT:
                trouble = f"{path} in container {rooted.process.container}: {error.strerror}"
            rooted.close()
            continue
        if kept is None:
            kept = rooted, descriptor
            continue
        same = os.path.sameopenfile(kept[1], descriptor)
        os.close(descriptor)
        rooted.close()
        if not same:
            names = f"{kept[0].process.container} and {rooted.process.container}"
            for each in (kept[1], kept[0].root):
                os.close(each)
            raise Refused("Ambiguous", f"{path} is something else in each of the containers {names}: name one")
    if kept is None:
        raise Refused("NoPath", trouble)
    return kept


def check(rooted: Rooted, descriptor: int, path: str) -> Mount:
    """Raises Refused where it is on no file system that can be written to by the container."""
    mount = rooted.mount(descriptor)
    if mount.filesystem in NO_FILES:
        raise Refused("NotAVolume", f"{path} is on {mount.filesystem}, which is the kernel's own")
    if not mount.writable:
        raise Refused("ReadOnly", f"{path} is mounted read-only at {mount.point}: the target cannot write there either")
    return mount


def mount_in(mountinfo: str, number: int) -> Mount:
    """The mount of that number, from the text of a /proc/PID/mountinfo. Raises Refused where it is not there."""
    for line in mountinfo.splitlines():
        words = line.split()
        if int(words[0]) == number:
            after = words.index("-", 6)
            options = {*words[5].split(","), *words[after + 3].split(",")}
            return Mount(words[2], words[after + 1], words[4], "ro" not in options)
    raise Refused("NoPath", "the path is not in the mounts of the target")


def is_nodes_own(mount: Mount, node_mountinfo: str) -> bool:
    """Whether the node itself, or its container runtime, lives on that file system.

    It does not where the node has it mounted as a pod's volume only. What a container has below its root (an overlay)
    is on the runtime's disk.
    """
    if mount.filesystem == _OVERLAY:
        return True
    lines = (line.split() for line in node_mountinfo.splitlines())
    return any(words[2] == mount.device and not _OF_VOLUME.search(words[4]) for words in lines)


def _mount_number(descriptor: int) -> int:
    """From /proc/PID/fdinfo (proc(5))."""
    with open(f"/proc/self/fdinfo/{descriptor}") as file:  # noqa: PTH123 - pathlib is not needed here
        for line in file:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    raise KernelError("the kernel does not say on which mount a file is")
