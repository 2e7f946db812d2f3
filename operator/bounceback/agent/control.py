"""`agent control`: a word to a running agent, by exec in its container: `ping`, `stop`, `amend`, `begin`.

A unix socket in the container's own /tmp; the container's file system is nobody else's, and the other side must be
root or of the agent's user. No port is opened anywhere.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any, Final

from bounceback.agent.link import trusted
from bounceback.types.instants import Instant

REQUEST_SECONDS: Final = 2.0  # the whole request is there when the connection is
ANSWER_SECONDS: Final = 30.0
_LONGEST: Final = 4 << 20


def path(agent: str) -> str:
    return f"{os.environ.get('TMPDIR', '/tmp')}/{agent}.sock"


class Listener:
    """The agent's end."""

    def __init__(self, agent: str) -> None:
        self._path = path(agent)
        _forget(self._path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self._path)
        os.chmod(self._path, 0o600)  # noqa: PTH101 - pathlib is not needed here
        self._socket.listen(8)

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> tuple[socket.socket, dict[str, Any]] | None:
        """None for one who may not ask, or did not ask in time."""
        connection, _ = self._socket.accept()
        connection.settimeout(REQUEST_SECONDS)
        try:
            if trusted(connection):
                message = json.loads(_all(connection))
                if isinstance(message, dict):
                    return connection, message
        except (OSError, ValueError) as error:
            self.answer(connection, {"ok": False, "error": f"not a request: {error}"})
            return None
        connection.close()
        return None

    def answer(self, connection: socket.socket, message: dict[str, Any]) -> None:
        try:
            connection.sendall(json.dumps(message).encode())
        except OSError:
            pass  # who asked is gone; the evidence has it all the same
        finally:
            connection.close()

    def close(self) -> None:
        self._socket.close()
        _forget(self._path)


def ask(agent: str, request: bytes) -> dict[str, Any]:
    """What the agent answers; `ok` false when there is none to ask."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(path(agent))
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = json.loads(_all(connection) or b"{}")
        except (FileNotFoundError, ConnectionRefusedError):
            return {"ok": False, "at": Instant.now().to_json(), "error": "no agent runs here any more"}
        except (OSError, ValueError) as error:
            return {"ok": False, "at": Instant.now().to_json(), "error": f"the agent did not answer: {error}"}
    return {"ok": False, "error": "the agent ended without an answer", **answer}


def main(agent: str) -> int:
    answer = ask(agent, sys.stdin.buffer.read(_LONGEST))
    if answer["ok"]:
        answer.pop("error", None)
    print(json.dumps(answer))
    return 0 if answer["ok"] else 1


def _all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def _forget(name: str) -> None:
    try:
        os.unlink(name)  # noqa: PTH108 - pathlib is not needed here
    except FileNotFoundError:
        return
