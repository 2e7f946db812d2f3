"""What the shop's three programs share: answering HTTP with JSON."""

import errno
import json
import signal
import ssl
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8080


class Answers(BaseHTTPRequestHandler):
    """Connections stay open between requests, until they were idle for `timeout` seconds."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = -1  # head and body leave in one packet

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, data: dict[str, object]) -> None:
        self.reply(status, "application/json", json.dumps(data).encode())

    def reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: there are several requests a second."""


class Server(ThreadingHTTPServer):
    """A thread for each connection; peers may go without saying good-bye."""

    daemon_threads = True
    no_thread: Callable[[], None] = staticmethod(lambda: None)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno == errno.EMFILE:
                time.sleep(0.1)  # the client waits still: to ask again at once would use the processor up as well
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # "can't start new thread"
            self.no_thread()
            raise

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError | RuntimeError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve(handler: type[Answers], no_thread: Callable[[], None] = lambda: None) -> None:
    """Until SIGTERM; `no_thread` is called when one cannot be started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = Server(("", PORT), handler)
    server.no_thread = no_thread
    server.serve_forever()
