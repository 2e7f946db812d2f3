"""tc(8) and ip(8), run in a network namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from bounceback.drivers import KernelError
from bounceback.drivers.netns import Netns

_SECONDS: Final = 20.0


def run(
    netns: Netns, tool: str, lines: Sequence[str], *, anyway: bool = False, tables: Mapping[str, str] | None = None
) -> None:
    """`tool` is tc or ip; one line a command, up to the first that fails, or with `anyway` all of them.

    `tables` are delay distributions that the lines refer to, by name: the texts of files as tc reads them.

    The children inherit what is inheritable: the connection to the guard, which so learns of the agent's end only
    when no child of it can change anything any more. Raises KernelError with the tool's own words.
    """
    if not lines:
        return
    command = [tool, *(["-force"] if anyway else []), "-batch", "-"]
    try:
        with _library(tables or {}) as environment, netns.entered():
            child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                close_fds=False,
                text=True,
            )
            _, said = child.communicate("\n".join(lines) + "\n", timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        child.kill()
        child.wait()
        raise KernelError(f"{tool} did not end within {_SECONDS:g} s") from error
    except OSError as error:
        raise KernelError(f"{tool}: {error}") from error
    if child.returncode and not anyway:
        raise KernelError(f"{tool}: {_words(said, lines)}")


@contextmanager
def _library(tables: Mapping[str, str]) -> Iterator[dict[str, str] | None]:
    """The environment for a tc that finds its tables (TC_LIB_DIR) in files of this process's own, while they last."""
    if not tables:
        yield None
        return
    folder = f"{os.environ.get('TMPDIR', '/tmp')}/bounceback-tc-{os.getpid()}"
    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - pathlib is not needed here
    try:
        for name, text in tables.items():
            with open(f"{folder}/{name}.dist", "w") as file:  # noqa: PTH123
                file.write(text)
        yield {**os.environ, "TC_LIB_DIR": folder}
    finally:
        for name in os.listdir(folder):  # noqa: PTH208
            os.unlink(f"{folder}/{name}")  # noqa: PTH108
        os.rmdir(folder)  # noqa: PTH106


def _words(said: str, lines: Sequence[str]) -> str:
    """What the tool said, and about which command."""
    what = " ".join(line for line in said.splitlines() if not line.startswith("Command failed")) or "failed"
    number = said.rpartition("Command failed -:")[2].strip()
    about = f" ({lines[int(number) - 1]})" if number.isdigit() and int(number) <= len(lines) else ""
    return what + about
