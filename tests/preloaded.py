"""Our command line by a process that has loaded it: it forks for each command, which then has it loaded, too.

Loading is most of what a command takes of a processor, and the tests start some five hundred. What is forked is
a process as any other: a session, streams, a working folder and an environment of its own, and it ends as Python ends.
Tests of starting, and of signals, start it themselves.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, TypedDict

from bounceback.drivers.netns import CLONE_NEWNET, setns

LATE: Final = (
    "bounceback.cli.foresight",
    "bounceback.cli.outlook",
    "bounceback.controller.main",
    "bounceback.engine.invariants",
    "bounceback.report.kept",
    "bounceback.report.markdown",
    "bounceback.vehicles.access",
    "bounceback.vehicles.cluster_access",
    "bounceback.vehicles.node_access",
    "kubernetes.aio.client",
    "kubernetes.aio.config",
)
"""What commands load when they come to it. Not the library for object storage, which has threads."""
LONGEST_REQUEST: Final = 1 << 20  # bytes; the environment goes along


class Request(TypedDict):
    """What is asked of the process, as JSON; with it come the streams for output, errors, and how it ends."""

    words: list[str]
    environment: dict[str, str]
    cwd: str
    network: str | None


class Forked:
    """A command that was started, to be asked as subprocess.Popen is."""

    def __init__(self, told: int) -> None:
        self._told = os.fdopen(told)
        self._code: int | None = None
        self.pid = int(self._told.readline())

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        if self._code is None and select.select([self._told], [], [], 0)[0]:
            return self.wait()
        return self._code

    def wait(self) -> int:
        """The same, once there is one."""
        if self._code is None:
            with self._told:
                self._code = int(self._told.readline())
        return self._code


class Preloaded:
    """The process, started with the first command; it ends with this one, whose socket it reads."""

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        self._starting = threading.Lock()
        self._requests: socket.socket | None = None

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """`bounceback` with these words, to its end; it is killed where waiting for it is given up."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            command = self.start(words, environment, out.fileno(), err.fileno())
            try:
                code = command.wait()
            except BaseException:
                command.send_signal(signal.SIGKILL)
                raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(words), code, out.read().decode(), err.read().decode())

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], out: int, err: int, network: str | None = None
    ) -> Forked:
        """`bounceback` with these words, writing to these descriptors, in the network namespace that a file names."""
        wanted = Request(words=list(words), environment=dict(environment), cwd=str(self._cwd), network=network)
        told, tell = os.pipe()
        try:
            socket.send_fds(self._server(environment), [json.dumps(wanted).encode()], [out, err, tell])
        finally:
            os.close(tell)
        return Forked(told)

    def _server(self, environment: Mapping[str, str]) -> socket.socket:
        with self._starting:
            if self._requests is None:
                self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST_REQUEST)
                with theirs:
                    subprocess.Popen(
                        [sys.executable, "-m", __name__, str(theirs.fileno())],
                        cwd=self._cwd,
                        env=dict(environment),
                        stdin=subprocess.DEVNULL,
                        pass_fds=(theirs.fileno(),),
                        start_new_session=True,
                    )
            return self._requests


def serve(requests: socket.socket) -> None:
    """Until nobody is left who could ask; what was forked leaves by sys.exit."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel takes who has told all
    while True:
        request, streams, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _tell_of(json.loads(request), *streams)
        for stream in streams:
            os.close(stream)


def _tell_of(request: Request, out: int, err: int, tell: int) -> None:
    """In a process between: start the command, and tell its number and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (child := os.fork()) == 0:
        os.close(tell)
        _command(request, out, err)
    os.setpgid(0, 0)
    os.write(tell, f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(tell, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _command(request: Request, out: int, err: int) -> None:
    os.setsid()  # which the kernel gives as much of a processor as all that the tests start
    for stream, number in ((out, 1), (err, 2)):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    if request["network"]:
        setns(os.open(request["network"], os.O_RDONLY | os.O_CLOEXEC), CLONE_NEWNET)
    sys.argv[1:] = request["words"]
    sys.exit(import_module("bounceback.cli.main").main())


def load() -> None:
    for command in import_module("bounceback.cli.main").COMMANDS:
        import_module(f"bounceback.cli.{command}")
    for name in LATE:
        import_module(name)
    gc.collect()
    gc.freeze()  # or a command's first collection would copy all of it


if __name__ == "__main__":
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
