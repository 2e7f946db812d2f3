"""What a person sees while the cluster is being made: one line a step, and a sign of life while a long step runs."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

HEARTBEAT_SECONDS: Final = 15.0


class DevError(Exception):
    """Something that the user must know about; its text says what happened and the way out."""


class UnsupportedError(DevError):
    """What was asked for cannot be had on this machine, whoever is to blame; a test that needs it is skipped."""


def say(text: str) -> None:
    """One line for the user. Standard output is kept for what a script would read (paths, exports)."""
    print(text, file=sys.stderr, flush=True)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def run_logged(
    command: Sequence[str], log: Path, what: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Run a long command, its output appended to `log`, saying every so often that it still runs.

    Raises DevError with the end of the log when the command fails.
    """
    started = time.monotonic()
    done = threading.Event()

    def heartbeat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            with log.open("rb") as lines:
                written = sum(1 for _ in lines)
            say(f"  {what}: {time.monotonic() - started:.0f} s, {written} lines of progress in {log}")

    watcher = threading.Thread(target=heartbeat, daemon=True)
    with log.open("ab") as output:
        watcher.start()
        try:
            result = subprocess.run(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        finally:
            done.set()
            watcher.join()
    if result.returncode:
        raise DevError(f"{what} failed: {' '.join(command[:6])} ended with {result.returncode}\n{tail(log)}")
