"""The client that `bounceback proxy -- COMMAND` runs: begun, killed by faults and begun again, ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from bounceback.cli.exits import CommandError
from bounceback.proxy.parent import die_with_parent

PATIENCE: Final = 10.0
"""Seconds that it has to end after SIGTERM."""
LOOK_SECONDS: Final = 0.02
AGAIN: Final = 0.5
"""Seconds until it is begun again after a fault killed it: a container's first restart takes about as long."""


class ProxyClient:
    """In a process group of its own, so that what it began ends with it."""

    def __init__(self, command: Sequence[str], kubeconfig: Path) -> None:
        self._command = list(command)
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig.resolve())}
        self._process: asyncio.subprocess.Process | None = None
        self._killed: asyncio.subprocess.Process | None = None  # the last one that a fault ended
        self._ending = False
        self.code: int | None = None
        """How it ended by itself; None: it was ended."""

    async def live(self) -> None:
        """Until it ends by itself, or is made to. Raises CommandError when it cannot be begun."""
        while not self._ending:
            process = self._process = await self._begun()
            if not self._ending:
                code = await process.wait()
                if self._killed is process:
                    await asyncio.sleep(AGAIN)
                    continue
                self.code = None if self._ending else code
            await self._clear()

    def kill(self) -> bool:
        """As a fault asks for it: SIGKILL, now; whether it ran."""
        if self._process is None or self._process.returncode is not None:
            return False
        self._killed = self._process
        return self._send(signal.SIGKILL)

    async def end(self) -> None:
        """SIGTERM, and SIGKILL for who does not listen."""
        self._ending = True
        await self._clear()

    def hurry(self) -> None:
        """Nobody waits any longer for it to end."""
        self._ending = True
        if self._process is not None:
            self._send(signal.SIGKILL)

    async def _clear(self) -> None:
        """All that it began, too."""
        self._ending = True
        if self._process is None:
            return
        self._send(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._send(0):  # noqa: ASYNC110 - nobody tells when a group is empty
                    await asyncio.sleep(LOOK_SECONDS)
        self._send(signal.SIGKILL)
        await self._process.wait()

    async def _begun(self) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGTERM),  # whoever kills us leaves us no way to end it
            )
        except OSError as error:
            raise CommandError(f"-- {self._command[0]}: cannot be run: {error.strerror}") from error

    def _send(self, number: int) -> bool:
        """To all of its group, who outlived it included; whether there was somebody. 0: only look."""
        assert self._process is not None
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # it took another user's rights
            return True
        return True
