"""python3 -m bounceback.drivers.host_timer INJECTION PID BORN UNTIL PROC: lets a kubelet that was stopped go on.

Started by an agent before it stops the kubelet. It leaves all that is the pod's: session, cgroups (those of the node's
process 1 are its own from then on), and the namespaces of mounts, network and IPC. So neither the end of its pod nor
that of the runtime ends it, and it keeps nothing of the pod from being cleaned up. Once it has said `ready` it needs no
file, no network and no other process. It ends at the first of: UNTIL (seconds of the boot-time clock), the end of its
standard input (the agent has ended, or needs it no more), SIGTERM. Whichever it is, the kubelet goes on.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Final

from bounceback.drivers import cgroups
from bounceback.drivers.netns import CLONE_NEWNET, setns
from bounceback.drivers.processes import Process

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWIPC: Final = 0x08000000
PLACES: Final = (("net", CLONE_NEWNET), ("ipc", CLONE_NEWIPC), ("mnt", CLONE_NEWNS))
"""Mounts last: /proc is another one afterwards."""
LOOK_SECONDS: Final = 0.5  # a clock that went on while the machine slept is asked this often


def main(arguments: list[str]) -> int:
    _, number, born, until, proc = arguments
    ends = bytearray()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: ends.append(1))
    try:
        kubelet = Process(int(number), int(born), "", "", proc).open()
        if kubelet is None:
            raise ProcessLookupError(f"process {number} has ended")
        leave(proc)
    except (OSError, ValueError) as error:
        print(f"{error}", flush=True)
        return 1
    print("ready", flush=True)
    try:
        wait(float(until), ends)
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(kubelet, signal.SIGCONT)
    return 0


def wait(until: float, ends: bytearray) -> None:
    """Until that second of the boot-time clock, the end of standard input, or something in `ends`."""
    while not ends and (rest := until - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        if select.select([0], [], [], min(rest, LOOK_SECONDS))[0] and not os.read(0, 64):
            return


def leave(proc: str) -> None:
    """Be one of the host's processes. Raises OSError."""
    cgroups.enter(proc)
    cgroups.join_first(proc)
    mine, first = (_read(f"{proc}/{who}/cgroup") for who in ("self", "1"))
    if mine != first:
        raise OSError(f"its cgroups are still {mine.split()}, not those of process 1: {first.split()}")
    kept = [(os.open(f"{proc}/1/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind) for name, kind in PLACES]
    for fd, kind in kept:
        setns(fd, kind)
        os.close(fd)
    os.chdir("/")


def _read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123 - pathlib is not needed here
        return file.read()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
