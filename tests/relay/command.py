"""`bounceback proxy` as its users run it, and a server behind it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.relay.conftest import PATIENCE

Json = dict[str, Any]
Found = TypeVar("Found")


class Server:
    """Echoes on TCP, each connection in a thread."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                threading.Thread(target=self._echo, args=(sock,), daemon=True).start()

    def _echo(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    def close(self) -> None:
        self._sock.close()


class Proxy:
    """The command, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def said(self, text: str) -> str:
        """Waits for a line that has it."""
        return until(lambda: next((line for line in self.lines if text in line), ""), f"{text!r} in {self.lines}")

    def port(self, name: str) -> int:
        return int(self.said(f"{name}: ").partition(" -> ")[0].rpartition(":")[2])

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """What it printed last."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=PATIENCE) if self.process.stderr is None else self._drained()
        return out

    def _drained(self) -> tuple[str, str]:
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.wait(PATIENCE)
        self._reading.join(PATIENCE)
        return out, ""

    def client(self, name: str = "db") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port(name)), timeout=PATIENCE)


def until(found: Callable[[], Found], what: str) -> Found:
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < end, what
        time.sleep(0.01)
    return value


@contextmanager
def proxy(*words: str, **variables: str) -> Iterator[Proxy]:
    line = [sys.executable, "-m", "bounceback", "proxy", *words]
    folder = str(Path(__file__).parents[2] / "operator")
    with subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": folder, **variables},
    ) as process:
        try:
            yield Proxy(process)
        finally:
            process.kill()


def round_trip(sock: socket.socket) -> float:
    began = time.monotonic()
    sock.sendall(b"ping")
    assert sock.recv(100) == b"ping"
    return time.monotonic() - began


def delay(milliseconds: int, **fields: Any) -> Json:
    return {"networkDelay": {"delayMilliseconds": milliseconds}, **fields}


def write(path: Path, *faults: Json) -> None:
    path.write_text(yaml.safe_dump({"faults": list(faults)}), encoding="utf-8")


class Api:
    def __init__(self, running: Proxy) -> None:
        self.port = int(running.said("control API").rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Json]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        text = body if isinstance(body, str) else json.dumps(body) if body is not None else None
        connection.request(method, path, text, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        return answer.status, json.loads(found) if found else {}


def fields(answer: Json) -> list[str]:
    return [problem["field"] for problem in answer["problems"]]


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False
