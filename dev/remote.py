"""Running commands on a node that is reached by network only: a small server there, and its client here.

Both sides have certificates of an authority that signs nothing else, so nobody but the cluster's owner is let in.
On the wire: one JSON line that says what to run, then frames (kind, length, data) both ways until the exit code.
"""

import asyncio
import json
import os
import ssl
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dev import pki

PORT: Final = 10300
GUEST_CONTROL: Final = "/run/control"  # of the first process there
CHUNK_BYTES: Final = 1 << 16
STDIN, STDOUT, STDERR, EXIT = 0, 1, 2, 3
FRAME: Final = struct.Struct("!BI")


def make_keys(folder: Path, address: str) -> None:
    """Certificates for the server at `address` and for the owner, in `folder`/remote."""
    everyone = {"server": pki.Identity("/CN=server", (f"IP:{address}",)), "owner": pki.Identity("/CN=owner")}
    pki.make(folder / "remote", everyone)


def context(folder: Path, who: str, purpose: ssl.Purpose) -> ssl.SSLContext:
    """TLS as the server or as the owner; both must show a certificate."""
    made = ssl.create_default_context(purpose, cafile=str(folder / "remote" / "ca.crt"))
    made.load_cert_chain(folder / "remote" / f"{who}.crt", folder / "remote" / f"{who}.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def send(writer: asyncio.StreamWriter, kind: int, data: bytes) -> None:
    writer.write(FRAME.pack(kind, len(data)) + data)


async def receive(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame; raises IncompleteReadError when the other side is gone."""
    kind, length = FRAME.unpack(await reader.readexactly(FRAME.size))
    return kind, await reader.readexactly(length)


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Run what one connection asks for; the command is killed when the connection goes first."""
    order = json.loads(await reader.readline())
    try:
        child = await asyncio.create_subprocess_exec(
            *order["argv"],
            cwd=order["cwd"],
            env={**os.environ, **order["environment"]},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        send(writer, STDERR, f"{order['argv'][0]}: {error.strerror}\n".encode())
        send(writer, EXIT, struct.pack("!i", 127))
        writer.close()
        return
    assert child.stdin and child.stdout and child.stderr
    fed = asyncio.create_task(_feed(reader, child.stdin, child))
    await asyncio.gather(_forward(child.stdout, writer, STDOUT), _forward(child.stderr, writer, STDERR))
    code = await child.wait()
    fed.cancel()
    send(writer, EXIT, struct.pack("!i", code if code >= 0 else 128 - code))
    writer.close()


async def _feed(reader: asyncio.StreamReader, stdin: asyncio.StreamWriter, child: asyncio.subprocess.Process) -> None:
    """The client's input into the command, until an empty frame ends it."""
    try:
        while True:
            _, data = await receive(reader)
            if data:
                stdin.write(data)
                await stdin.drain()
            else:
                stdin.close()
    except asyncio.IncompleteReadError:
        if child.returncode is None:
            child.kill()
    except ConnectionError:
        pass  # the command does not read its input any more


async def _forward(output: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: int) -> None:
    while data := await output.read(CHUNK_BYTES):
        send(writer, kind, data)
        await writer.drain()


async def serve(folder: Path, address: str, port: int) -> None:
    """Until the end of the node."""
    tls = context(folder, "server", ssl.Purpose.CLIENT_AUTH)
    async with await asyncio.start_server(serve_one, address, port, ssl=tls) as server:
        await server.serve_forever()


async def run(folder: Path, address: str, port: int, cwd: str, environment: dict[str, str], argv: Sequence[str]) -> int:
    """Run a command over there, in the folder `cwd`, with this process's input and output; returns its exit code."""
    tls = context(folder, "owner", ssl.Purpose.SERVER_AUTH)
    reader, writer = await asyncio.open_connection(address, port, ssl=tls)
    order = {"argv": list(argv), "cwd": cwd, "environment": environment}
    writer.write(json.dumps(order).encode() + b"\n")
    loop = asyncio.get_running_loop()

    async def feed() -> None:
        while data := await loop.run_in_executor(None, os.read, 0, CHUNK_BYTES):
            send(writer, STDIN, data)
            await writer.drain()
        send(writer, STDIN, b"")

    fed = asyncio.create_task(feed())
    while True:
        kind, data = await receive(reader)
        if kind == EXIT:
            fed.cancel()
            return int(struct.unpack("!i", data)[0])
        os.write(1 if kind == STDOUT else 2, data)


def main() -> None:
    """serve FOLDER ADDRESS PORT, or run FOLDER ADDRESS PORT CWD ENVIRONMENT CMD...: how this module calls itself."""
    what, folder, address, port, *rest = sys.argv[1:]
    if what == "serve":
        asyncio.run(serve(Path(folder), address, int(port)))
    else:
        cwd, environment, *argv = rest
        code = asyncio.run(run(Path(folder), address, int(port), cwd, json.loads(environment), argv))
        os._exit(code)  # a thread may still wait for our own input


if __name__ == "__main__":
    main()
