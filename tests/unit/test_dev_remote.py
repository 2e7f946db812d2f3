"""Commands on a node that is reached by network: they behave as if they ran here, and only the owner gets in."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import pki, remote

PROJECT = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1"
LISTENING_SECONDS = 20


@pytest.fixture
def port(unused_tcp_port: int) -> int:
    return unused_tcp_port


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    remote.make_keys(tmp_path, ADDRESS)
    return tmp_path


@pytest.fixture
def server(keys: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "dev.remote", "serve", str(keys), ADDRESS, str(port)]
    with subprocess.Popen(command, cwd=PROJECT) as running:
        deadline = time.monotonic() + LISTENING_SECONDS
        while socket.socket().connect_ex((ADDRESS, port)):
            assert time.monotonic() < deadline, "the server does not listen"
        yield
        running.kill()


def run(keys: Path, port: int, *argv: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    order = ["run", str(keys), ADDRESS, str(port), "/", '{"GREETING": "hello"}', *argv]
    return subprocess.run([sys.executable, "-m", "dev.remote", *order], input=given, capture_output=True, cwd=PROJECT)


@pytest.mark.usefixtures("server")
def test_input_output_and_exit_code_pass_through(keys: Path, port: int) -> None:
    done = run(keys, port, "sh", "-c", "cat; echo $GREETING from $PWD >&2; exit 7", given=b"x" * 200_000)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"x" * 200_000, b"hello from /\n")


@pytest.mark.usefixtures("server")
def test_a_program_that_is_not_there_is_named(keys: Path, port: int) -> None:
    done = run(keys, port, "no-such-program")
    assert (done.returncode, done.stderr) == (127, b"no-such-program: No such file or directory\n")


@pytest.mark.usefixtures("server")
async def test_a_stranger_is_turned_away(keys: Path, port: int, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    pki.make(stranger / "remote", {"owner": pki.Identity("/CN=owner")})
    tls = ssl.create_default_context(cafile=str(keys / "remote" / "ca.crt"))
    tls.load_cert_chain(stranger / "remote" / "owner.crt", stranger / "remote" / "owner.key")
    reader, writer = await asyncio.open_connection(ADDRESS, port, ssl=tls)
    order = {"argv": ["touch", str(tmp_path / "was-here")], "cwd": "/", "environment": {}}
    writer.write(json.dumps(order).encode() + b"\n")
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    assert not (tmp_path / "was-here").exists()
