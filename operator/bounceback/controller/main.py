"""The operator's process: lead, watch, run; and let go in good order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from bounceback.controller import metrics
from bounceback.controller.admitted import Admitted
from bounceback.controller.admitting import stand_for
from bounceback.controller.asking_nodes import Asking
from bounceback.controller.board import Board
from bounceback.controller.causes import Causes
from bounceback.controller.checks import Checks
from bounceback.controller.events import Recorder
from bounceback.controller.freeze import Freeze
from bounceback.controller.leader import Leadership, NotLeaderError
from bounceback.controller.lookouts import Lookouts
from bounceback.controller.office import Office
from bounceback.controller.orphans import clear_orphans
from bounceback.controller.results import Results
from bounceback.controller.serving import Pulse, served
from bounceback.controller.settings import Settings
from bounceback.controller.watching import watch
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.vehicles.admission import Webhooks
from bounceback.vehicles.agents import Agents
from bounceback.vehicles.capabilities import Nodes
from bounceback.vehicles.journal import Journal

log = logging.getLogger(__name__)


def main() -> int:
    """Runs until SIGTERM or SIGINT; 2 when the environment is wrong."""
    logging.basicConfig(level=os.environ.get("BOUNCEBACK_LOG", "INFO"), format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        log.error("%s", error)
        return 2
    asyncio.run(serve(settings))
    return 0


async def serve(settings: Settings) -> None:
    pulse = Pulse()
    async with (
        served(settings.metrics_port, pulse),
        Kube.connected(on_request=metrics.count_request) as kube,
        Kube.connected(on_request=metrics.count_request) as undelayed,  # the lease waits for no other request
        AsyncExitStack() as stack,
    ):
        stopping = asyncio.Event()
        _on_signals(stopping)
        admitted = Admitted()
        if settings.arming or settings.admission:
            from bounceback.controller.webhooks import webhooks  # brings what makes certificates

            await stack.enter_async_context(webhooks(settings, kube, pulse, admitted))
        keep_what_is_there()
        leadership = Leadership(undelayed, settings.namespace, settings.identity, lambda: pulse.beat("electing"))
        while not stopping.is_set():
            await _unless(stopping, _term(settings, kube, leadership, pulse, admitted))
        await leadership.release()


def keep_what_is_there() -> None:
    """Modules and models stay: looking through them for garbage again and again holds samples up by 50 to 100 ms."""
    gc.collect()
    gc.freeze()


async def _term(settings: Settings, kube: Kube, leadership: Leadership, pulse: Pulse, admitted: Admitted) -> None:
    """One term as leader, from the election to its loss."""
    await leadership.acquire()
    metrics.LEADING.set(1)
    freeze = Freeze(kube, settings.namespace, lambda: board.wake_all())
    office = Office(
        settings=settings,
        kube=kube,
        leadership=leadership,
        freeze=freeze,
        recorder=Recorder(kube, settings.identity),
        agents=Agents(kube, settings.namespace, settings.image, settings.pull_policy),
        nodes=Nodes(kube, settings.namespace, settings.image, settings.pull_policy),
        journal=Journal(kube, settings.namespace),
        results=Results(kube),
        admitted=admitted,
        webhooks=Webhooks(kube, settings.admission),
    )
    board, checks, causes = Board(office), Checks(kube), Causes()
    lookouts = Lookouts(office, causes)

    async def changed(kind: str | None, body: Json) -> None:
        if body["kind"] == "RecoveryCheck":
            await lookouts.changed(kind, body)
            await checks.changed(kind, body)
        else:
            causes.changed(kind, body)
            await board.changed(kind, body)

    def watching() -> None:
        pulse.beat("watching")

    watching()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leadership.keep())
            tasks.create_task(freeze.watch())
            tasks.create_task(office.pulse.run())
            await freeze.known.wait()  # nothing starts before it is known whether anything may
            tasks.create_task(clear_orphans(office))
            if settings.admission:
                tasks.create_task(stand_for(office))
            if settings.arming and settings.arming_asks_nodes:
                tasks.create_task(Asking(office).run())
            tasks.create_task(watch(kube, settings.watch_namespaces, changed, watching))
    except* NotLeaderError as lost:
        log.warning("not leading any more: %s", lost.exceptions[0])
    finally:
        metrics.LEADING.set(0)
        pulse.done("watching")
        await lookouts.end()
        await board.end()
        admitted.end_all()


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work until it ends or the process is to stop. Raises what the work raised."""
    task, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    for each in (task, stop):
        each.cancel()  # nothing where it has ended
    await asyncio.wait({task, stop})
    if not task.cancelled():
        task.result()


def _on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
