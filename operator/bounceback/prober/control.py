"""A word to a prober that works, by exec in its container: `ping`, `end`.

A unix socket in the container's own /tmp, which is nobody else's. No port is opened anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

from bounceback.types.instants import Instant
from bounceback.types.prober import SOCKET

SECONDS: Final = 10.0
LONGEST: Final = 64 * 1024

Json = dict[str, Any]


def path() -> str:
    return f"{os.environ.get('TMPDIR', '/tmp')}/{SOCKET}"


def main() -> int:
    """What is asked stands on the standard input."""
    answer = ask(sys.stdin.buffer.read(LONGEST))
    print(json.dumps(answer))
    return 0 if answer.get("ok") else 1


def ask(question: bytes) -> Json:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.connect(path())
            connection.sendall(question.strip() + b"\n")
            with connection.makefile("rb") as answers:
                found: Json = json.loads(answers.readline(LONGEST) or b"{}")
        except (OSError, ValueError) as error:
            return {"ok": False, "error": f"the prober does not answer: {error}"}
    return found


async def listen(end: Callable[[], None]) -> asyncio.AbstractServer:
    """Answers until it is closed; `end` is called where that is asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = json.loads(await reader.readline())
            if question.get("end"):
                end()
            writer.write(json.dumps({"ok": True, "at": Instant.now().to_json()}).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, AttributeError):
            pass  # who asked is told nothing, and asks again
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, path(), limit=LONGEST)
