"""A prober that looks: samples probes from where it is, and tells each sample in its log, by its own clock."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any, Final, cast

from bounceback.api.probes import Probe
from bounceback.engine.samples import History, Sample
from bounceback.kube.client import Kube
from bounceback.prober.control import listen
from bounceback.prober.lines import Lines
from bounceback.recovery.asking import look_of
from bounceback.recovery.judging import nothing_said
from bounceback.recovery.means import Means
from bounceback.recovery.sampling import Pulse, Sampler
from bounceback.types.instants import Instant
from bounceback.types.prober import ORDERS, Said

LONGEST_MESSAGE: Final = 300
Json = dict[str, Any]


class Told(History):
    """Nothing is kept here: each sample is a line of the log, and so is each look that came to nothing by our fault."""

    def __init__(self, key: str, probe: Probe, lines: Lines) -> None:
        super().__init__(probe.period_milliseconds / 1000, probe.timeout_milliseconds / 1000)
        self._key = key
        self._lines = lines

    def begin(self, start: Instant) -> None:
        """Told once it has an answer."""

    def abandon(self, start: Instant) -> None:
        """Never told."""

    def lose(self, start: Instant, end: Instant) -> None:
        self._lines.tell(Said.NO_SAMPLE, probe=self._key, start=start.to_json(), end=end.to_json())

    def add(self, sample: Sample) -> bool:
        self._lines.tell(
            Said.SAMPLE,
            probe=self._key,
            start=sample.start.to_json(),
            end=sample.end.to_json(),
            wrong=None if sample.healthy else sample.message[:LONGEST_MESSAGE],
        )
        return False


async def look(namespace: str, probes: dict[str, Probe], not_after: float) -> int:
    """Until then."""
    lines = Lines()
    lines.tell(Said.STARTED)
    server = await listen(lambda: None)
    means = Means(cast(Kube, None), namespace)  # no probe here asks the API
    async with means, asyncio.TaskGroup() as group:
        pulse = Pulse()
        tasks = [group.create_task(pulse.run())]
        for number, (key, probe) in enumerate(probes.items()):
            history = Told(key, probe, lines)
            sampler = Sampler(history, look_of(means, probe, nothing_said), lambda: None, group, pulse)
            tasks.append(group.create_task(sampler.run(number / len(probes) * history.period)))
            tasks.append(group.create_task(_tell_problems(key, sampler, lines)))
        await asyncio.sleep(max(0.0, not_after - time.time()))
        for task in tasks:
            task.cancel()
    server.close()
    return 0


async def _tell_problems(key: str, sampler: Sampler, lines: Lines) -> None:
    """Why nobody can look, when that changes."""
    known = None
    while True:
        if sampler.problem != known:
            known = sampler.problem
            lines.tell(Said.PROBLEM, probe=key, problem=known)
        await asyncio.sleep(sampler.history.period)


def main() -> int:
    import uvloop

    try:
        orders = json.loads(os.environ[ORDERS])
        probes = {str(key): Probe.model_validate(probe) for key, probe in orders["probes"].items()}
        namespace, not_after = str(orders["namespace"]), float(orders["notAfter"])
    except (KeyError, ValueError) as error:
        print(f"{ORDERS} must be set to a prober's orders: {error}", file=sys.stderr)
        return 2
    return uvloop.run(look(namespace, probes, not_after))
