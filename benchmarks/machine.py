"""How busy this machine is, and was while something was measured."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def ended_as_interrupted() -> None:
    """A SIGTERM ends this process as ^C does: every context is left, so no cgroup and no network stays behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def quiet(patience: float) -> None:
    """Wait until the processors have been three quarters idle for half a second, but no longer than `patience`."""

    def idle_and_all() -> tuple[int, int]:
        figures = [int(figure) for figure in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return figures[3] + figures[4], sum(figures)

    end, before = time.monotonic() + patience, idle_and_all()
    while time.monotonic() < end:
        time.sleep(0.5)
        now = idle_and_all()
        if now[0] - before[0] >= 0.75 * (now[1] - before[1]):
            return
        before = now


def waited() -> float:
    """Seconds that this machine's processes were ready to run and had no processor, as far as it says (PSI)."""
    try:
        text = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(text.rpartition("total=")[2]) / 1e6


class Stretch:
    """A stretch of time, from when this is made."""

    def __init__(self) -> None:
        self._began, self._waited = time.monotonic(), waited()

    def closing(self) -> str:
        """The last line of a table: how long it took, and how much of that others may have had a part in."""
        spent, pressed = time.monotonic() - self._began, waited() - self._waited
        share = f"something waited for a processor {pressed / spent:.0%} of the time"
        return f"{spent:.0f} s; {share}; {os.cpu_count()} of them"
