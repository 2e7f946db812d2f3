"""A child of the agent that does what takes long, or what must be done as somebody else: forked, not executed.

It costs no start and little memory. The kernel ends it with the agent (PR_SET_PDEATHSIG, prctl(2)), and with it goes
all that only it held. Until then it keeps the agent's connection to the guard open, which so undoes things after both
are gone. Both sides speak JSON, one object a line, over a pair of sockets.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from bounceback.drivers import KernelError, Refused

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
Json = dict[str, Any]


class Parent:
    """The child's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def fileno(self) -> int:
        return self._connection.fileno()

    def hear(self, seconds: float) -> list[Json]:
        """What was said meanwhile; waits that long for a word. Raises EOFError when the agent has let go."""
        if not select.select([self._connection], [], [], seconds)[0]:
            return []
        part = self._connection.recv(1 << 16)
        if not part:
            raise EOFError
        *whole, self._rest = (self._rest + part).split(b"\n")
        return [json.loads(line) for line in whole]

    def tell(self, **words: Any) -> None:
        self._connection.sendall(json.dumps(words).encode() + b"\n")


class Child:
    """The agent's end. `seen` is all that the child has said, the last word on each thing."""

    def __init__(self, work: Callable[[Parent], None], name: str) -> None:
        """Raises OSError when there can be no other process."""
        mine, its = socket.socketpair()
        agent = os.getpid()
        self.number = os.fork()
        if self.number == 0:
            mine.close()
            _work(work, its, agent, name)
        its.close()
        mine.setblocking(False)
        self._connection = mine
        self._rest = b""
        self._reaped = False
        self.ended = ""  # why it is not there any more
        self.seen: Json = {}

    def say(self, **words: Any) -> None:
        """An ended child is seen by `listen`."""
        with suppress(OSError):
            self._connection.sendall(json.dumps(words).encode() + b"\n")

    def listen(self, seconds: float = 0.0) -> Mapping[str, Any]:
        """`seen`, with what has come since. Raises KernelError when it is not there any more."""
        if seconds:
            select.select([self._connection], [], [], seconds)
        while not self.ended:
            try:
                part = self._connection.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                part = b""
            if not part:
                self.ended = self._reap()
            *whole, self._rest = (self._rest + part).split(b"\n")
            for line in whole:
                self.seen.update(json.loads(line))
        if self.ended:
            raise KernelError(self.seen.get("trouble") or self.ended)
        return self.seen

    def until(self, word: str, seconds: float) -> Any:
        """What it says of that. Raises KernelError where it ends or does not say it in time; Refused where it does."""
        end = time.monotonic() + seconds
        try:
            while word not in self.listen(max(0.001, end - time.monotonic())):
                if time.monotonic() >= end:
                    raise KernelError(f"a child of the agent did not answer within {seconds:.0f} s")
        except KernelError:
            if word in self.seen:  # said, and gone by now
                return self.seen[word]
            if "refused" in self.seen:
                reason, message = self.seen["refused"]
                raise Refused(reason, message) from None
            raise
        return self.seen[word]

    def end(self) -> None:
        """It is gone afterwards, and all that it held."""
        with suppress(KernelError):
            self.listen()
        if not self._reaped:
            with suppress(PermissionError):  # it became somebody else: such a one does one thing, and ends by itself
                os.kill(self.number, signal.SIGKILL)
            self._reap()
            self.ended = "the child is over"
        self._connection.close()

    def _reap(self) -> str:
        self._reaped = True
        _, status = os.waitpid(self.number, 0)
        if os.WIFSIGNALED(status):
            return f"the child that held it was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"the child that held it ended with {os.WEXITSTATUS(status)}"


def _work(work: Callable[[Parent], None], its: socket.socket, agent: int, name: str) -> None:
    """Never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # the agent's: it ends its children in its own time
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        if os.getppid() == agent:  # else it ended before the kernel was asked
            _told(work, Parent(its))
        code = 0
    finally:
        os._exit(code)


def _told(work: Callable[[Parent], None], parent: Parent) -> None:
    try:
        work(parent)
    except EOFError:
        return
    except Refused as refusal:
        parent.tell(refused=[refusal.reason, str(refusal)])
        raise
    except (KernelError, OSError, ValueError) as error:
        parent.tell(trouble=str(error))
        raise
