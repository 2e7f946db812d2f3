"""Clients of the API proxy that are killed when it says so, by the agent on their node: the proxy cannot reach them.

The proxy names a connection, and waits: the answer that the client must not hear is held back until the word comes that
the process which holds that connection has ended. So it is done by a thread, at once, whatever the agent is at.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from bounceback.drivers import KernelError, Refused, Site
from bounceback.drivers.processes import Process, chosen, is_connected, of_pod
from bounceback.types.gate import ADDRESS, VERSION
from bounceback.types.inside import Who
from bounceback.types.plan import Order

ANSWER_SECONDS: Final = 5.0
END_SECONDS: Final = 3.0
"""In which a killed process must have ended; one in an uninterruptible sleep may not."""
LOOK_SECONDS: Final = 0.002
Json = dict[str, Any]


class Killer:
    """Raises Refused where the pod's processes are not to be seen, no proxy is there, or it does not want one."""

    def __init__(self, order: Order, site: Site) -> None:
        if not of_pod(order.pod_uid, site.proc):
            raise Refused("NoProcess", "no process of the pod is seen from here: clients are killed from their node")
        with site.netns.entered():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._pod, self._proc = order.pod_uid, site.proc
        self._killed: Counter[str] = Counter()
        self._problem = ""
        try:
            self._words = self._begin(order.injection)
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="killer", daemon=True)
        self._thread.start()

    @property
    def seen(self) -> list[str]:
        return [f"{count} SIGKILL to {who}" for who, count in self._killed.most_common()]

    def look(self) -> None:
        """Raises KernelError where one should have been killed, and was not."""
        if self._problem:
            raise KernelError(self._problem)

    def close(self) -> None:
        """Nobody is killed afterwards."""
        with suppress(OSError):  # the proxy has gone
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(END_SECONDS + 1)
        self._words.close()
        self._socket.close()

    def _begin(self, injection: str) -> Any:
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.connect(ADDRESS)
            words = self._socket.makefile("rw", encoding="utf-8")
            self._say(words, {"version": VERSION, "kills": injection})
            answer = json.loads(words.readline() or "{}")
        except (OSError, ValueError) as error:
            raise Refused("NotArmed", f"this pod's API proxy does not answer: {error}") from error
        if not answer.get("ok"):
            words.close()
            raise Refused("RulesRefused", f"this pod's API proxy: {answer.get('error', 'said nothing')}")
        self._socket.settimeout(None)
        return words

    def _serve(self) -> None:
        try:
            for line in self._words:
                asked = json.loads(line)
                self._say(self._words, {"killed": asked["kill"], "processes": self._kill(asked["from"], asked["to"])})
        except (OSError, ValueError, KeyError):
            return  # the connection is over, and its rules with it

    def _say(self, words: Any, message: Json) -> None:
        words.write(json.dumps(message, separators=(",", ":")) + "\n")
        words.flush()

    def _kill(self, port: int, to_port: int) -> int:
        """How many processes held that connection, and have ended."""
        try:
            clients = chosen(of_pod(self._pod, self._proc), Who())
            found = [each for each in clients if is_connected(each, port, to_port)]
            ended = [each for each in found if each.send(signal.SIGKILL) and _has_ended(each)]
        except OSError as error:
            self._problem = f"a client could not be killed: {error}"
            return 0
        self._killed.update(f"{each.name} in container {each.container}" for each in ended)
        if len(ended) < len(found):
            self._problem = f"a client has not ended {END_SECONDS:.0f} s after SIGKILL"
        return len(ended)


def _has_ended(process: Process) -> bool:
    deadline = time.monotonic() + END_SECONDS
    while process.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
