"""Experiments that have rules in this proxy: a connection each, from an agent; see `types.gate`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, cast

from bounceback.gate.observing import Observers, compact
from bounceback.proxy.api.gate import Ends, Gate
from bounceback.types import peer
from bounceback.types.api_rule import ApiRule, Crash, rule_from
from bounceback.types.gate import ADDRESS, LONGEST, VERSION

Json = dict[str, Any]
BACKLOG: Final = 64
NO_KILLER: Final = "rules that kill clients take somebody who can, and nobody is there for this injection"
KILL_SECONDS: Final = 5.0


class Sessions:
    """In the order in which they came: that is the one in which their rules are asked."""

    def __init__(self, gate: Gate, observers: Observers) -> None:
        self._gate = gate
        self.observers = observers
        self._all: list[Session] = []
        self.killers: dict[str, Session] = {}  # by injection

    def connection(self) -> Session:
        """For `loop.create_unix_server`."""
        return Session(self)

    def enter(self, session: Session) -> None:
        """An agent that begins what another one began is its successor, and that one is gone."""
        for other in [each for each in self._all if each.injection == session.injection]:
            other.end()
        self._all.append(session)
        self.follow()

    def left(self, session: Session) -> None:
        self._all.remove(session)
        self.follow()
        self._gate.forget(session.names)

    def follow(self) -> None:
        self._gate.follow(rule for session in self._all for rule in session.rules)

    async def kill(self, rule: str, ends: Ends) -> bool:
        """For `Gate`: whoever can is asked to. False: there was nothing to be killed, or nobody who can."""
        owner = next((each for each in self._all if rule in each.names), None)
        killer = self.killers.get(owner.injection) if owner is not None else None
        return killer is not None and await killer.kill(ends) > 0

    def seen(self, names: Iterable[str]) -> tuple[int, int]:
        """What rules of these names saw, and hit."""
        counts = self._gate.counts()
        found = [counts[name] for name in names if name in counts]
        return sum(count.seen for count in found), sum(count.hits for count in found)

    @property
    def injections(self) -> list[str]:
        """Those that have rules in force."""
        return [session.injection for session in self._all if session.rules]

    def end(self) -> None:
        """The pod ends: nobody has done anything wrong."""
        for session in tuple(self._all):
            session.bid_farewell()


class Session(asyncio.Protocol):
    """One agent's connection, and the rules that are in force with it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._rest = b""
        self._timer: asyncio.TimerHandle | None = None
        self._over = False  # by its own time
        self.injection = ""  # until it has begun
        self.rules: tuple[ApiRule, ...] = ()
        self.names: set[str] = set()  # of all rules that it ever had
        self._kills_for = ""  # the injection whose clients the other side kills
        self._asked: dict[int, asyncio.Future[int]] = {}  # to kill; how many were
        self._count = 0

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock: socket.socket = transport.get_extra_info("socket")
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.CREDENTIALS)
        if not peer.trusted(found, os.getuid()):
            self._say(_refused("only root, or this proxy's own user, may change its rules"))
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if (answer := self._answer(line)) is not None:
                self._say(answer)
        if len(self._rest) > LONGEST:
            self._say(_refused(f"a word must have at most {LONGEST} bytes"))
            self.end()

    def eof_received(self) -> None:
        """The rules go first; then the other side gets our end."""
        self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()

    def end(self) -> None:
        """Nothing of it is in force any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._kills_for and self._sessions.killers.get(self._kills_for) is self:
            del self._sessions.killers[self._kills_for]
        for waiting in self._asked.values():
            waiting.cancel()
        if self.injection:
            self._sessions.observers.remove(self._behavior)
            self._sessions.left(self)
            self.injection = ""
        self._transport.close()

    def bid_farewell(self) -> None:
        self._say({"ended": "Terminated"})
        self.end()

    async def kill(self, ends: Ends) -> int:
        """How many processes held that connection, and have ended."""
        self._count += 1
        number, (port, to_port) = self._count, ends
        done = self._asked[number] = asyncio.get_running_loop().create_future()
        self._say({"kill": number, "from": port, "to": to_port})
        try:
            return await asyncio.wait_for(done, KILL_SECONDS)
        except TimeoutError:
            return 0
        finally:
            del self._asked[number]

    # What it is told

    def _answer(self, line: bytes) -> Json | None:
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("must be a JSON object")
            if "killed" in message:
                self._killed(message)
                return None
            if "kills" in message:
                return self._stand_by(message)
            if "version" in message:
                return self._begin(message)
            if message.get("inForce"):
                return {"injections": self._sessions.injections}
            if not self.injection:
                raise ValueError("must begin with version, injection, rules and notAfter")
            if "rules" in message:
                return self._change(message["rules"])
            if message.get("hits"):
                return self._seen()
            raise ValueError("asks for none of rules, hits and inForce")
        except KeyError as error:
            return _refused(f"{error} is missing or unknown")
        except (ValueError, TypeError) as error:
            return _refused(str(error))

    def _stand_by(self, message: Json) -> Json:
        _check_version(message)
        self._kills_for = str(message["kills"])
        self._sessions.killers[self._kills_for] = self
        return {"ok": True}

    def _killed(self, message: Json) -> None:
        waiting = self._asked.get(message["killed"])
        if waiting is not None and not waiting.done():
            waiting.set_result(int(message["processes"]))

    def _begin(self, message: Json) -> Json:
        _check_version(message)
        if self.injection:
            raise ValueError("has begun already")
        injection, left = str(message["injection"]), float(message["notAfter"]) - time.time()
        if not injection or left <= 0:
            raise ValueError("must have a name, and be over later than now")
        self._take(injection, message["rules"])
        self.injection = injection
        self._behavior = self._sessions.observers.add()
        self._timer = asyncio.get_running_loop().call_later(left, self._be_over)
        self._sessions.enter(self)
        return {"ok": True, "rules": len(self.rules)}

    def _change(self, rules: list[Json]) -> Json:
        if self._over:
            raise ValueError("its time is over")
        self._take(self.injection, rules)
        self._sessions.follow()
        return {"ok": True, "rules": len(self.rules)}

    def _take(self, injection: str, rules: list[Json]) -> None:
        """All of them or none. Names are told from those of others; what is drawn is not to depend on that."""
        listed = [rule_from(each) for each in rules]
        if injection not in self._sessions.killers and any(isinstance(rule.act, Crash) for rule in listed):
            raise ValueError(NO_KILLER)
        ours = tuple(replace(rule, name=f"{injection}/{rule.name}", draws=rule.draws or rule.name) for rule in listed)
        if len({rule.name for rule in ours}) != len(ours):
            raise ValueError("each rule must have a name of its own")
        self.rules = ours
        self.names |= {rule.name for rule in ours}

    def _be_over(self) -> None:
        """Whoever should have ended it has not."""
        self._over, self.rules = True, ()
        self._sessions.follow()

    def _seen(self) -> Json:
        seen, hits = self._sessions.seen(self.names)
        behavior = compact(self._behavior.report(time.monotonic()))
        return {"hits": hits, "seen": seen, "behavior": behavior, "over": self._over}

    def _say(self, message: Json) -> None:
        self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")


def _check_version(message: Json) -> None:
    if message["version"] != VERSION:
        raise ValueError(f"version {message['version']!r}; this proxy understands {VERSION}")


def _refused(why: str) -> Json:
    return {"ok": False, "error": why}


def meeting_place() -> socket.socket:
    """Where agents come to. Raises OSError where another proxy of this pod has it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(ADDRESS)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
