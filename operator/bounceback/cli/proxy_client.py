"""The client that `bounceback proxy -- COMMAND` runs: begun, killed by faults and begun again, ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from bounceback.cli.exits import CommandError

PATIENCE: Final = 10.0
"""Seconds that it has to end after SIGTERM."""
AGAIN: Final = 0.5
"""Seconds until it is begun again after a fault killed it: a container's first restart takes about as long."""


class ProxyClient:
    """In a process group of its own, so that what it began ends with it."""

    def __init__(self, command: Sequence[str], kubeconfig: Path) -> None:
        self._command = list(command)
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig.resolve())}
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False
        self.killed = 0
        """By faults."""
        self.code: int | None = None
        """How it ended by itself; None: it was ended."""

    async def live(self) -> None:
        """Until it ends by itself. Raises CommandError when it cannot be begun."""
        while not self._ending:
            await self._begin()
            assert self._process is not None
            killed = self.killed
            code = await self._process.wait()
            if self.killed == killed:
                self.code = code if not self._ending else None
                return
            await asyncio.sleep(AGAIN)

    def kill(self) -> None:
        """As a fault asks for it: SIGKILL, now."""
        self.killed += 1
        self._send(signal.SIGKILL)

    async def end(self) -> None:
        """SIGTERM, and SIGKILL for who does not listen."""
        self._ending = True
        if self._process is None or self._process.returncode is not None:
            return
        self._send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        except TimeoutError:
            self._send(signal.SIGKILL)
            await self._process.wait()

    async def _begin(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, start_new_session=True
            )
        except OSError as error:
            raise CommandError(f"-- {self._command[0]}: cannot be run: {error.strerror}") from error

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
