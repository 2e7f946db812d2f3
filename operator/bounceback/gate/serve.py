"""The life of an armed pod's proxy: it passes everything through, until an agent brings rules."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
import sys
from typing import Final

import uvloop

from bounceback.gate.certifying import Certified, certified
from bounceback.gate.observing import Observers
from bounceback.gate.places import MOVED, Places
from bounceback.gate.sessions import Sessions, meeting_place
from bounceback.gate.trust import ClusterAuthority, link, show
from bounceback.proxy.api.contexts import RENEWED_SECONDS, listening, towards
from bounceback.proxy.api.gate import Ends, Gate, Upstream
from bounceback.proxy.listening import BACKLOG, bound
from bounceback.proxy.shown import load

HERE: Final = "127.0.0.1"
LOOK_SECONDS: Final = 10.0
"""How often it is looked whether the cluster has another authority."""
RETRY_SECONDS: Final = 600.0
"""After which a certificate is made that could not be made: the one before lasts for hours yet."""
DRAIN_SECONDS: Final = 5.0
"""For who still asks when it is told to end: it is the last container of its pod that is."""

log = logging.getLogger(__name__)


def serve() -> int:
    """Until SIGTERM. 1: it could not begin, and said why."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    try:
        uvloop.run(live(Places.of(os.environ)))
    except (OSError, ValueError, ssl.SSLError) as error:
        print(f"bounceback: {error}", file=sys.stderr)
        return 1
    return 0


async def live(places: Places) -> None:
    """Raises OSError, ssl.SSLError or ValueError where it cannot begin."""
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    proxy = PodProxy(places, await certified())
    await proxy.listen()
    gc.collect()
    gc.freeze()  # what is there now stays: it need not be looked through again and again
    keeping = [loop.create_task(proxy.follow_authority()), loop.create_task(proxy.renew())]
    await end.wait()
    for task in keeping:
        task.cancel()
    await proxy.drain()


class PodProxy:
    """The listeners of one pod, and what stands behind them."""

    def __init__(self, places: Places, own: Certified) -> None:
        self._places = places
        self._authority = ClusterAuthority(places.authority)
        self._own = own.authority
        self.context = listening()
        load(self.context, own.certificate, own.key)
        found = self._authority.changed()
        assert found is not None
        observers = Observers()
        self._gate = Gate(self._upstream(found), self._kill, observers)
        self._sessions = Sessions(self._gate, observers)
        show(places.trusted, self._own, found)
        for name in places.links:
            link(places.shown / name, MOVED / name)

    async def listen(self) -> None:
        """For clients first, for agents last: who can reach that finds all of it there. Raises OSError."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._gate.connection,
                sock=bound(HERE, self._places.listen),
                ssl=self.context,
                backlog=BACKLOG,
            )
            self._meeting = await loop.create_unix_server(self._sessions.connection, sock=meeting_place())
        except OSError as error:
            raise OSError(f"cannot listen for the pod's clients, or for agents: {error}") from error

    async def _kill(self, rule: str, ends: Ends) -> bool:
        return await self._sessions.kill(rule, ends)

    async def follow_authority(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.look()
            except (OSError, ValueError) as error:
                log.warning("the cluster's authority in %s: %s; the one before stays", self._places.authority, error)

    def look(self) -> None:
        """Raises OSError, ValueError (ssl.SSLError is an OSError)."""
        if (found := self._authority.changed()) is not None:
            self._gate.go_to(self._upstream(found))
            show(self._places.trusted, self._own, found)

    async def renew(self) -> None:
        pause = RENEWED_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                new = await certified()
                load(self.context, new.certificate, new.key)
                pause = RENEWED_SECONDS
            except (OSError, ValueError) as error:
                log.warning("no new certificate for the pod's clients: %s; it is tried again", error)
                pause = RETRY_SECONDS

    async def drain(self) -> None:
        """Rules go at once; who is being answered is waited for a moment."""
        self._meeting.close()
        self._sessions.end()
        self._server.close()
        await self._gate.drain(DRAIN_SECONDS)

    def _upstream(self, authority: bytes) -> Upstream:
        return Upstream(self._places.host, self._places.port, towards(authority))
