"""From a probe to what looks, from an observation to what reads. Clients are loaded where one is wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bounceback.api.probes import Observation, Probe, Signal
from bounceback.engine.samples import History
from bounceback.recovery.judging import Read, Said, judged
from bounceback.recovery.looks import ask_by_http, look_by_tcp
from bounceback.recovery.means import Means
from bounceback.recovery.objects import LONGEST_READ_SECONDS, Objects, reading_period
from bounceback.recovery.sampling import Look

if TYPE_CHECKING:
    from bounceback.recovery.watching import Source


def new_history(probe: Probe) -> History:
    """For what will be seen."""
    timeout = probe.timeout_milliseconds / 1000
    if probe.kubernetes or probe.event or probe.log:
        period = max(reading_period(probe), LONGEST_READ_SECONDS)
        return History(period, timeout, threshold=probe.failure_threshold, ordered=True)
    return History(probe.period_milliseconds / 1000, timeout, threshold=probe.failure_threshold)


def stream_of(means: Means, probe: Probe, history: History, said: Said, changed: Callable[[], None]) -> Source | None:
    """What tells by itself; None for a probe that is to be sampled."""
    if probe.kubernetes is not None:
        return Objects(means, probe, probe.kubernetes, history, said, changed)
    if probe.event is not None:
        from bounceback.recovery.event import Events

        return Events(means, probe, probe.event, history, said, changed)
    if probe.log is not None:
        from bounceback.recovery.log import Lines

        return Lines(means, probe, probe.log, history, said, changed)
    return None


def look_of(means: Means, probe: Probe, said: Said) -> Look:
    """One sample of the probe."""
    if probe.tcp is not None:
        return partial(look_by_tcp, means.names, probe.tcp)
    expression = None if probe.prometheus else probe.look.judges()  # it is held against each series there
    return judged(_read_of(means, probe), expression, said)


def _read_of(means: Means, probe: Probe) -> Read:
    seconds = probe.timeout_milliseconds / 1000
    if probe.http is not None:
        kept = probe.http.expression is not None or (isinstance(probe, Signal) and probe.category is not None)
        return partial(ask_by_http, means.session, probe.http, kept=kept)
    if probe.prometheus is not None:
        from bounceback.recovery.prometheus import ask_by_prometheus

        return partial(ask_by_prometheus, means, probe.prometheus, seconds)
    if probe.dns is not None:
        from bounceback.recovery.dns import ask_by_dns

        return partial(ask_by_dns, means, probe.dns, seconds)
    if probe.tls is not None:
        from bounceback.recovery.tls import ask_by_tls

        return partial(ask_by_tls, means, probe.tls)
    if probe.grpc is not None:
        from bounceback.recovery.grpc import ask_by_grpc

        return partial(ask_by_grpc, means, probe.grpc)
    return _read_inside(means, probe, seconds)


def _read_inside(means: Means, probe: Probe, seconds: float) -> Read:
    if probe.sql is not None:
        from bounceback.recovery.sql import ask_by_sql

        return partial(ask_by_sql, means, probe.sql)
    if probe.redis is not None:
        from bounceback.recovery.redis import ask_by_redis

        return partial(ask_by_redis, means, probe.redis)
    if probe.nats is not None:
        from bounceback.recovery.nats import ask_by_nats

        return partial(ask_by_nats, means, probe.nats, seconds)
    if probe.exec is not None:
        from bounceback.recovery.exec import ask_by_exec

        return partial(ask_by_exec, means, probe.exec, seconds)
    assert probe.job is not None
    from bounceback.recovery.job import ask_by_job

    return partial(ask_by_job, means, probe.job, seconds)


async def read_store(means: Means, observation: Observation, seconds: float) -> Any:
    """What is observed beside HTTP answers and objects. Raises NotHealthyError, CannotLookError."""
    if observation.exec is not None:
        from bounceback.recovery.exec import read_by_exec

        return await read_by_exec(means, observation.exec, seconds)
    if observation.sql is not None:
        from bounceback.recovery.sql import ask_by_sql

        return (await ask_by_sql(means, observation.sql))["rows"]
    if observation.redis is not None:
        from bounceback.recovery.redis import ask_by_redis

        return (await ask_by_redis(means, observation.redis))["reply"]
    assert observation.nats is not None
    from bounceback.recovery.nats import ask_by_nats

    told = await ask_by_nats(means, observation.nats, seconds)
    return {name: told[name] for name in ("server", "stream", "consumer")}
