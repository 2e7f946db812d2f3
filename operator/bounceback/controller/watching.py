"""Kopf, kept alive: whatever ends it, it is begun again after a pause, and everything is looked at anew.

Kopf ends on a watch that answers 410 or an ERROR event, on a cut line, on a Retry-After that is a date, and on 403, 404
or 500 that last. None of these may end the operator: runs go on in tasks of their own while nobody watches. When it
ends, Kopf cancels every task of its loop that was not there before it, and ten minutes later it kills the process: so
it gets a thread and a loop of its own, and is told not to kill.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import aiohttp
import kopf

from bounceback.api import GROUP, VERSION
from bounceback.controller import metrics
from bounceback.controller.apart import Apart, calls_in, tells
from bounceback.controller.pacing import Pace, paced_session
from bounceback.controller.resources import glimpse
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS, EXPERIMENTS

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 8.0
GOOD_LIFE: Final = 60.0
"""Seconds that Kopf must live for the next pause to be a short one again."""
WATCH_SECONDS: Final = 20
"""A watch is asked for so long, so that one that lasts longer is known to be dead."""
SILENCE: Final = 30.0
"""Seconds without an event after which a watch is begun again: longer than a watch is asked for."""
DEAF: Final = 90.0
"""Seconds without any watch granted after which Kopf itself is begun again."""
LAST_WORDS: Final = 7.0
"""Seconds that Kopf has to end once it has begun to: it gives its own tasks 5.

Its closing the session ends a watch, which then waits for a login that nobody makes any more, and swallows being
cancelled where the task that would pause it was cancelled before it (`kopf._cogs.clients.api.stream`).
"""

log = logging.getLogger(__name__)
for kopfs in ("running", "orchestration"):  # tell with two traces what ended Kopf; we tell it in one line
    logging.getLogger(f"kopf._core.reactor.{kopfs}").setLevel(logging.CRITICAL)
Changed = Callable[[str | None, Json], Coroutine[Any, Any, None]]
Tell = Callable[[str | None, Json], None]
Login = Callable[..., Coroutine[Any, Any, kopf.AiohttpSession]]


async def watch(kube: Kube, namespaces: tuple[str, ...], changed: Changed, seen: Callable[[], None]) -> None:
    """For ever; cancel to end. `seen` is told each sign that watching goes on, or why it need not."""
    pause, pace = 0.0, Pace()
    while True:
        await _until_served(kube, seen)
        began = time.monotonic()
        cause = await _one_life(kube, namespaces, changed, seen, pace)
        lived = time.monotonic() - began
        pause = FIRST_PAUSE if lived >= GOOD_LIFE else min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)
        metrics.WATCH_RESTARTS.labels("kopf").inc()
        log.warning("watching ended after %.0f s (%s); again in %.0f s", lived, cause, pause)
        await asyncio.sleep(pause)


async def _until_served(kube: Kube, seen: Callable[[], None]) -> None:
    """Kopf does not find out when our definitions are installed after it began: that would take more rights."""
    pause, told = FIRST_PAUSE, False
    while not await _is_served(kube, seen):
        if not told:
            log.warning("%s is not served yet; are the CRDs installed?", EXPERIMENTS.plural)
            told = True
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _is_served(kube: Kube, seen: Callable[[], None]) -> bool:
    """An answer that says no is a sign of life, no answer is none."""
    try:
        served = json.loads(await kube.raw("GET", f"/apis/{EXPERIMENTS.api_version}"))["resources"]
    except (KubeError, aiohttp.ClientError, TimeoutError, ValueError) as error:
        if not isinstance(error, KubeError) or error.status != 404:
            log.warning("what is served cannot be read: %s", error)
            return False
        served = []
    if any(entry["name"] == EXPERIMENTS.plural for entry in served):
        return True
    seen()
    return False


async def _one_life(
    kube: Kube, namespaces: tuple[str, ...], changed: Changed, seen: Callable[[], None], pace: Pace
) -> str:
    """One life of Kopf; why it ended."""
    here = asyncio.get_running_loop()
    granted = time.monotonic()

    def watching() -> None:
        nonlocal granted
        granted = time.monotonic()
        seen()

    credentials = calls_in(here, kube.credentials)
    sessions = partial(paced_session, kube, pace, credentials, watching)
    life = Apart(_live(sessions, kube.host, namespaces, tells(here, changed)), "kopf")
    try:
        while not await life.ended(granted + DEAF - time.monotonic()):
            if time.monotonic() - granted >= DEAF:
                return f"no watch was granted for {DEAF:.0f} s"
    finally:
        await life.end()
    cause = life.cause()
    return f"{type(cause).__name__}: {cause}" if cause else "it ended by itself"


async def _live(
    new_session: Callable[[], aiohttp.ClientSession], host: str, namespaces: tuple[str, ...], tell: Tell
) -> None:
    sessions: list[aiohttp.ClientSession] = []
    loop, life = asyncio.get_running_loop(), asyncio.current_task()
    assert life is not None

    async def login(**_: Any) -> kopf.AiohttpSession:
        sessions.append(new_session())
        return kopf.AiohttpSession(server=host, aiohttp_session=sessions[-1])

    def ends() -> None:
        loop.call_later(LAST_WORDS, life.cancel, "it would not end")

    try:
        await kopf.operator(
            registry=registry_for(tell, login, ends),
            settings=settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
    finally:
        for session in sessions:
            await session.close()


def registry_for(tell: Tell, login: Login, ends: Callable[[], None]) -> kopf.OperatorRegistry:
    """All of Kopf that we use: experiments and checks, as they come and go; `ends` is called when it begins to end.

    Kopf keeps an object for as long as its handler takes, and lists thousands at once: so it waits for nothing.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(login)

    @kopf.on.cleanup(registry=registry)
    async def cleaning_up(**_: Any) -> None:
        ends()

    @kopf.on.event(GROUP, VERSION, EXPERIMENTS.plural, registry=registry)
    async def experiment_changed(type: str | None, body: kopf.Body, **_: Any) -> None:
        """Whatever changed, look at the whole experiment again."""
        tell(type, glimpse(body))

    @kopf.on.event(GROUP, VERSION, CHECKS.plural, registry=registry)
    async def check_changed(type: str | None, body: kopf.Body, **_: Any) -> None:
        tell(type, dict(body))

    return registry


class NoEssences(kopf.DiffBaseStorage):
    """Kopf's own would copy every object at each event, to compare it with a state that we never have it store."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


def settings() -> kopf.OperatorSettings:
    """It writes nothing, gives up soon (we begin it again), and never waits long on a server that is silent."""
    chosen = kopf.OperatorSettings()
    chosen.process.ultimate_exiting_timeout = None
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.persistence.finalizer = f"{GROUP}/kopf"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{GROUP}")
    chosen.persistence.diffbase_storage = NoEssences()
    chosen.networking.connect_timeout = 5
    chosen.networking.request_timeout = SILENCE
    chosen.networking.error_backoffs = (1, 2, 4)
    chosen.watching.chunk_size = 100  # an experiment takes some 60 KB in here, and a page of them is read at once
    chosen.queueing.idle_timeout = 0.1  # for so long the last state of each object that changed is kept
    chosen.watching.server_timeout = WATCH_SECONDS
    chosen.watching.inactivity_timeout = SILENCE
    return chosen
