"""A pod as its node sees it: processes found by the pod's UID in their cgroups, with no container runtime to ask."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bounceback.drivers import Refused
from bounceback.drivers.netns import Netns

_START_TIME = 19  # field 22 of /proc/PID/stat, counted from after the command's name


@dataclass(slots=True)
class Target:
    """Where a pod's orders are carried out. Without a process it is the agent's own pod, which ends with the agent."""

    netns: Netns
    pod_uid: str = ""
    process: int | None = None  # descriptor of /proc/PID of the process that stands for the pod
    proc: str = "/proc"

    def alive(self) -> bool:
        """False once the pod's network namespace has no process of the pod any more."""
        if self.process is None or read(self.process, "stat"):
            return True
        for folder in folders(self.proc, self.pod_uid):
            if _netns_inode(folder) == self.netns.inode:
                os.close(self.process)
                self.process = folder
                return True
            os.close(folder)
        return False

    def resolvers(self) -> tuple[str, ...]:
        """Addresses of nameservers, as the kubelet gave them to the pod (resolv.conf(5)); empty: nobody knows."""
        if self.process is None:
            mine: Iterable[int] = [os.open(f"{self.proc}/self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        else:
            mine = folders(self.proc, self.pod_uid)
        for folder in mine:
            text = read(folder, "root/etc/resolv.conf")
            os.close(folder)
            if found := nameservers(text):
                return found
        return ()

    def close(self) -> None:
        self.netns.close()
        if self.process is not None:
            os.close(self.process)
            self.process = None


def own() -> Target:
    return Target(Netns())


def find(pod_uid: str, proc: str = "/proc", *, host_network: bool = False) -> Target:
    """The pod's network namespace, kept; the node's own only with `host_network`.

    Refused: TargetGone, NotPermitted, or HostNetwork.
    """
    for folder in folders(proc, pod_uid):
        try:
            netns = Netns.at("ns/net", folder)
            target = Target(netns, pod_uid, folder, proc)
            nodes_own = os.stat(f"{proc}/1/ns/net").st_ino  # noqa: PTH116 - pathlib is not needed here
        except (FileNotFoundError, ProcessLookupError):  # it ended just now: the next one
            os.close(folder)
            continue
        except PermissionError as error:
            os.close(folder)
            raise Refused("NotPermitted", f"may not look at processes ({error}); that takes SYS_PTRACE") from error
        if netns.inode == nodes_own and not host_network:
            target.close()
            raise Refused("HostNetwork", "the pod has the node's own network: a fault there would hit the whole node")
        return target
    raise Refused("TargetGone", f"no process of pod {pod_uid} runs on this node")


def nameservers(text: str) -> tuple[str, ...]:
    """From the text of a resolv.conf, in order."""
    words = (line.split() for line in text.splitlines())
    return tuple(parts[1] for parts in words if len(parts) > 1 and parts[0] == "nameserver")


def in_pod(cgroups: str, pod_uid: str) -> bool:
    """Does a /proc/PID/cgroup name this pod? Both drivers' spellings, both cgroup versions, nested or not.

    cgroupfs: .../kubepods/burstable/pod<uid>/<container>; systemd: ...-pod<uid with _ for ->.slice/<container>.scope
    """
    return any(names_pod(part, pod_uid) for line in cgroups.splitlines() for part in line.split(":", 2)[-1].split("/"))


def names_pod(part: str, pod_uid: str) -> bool:
    """Whether a part of a cgroup's path is that pod's."""
    unit = f"pod{pod_uid.replace('-', '_')}.slice"
    return part in (f"pod{pod_uid}", unit) or part.endswith(f"-{unit}")


def folders(proc: str, pod_uid: str) -> Iterator[int]:
    """Descriptors of the /proc folders of the pod's processes, the caller's to close; the sandbox's, the oldest, first.

    Everything about a process is read through its descriptor: a process number that is used again is not mistaken.
    """
    found: list[tuple[int, int]] = []
    for name in os.listdir(proc):  # noqa: PTH208 - pathlib is not needed here
        if name.isdigit() and (folder := _folder(proc, int(name))) is not None:
            if in_pod(read(folder, "cgroup"), pod_uid) and (age := started(folder)) is not None:
                found.append((age, int(name)))
            os.close(folder)
    for _, number in sorted(found):
        if (folder := _folder(proc, number)) is not None:
            if in_pod(read(folder, "cgroup"), pod_uid):
                yield folder
            else:
                os.close(folder)


def _folder(proc: str, number: int) -> int | None:
    try:
        return os.open(f"{proc}/{number}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None


def started(folder: int) -> int | None:
    """In clock ticks since boot."""
    stat = read(folder, "stat")
    return int(stat.rpartition(")")[2].split()[_START_TIME]) if stat else None


def _netns_inode(folder: int) -> int | None:
    try:
        return os.stat("ns/net", dir_fd=folder).st_ino
    except (FileNotFoundError, ProcessLookupError):
        return None


def read(folder: int, name: str, *, whole: bool = False) -> str:
    """Empty where the process has ended. Without `whole` its first 64 KiB, which is all of most files in /proc."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except OSError as error:
        if error.errno == errno.EINVAL:  # a zombie has no mounts any more: its mountinfo
            return ""
        raise
    try:
        text = part = os.read(fd, 1 << 16)
        while whole and part:
            part = os.read(fd, 1 << 16)
            text += part
        return text.decode(errors="replace")
    except ProcessLookupError:
        return ""
    finally:
        os.close(fd)
