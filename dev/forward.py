"""A relay from outside of the cluster to its API server, over a listening socket that was made outside."""

import asyncio
import contextlib
import socket
import sys
from typing import Final

from dev.init import PASSED_SOCKET

CHUNK_BYTES: Final = 1 << 16


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one side to the other, the end of it included."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def relay(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until both sides have ended it or one breaks."""
    with contextlib.closing(writer):
        try:
            behind, towards = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(towards):
                async with asyncio.TaskGroup() as both:
                    both.create_task(copy(reader, towards))
                    both.create_task(copy(behind, writer))
        except* ConnectionError:
            pass  # the API server is down, or one side broke the connection: both are closed


async def main(port: int) -> None:
    listener = socket.socket(fileno=PASSED_SOCKET)
    async with await asyncio.start_server(lambda r, w: relay(port, r, w), sock=listener) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
