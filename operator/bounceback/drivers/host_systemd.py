"""The systemd of a node, asked by its own tools, in its own mounts: systemctl(1) and systemd-run(1).

They speak to systemd by a socket in /run that takes root's word, so it takes no more rights than to enter the mounts of
process 1 (SYS_ADMIN, SYS_CHROOT). What systemd-run makes is systemd's own: it needs no process of a pod. Standard
library only.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import Final

from bounceback.drivers import KernelError, Refused
from bounceback.drivers.host_timer import CLONE_NEWNS
from bounceback.drivers.netns import setns

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANSWER_SECONDS: Final = 20.0


class HostSystemd:
    """That of the node whose processes are seen in `proc`."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc

    def required(self) -> None:
        """Refused: NoSystemd, where process 1 is something else."""
        first = _text(f"{self._proc}/1/comm").strip()
        if first != "systemd":
            raise Refused(
                "NoSystemd",
                f"process 1 of this node is {first or 'not to be seen'} and not systemd, so nobody is known who would "
                "keep the kubelet stopped and start it again though we are dead; use mode Freeze",
            )

    @property
    def there(self) -> bool:
        return _text(f"{self._proc}/1/comm").strip() == "systemd"

    def unit_of(self, number: int) -> str:
        """The service in whose cgroup that process is; "" for none."""
        for line in _text(f"{self._proc}/{number}/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "name=systemd"):
                services = [part for part in path.split("/") if part.endswith(".service")]
                if services:
                    return services[-1]
        return ""

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Of a unit; "" where it has none of that name. Raises KernelError."""
        told = self._say("systemctl", "show", unit, f"--property={','.join(names)}")
        found = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        return {name: found.get(name, "") for name in names}

    def stop(self, unit: str) -> None:
        """It is asked for; does not wait. Raises KernelError."""
        self._say("systemctl", "--no-block", "stop", unit)

    def start(self, unit: str) -> None:
        """See `stop`."""
        self._say("systemctl", "--no-block", "start", unit)

    def start_later(self, unit: str, seconds: float, timer: str) -> None:
        """By a timer of that name; until it has worked, if it takes more than once. Raises KernelError."""
        self._say(
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={timer}",
            f"--on-active={seconds:.3f}s",
            "--timer-property=AccuracySec=50ms",
            "--timer-property=RemainAfterElapse=no",
            *("--property=Type=oneshot", "--property=Restart=on-failure", "--property=RestartSec=1s"),
            "--property=StartLimitIntervalSec=0",
            *("systemctl", "start", unit),
        )

    def timer_is_set(self, timer: str) -> bool:
        """Or is at work. Raises KernelError."""
        units = (f"{timer}.timer", f"{timer}.service")
        return any(self.properties(unit, "ActiveState")["ActiveState"] in _AT_WORK for unit in units)

    def forget_timer(self, timer: str) -> None:
        """Raises KernelError."""
        if self.timer_is_set(timer):
            self._say("systemctl", "stop", f"{timer}.timer", f"{timer}.service", none_such_is_fine=True)

    def _say(self, *words: str, none_such_is_fine: bool = False) -> str:
        mounts = os.open(f"{self._proc}/1/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            done = subprocess.run(
                words,
                preexec_fn=partial(_enter, mounts),
                env={"PATH": PATH, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ANSWER_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise KernelError(f"the node's systemd did not answer {' '.join(words[:3])} in time") from None
        except (OSError, subprocess.SubprocessError) as error:
            raise KernelError(f"{words[0]} could not be started on the node: {error}") from error
        finally:
            os.close(mounts)
        if done.returncode and not none_such_is_fine:
            raise KernelError(f"{' '.join(words[:3])} on the node: {done.stderr.strip() or done.returncode}")
        return done.stdout


_AT_WORK: Final = frozenset({"active", "activating", "reloading", "deactivating"})


def _enter(mounts: int) -> None:
    setns(mounts, CLONE_NEWNS)
    os.chdir("/")


def _text(path: str) -> str:
    """Empty where the process has ended."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - pathlib is not needed here
            return file.read()
    except OSError:
        return ""
