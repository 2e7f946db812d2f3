"""Pods as their node sees them: processes in cgroups named as the kubelet names them, containers with roots of their
own."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bounceback.agent.clock import lay_out
from bounceback.drivers.netns import Netns
from bounceback.types import clock as clocks
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Order
from tests.kernel.lab import Lab, order

# The hierarchies of version 1 that every kernel has, and version 2's own.
GROUPS = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
MEMORY = Path("/sys/fs/cgroup/memory")
SHARED = ("usr", "bin", "lib", "lib64", "etc")  # of this machine's files, for programs in containers


@contextlib.contextmanager
def with_processes(lab: Lab) -> Iterator[str]:
    """The lab's node has processes of its own, its process 1 in the node's network, as on any machine: its number."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "1000"]
    with lab.node.entered():
        first = subprocess.Popen(command)
    try:
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
        end = time.monotonic() + 30
        while (
            not (inside := children.read_text().strip())
            or not Path("/proc", inside, "root", "proc", "1", "status").exists()
        ):
            assert time.monotonic() < end
            time.sleep(0.01)
        lab.among = ("nsenter", "-t", inside, "-p", "-m")
        yield inside
    finally:
        first.kill()
        first.wait()


@contextlib.contextmanager
def group(uid: str, *hierarchies: Path) -> Iterator[list[Path]]:
    """Cgroups of a pod in each of those hierarchies."""
    folders = [
        folder for each in hierarchies for folder in (each / f"bbt-pod{uid}", each / f"bbt-pod{uid}" / f"pod{uid}")
    ]
    made: list[Path] = []
    try:
        try:
            for folder in folders:
                folder.mkdir()
                made.append(folder)
                if folder.name.startswith("bbt-") and (given := folder / "cgroup.controllers").exists():
                    wanted = {"cpu", "memory", "pids"} & set(given.read_text().split())  # version 2 has to be told
                    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in wanted))
        except OSError as error:
            pytest.skip(f"makes cgroups, which it may not here: {error}")
        yield folders[1::2]
    finally:
        for folder in reversed(made):
            _remove(folder)


def _remove(folder: Path) -> None:
    """Once the processes that were killed there have ended."""
    end = time.monotonic() + 30
    while (folder / "cgroup.procs").read_text() and time.monotonic() < end:
        time.sleep(0.01)
    folder.rmdir()


@dataclass
class Inside:
    """A container: a root of its own with `volume` at /data, and one process that says `ready` when it is."""

    uid: str
    volume: Path  # as the node sees it
    process: subprocess.Popen[bytes]
    groups: list[Path]
    number: int = 0
    said: list[str] = field(default_factory=list)

    def group(self, controller: str) -> Path:
        """Its cgroup of that controller."""
        return next((each for each in self.groups if f"/{controller}/" in str(each)), self.groups[0])

    def say(self, word: str) -> str:
        """A line to the process; its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().strip()


DEAF = """
import ctypes, os, time
def deaf(seconds):
    if not ctypes.CDLL(None).syscall(56 if os.uname().machine == "x86_64" else 220, 0x4000 | 17, 0, 0, 0, 0):
        open("/proc/self/comm", "w").write("child")
        time.sleep(seconds)
        os._exit(0)
"""
"""Who calls it waits for a child in state D, and hears no signal meanwhile (clone(2), CLONE_VFORK)."""
ANSWERS = """
import os, sys
print(os.getpid(), flush=True)
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""
"""What runs in a container unless told otherwise: evaluates Python, a line each."""


@contextlib.contextmanager
def container(
    node: Lab, netns: Netns, *, kind: str = "tmpfs", size: str = "64m", own: bool = False, program: str = ANSWERS,
    user: int = 0, controllers: tuple[str, ...] = (), clock: Path | None = None, volume: Path | None = None,
) -> Iterator[Inside]:  # fmt: skip
    """A pod of one container, `app`. Its volume has that kind and size; `own`: it is a folder of the node's own.

    `controllers`: beside memory, those in whose cgroups it is. `clock`: the library, of one armed for a clock skew.
    `volume`: it has that of another one, too.
    """
    uid = str(uuid.uuid4())
    folder = node.folder / uid
    mark = folder / "pods" / uid / "containers" / "app" / "0"
    shared, own = volume is not None, own or volume is not None
    volume = volume or folder / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "data"
    root = folder / "root"
    for each in (mark.parent, volume, *(root / name for name in (*SHARED, "data", "dev", "proc"))):
        each.mkdir(parents=True, exist_ok=shared)
    mark.touch()
    (root / "dev" / "termination-log").touch()
    hierarchy = next((each for each in GROUPS if (each / "cgroup.procs").exists()), Path("/sys/fs/cgroup"))
    more = [
        each for each in (MEMORY, *(MEMORY.parent / name for name in controllers)) if (each / "cgroup.procs").exists()
    ]
    hierarchies = list(dict.fromkeys([hierarchy, *more]))
    if not own:
        _mounted(node, volume, folder / "image", kind, size)
    steps = [f"echo $$ > {{{index}}}/cgroup.procs" for index in range(len(hierarchies))]
    steps += [f"mount --rbind /{name} {root}/{name}" for name in SHARED]
    steps += [f"mount --bind {volume} {root}/data", f"mount --bind {mark} {root}/dev/termination-log"]
    steps += [f"mount -t proc proc {root}/proc", *([] if shared else [f"chown {user} {root}/data"])]
    change = f"--userspec={user}:{user} " if user else ""
    armed = ""
    if clock:
        lay_out(clock, folder / "clock")
        (root / clocks.FOLDER[1:]).mkdir(parents=True)
        steps += [f"mount --bind {folder}/clock {root}{clocks.FOLDER}"]
        armed = f"{clocks.PRELOAD_VARIABLE}={clocks.LIBRARY} "
    steps += [f"exec chroot {change}{root} /usr/bin/env {armed}python3 -c {shlex.quote(program)}"]
    with group(uid, *hierarchies) as groups:
        script = " && ".join(step.format(*groups) if "cgroup.procs" in step else step for step in steps)
        with netns.entered():
            process = subprocess.Popen(
                [*node.among, "unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        with process:
            try:
                assert process.stdout is not None
                first = process.stdout.readline().decode().strip()
                assert first.isdigit(), first
                yield Inside(uid, volume, process, groups, int(first))
            finally:
                for number in (groups[0] / "cgroup.procs").read_text().split():
                    os.kill(int(number), signal.SIGKILL)
                process.send_signal(signal.SIGCONT)  # nsenter(1) stands still when its child does
                process.wait()
        if not own:
            subprocess.run([*node.among, "umount", str(volume)], check=True)


def _mounted(node: Lab, volume: Path, image: Path, kind: str, size: str) -> None:
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(volume)]
    else:
        subprocess.run(["truncate", "-s", size, str(image)], check=True)
        subprocess.run([f"mkfs.{kind}", "-q", "-F", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(volume)]
    done = subprocess.run([*node.among, *command], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount {kind} here: {done.stderr.strip()}")


def on(where: Inside, act: InsideAct) -> Order:
    """Of that pod, due now; on a busy machine an agent takes long to start, and to do ten thousand things."""
    made = order(act, start_before=60.0, duration=200.0, not_after=300.0)
    return replace(made, pod_uid=where.uid)


def until(holds: Callable[[], object], seconds: float = 60.0) -> float:
    """How many seconds that took. Fails when it has not come by then."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began
