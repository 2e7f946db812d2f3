"""Requests to the first process of a cluster, over the Unix socket in the cluster's folder."""

import json
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dev.progress import DevError

TIMEOUT_SECONDS: Final = 30.0


def connect(path: Path) -> socket.socket | None:
    """A connection to the first process; None where it is gone. Works for paths of any length."""
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT_SECONDS)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    finally:
        os.close(folder)
    return connection


def first_process(path: Path) -> int | None:
    """The process id, as seen from here, of the cluster's first process; None where it is gone.

    The kernel tells it, so it is never the id of somebody else who got the number later.
    """
    connection = connect(path)
    if connection is None:
        return None
    with connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def request(path: Path, message: Mapping[str, object]) -> dict[str, Any]:
    """Ask for something and return the answer; raises DevError where the cluster does not run or refuses."""
    connection = connect(path)
    if connection is None:
        raise DevError("The cluster does not run; bring it up with: python -m dev up")
    with connection, connection.makefile("rwb") as lines:
        lines.write(json.dumps(message).encode() + b"\n")
        lines.flush()
        line = lines.readline()
    if not line:
        raise DevError("The cluster ended while it was asked.")
    answer: dict[str, Any] = json.loads(line)
    if error := answer.get("error"):
        raise DevError(str(error))
    return answer


if __name__ == "__main__":  # on a node that is reached by commands only: control.py SOCKET REQUEST
    print(json.dumps(request(Path(sys.argv[1]), json.loads(sys.argv[2]))))
