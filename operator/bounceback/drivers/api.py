"""Rules for what the pod's containers ask the Kubernetes API: handed to the proxy that an armed pod has.

The proxy (bounceback.gate) is a container of the pod; it is found in the pod's network namespace, and no port is opened
for it (types/gate.py). Its rules are in force as long as our connection is, so the kernel takes them away with this
process, and nothing needs to be undone by others.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from bounceback.drivers import FIRST_LOOK_SECONDS, KernelError, Refused, Site, TargetGone
from bounceback.types.gate import ADDRESS, LONGEST, VERSION
from bounceback.types.plan import Act, ApiRules, Flow, Order

if TYPE_CHECKING:
    from bounceback.drivers.killing import Killer

START_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.05
"""How long counting waits; an answer that takes longer is taken up the next time."""
SILENT_SECONDS: Final = 10.0
"""After which a proxy that does not answer is not believed to do anything else."""
NOT_ARMED: Final = (
    "no API proxy answers in this pod: it was not armed when it was created (label bounceback.dev/arm), or its proxy "
    "is being restarted"
)
ENDED: Final = "the API proxy of this pod ended and took its rules along: look why its container was restarted"
Json = dict[str, Any]


def apply(order: Order, site: Site) -> RulesInForce:
    """See `drivers.Driver`. Refused: NotArmed, RulesRefused."""
    assert isinstance(order.act, ApiRules)
    line = Line(site)
    killer = None
    try:
        if order.act.kills:
            killer = _killer(order, site)
        line.begin(order, order.act)
    except BaseException:
        line.close()
        if killer is not None:
            killer.close()
        raise
    return RulesInForce(line, killer)


def _killer(order: Order, site: Site) -> Killer:
    from bounceback.drivers.killing import Killer  # few need it, and the agent is billed to its target

    return Killer(order, site)


def undo(order: Order, site: Site) -> None:
    """The rules went with the connection of who made them."""


def left(order: Order, site: Site) -> list[str]:
    """Whether the proxy still follows rules of this order. Raises KernelError."""
    try:
        line = Line(site)
    except Refused:
        return []  # where there is no proxy, there are no rules
    try:
        return [f"API rules of {order.injection}"] if order.injection in line.injections() else []
    finally:
        line.close()


class Line:
    """A connection to the proxy. What was said first is answered first."""

    def __init__(self, site: Site) -> None:
        with site.netns.entered():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_SECONDS)
        self._rest = b""
        self._asked: deque[str] = deque()  # what is not answered yet
        self._asked_at = 0.0
        self._gone = self._in_peace = False
        self._answer: Json = {}  # the last one, but for counts
        self.seen: Json = {}  # the last counts
        try:
            self._socket.connect(ADDRESS)
        except ConnectionRefusedError as error:
            self._socket.close()
            raise Refused("NotArmed", NOT_ARMED) from error

    def begin(self, order: Order, act: ApiRules) -> None:
        """Raises Refused, KernelError."""
        word = {"version": VERSION, "injection": order.injection, "notAfter": order.not_after}
        answer = self._ask("rules", {**word, "rules": json.loads(act.rules)}, START_SECONDS)
        if not answer.get("ok"):
            raise Refused("RulesRefused", f"this pod's API proxy: {answer.get('error')}")

    def follow(self, act: ApiRules | None) -> None:
        """These rules from now on, or none. Raises KernelError."""
        answer = self._ask("rules", {"rules": json.loads(act.rules) if act else []}, ANSWER_SECONDS)
        if not answer.get("ok"):
            raise KernelError(f"this pod's API proxy: {answer.get('error')}")

    def injections(self) -> list[str]:
        """Those that have rules in the proxy. Raises KernelError."""
        found: list[str] = self._ask("inForce", {"inForce": True}, ANSWER_SECONDS).get("injections", [])
        return found

    def count(self, seconds: float) -> None:
        """Ask for counts, and wait so long for them. Raises KernelError."""
        if "hits" not in self._asked:
            self._say("hits", {"hits": True})
        self._listen(seconds)
        if self._asked and time.monotonic() > self._asked_at + SILENT_SECONDS:
            raise KernelError(f"the API proxy of this pod has not answered for {SILENT_SECONDS:.0f} s")

    def end(self) -> None:
        """The rules are gone afterwards. Raises KernelError where the proxy does not say so."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._listen(ANSWER_SECONDS, until_end=True)
        except (OSError, KernelError):
            self._gone = True  # and its rules with it
        finally:
            self.close()
        if not self._gone:
            raise KernelError(f"the API proxy of this pod has not let go of its rules for {ANSWER_SECONDS:.0f} s")

    def close(self) -> None:
        self._socket.close()

    def _ask(self, what: str, word: Json, seconds: float) -> Json:
        self._answer = {}
        self._say(what, word)
        self._listen(seconds)
        if self._asked:
            raise KernelError(f"the API proxy of this pod did not answer within {seconds:.0f} s")
        return self._answer

    def _say(self, what: str, word: Json) -> None:
        if not self._asked:
            self._asked_at = time.monotonic()
        self._asked.append(what)
        try:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.sendall(json.dumps(word, separators=(",", ":")).encode() + b"\n")
        except ConnectionError:
            return  # what it said before it went is read first
        except TimeoutError as error:
            raise KernelError("the API proxy of this pod does not listen") from error

    def _listen(self, seconds: float, *, until_end: bool = False) -> None:
        """Until all is answered, or so long. Raises KernelError at the connection's end, unless that is waited for."""
        deadline = time.monotonic() + seconds
        while (self._asked or until_end) and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                part = self._socket.recv(1 << 16)
            except TimeoutError:
                return
            except ConnectionError:
                part = b""
            if not part or len(self._rest) > LONGEST:
                self._gone = True
                if until_end:
                    return
                raise TargetGone("the pod ends") if self._in_peace else KernelError(ENDED)
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, message: Json) -> None:
        if "ended" in message:  # nobody asked: its container was told to end
            self._in_peace = True
            return
        self._asked_at = time.monotonic()
        if self._asked and self._asked.popleft() == "hits":
            self.seen = message
        else:
            self._answer = message


class RulesInForce:
    """Rules that the pod's proxy follows; see `drivers.InForce`."""

    first_look_seconds = FIRST_LOOK_SECONDS
    drain_seconds = 0.0
    over_when_lifted = True  # requests that were held are reset with it

    def __init__(self, line: Line, killer: Killer | None = None) -> None:
        self.detail = {"with": "API proxy"}
        self.farewell: Json = {}
        self._line = line
        self._killer = killer

    def hits(self) -> int:
        """Requests and events of watches."""
        self._line.count(LOOK_SECONDS)
        if self._killer is not None:
            self._killer.look()
        return int(self._line.seen.get("hits", 0))

    def held(self) -> int:
        return 0

    def amend(self, flows: tuple[Flow, ...]) -> None:
        """The API server is the only peer."""

    def change(self, act: Act | None) -> None:
        assert act is None or isinstance(act, ApiRules)
        self._line.follow(act)

    def lift(self) -> None:
        """What was hit until then is counted, and how the clients took it is known."""
        self._line.follow(None)
        self._line.count(ANSWER_SECONDS)

    def revert(self) -> None:
        self._line.end()
        if self._killer is not None:
            self._killer.close()
            self.farewell = {"seen": self._killer.seen}
        if behavior := self._line.seen.get("behavior"):
            self.farewell |= {"behavior": behavior}
