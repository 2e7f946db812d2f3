"""From a workload to the system that it is for. Clients are loaded where one is wanted."""

from __future__ import annotations

import os

from bounceback.api.workload import Workload
from bounceback.workload.client import System


def missing_variable(workload: Workload) -> str | None:
    """The environment variable that is to have a password, and that there is not."""
    system = workload.sql or workload.nats
    name = system.password_variable if system is not None else None
    return name if name is not None and name not in os.environ else None


def system_of(workload: Workload) -> System:
    seconds = workload.timeout_milliseconds / 1000
    if workload.redis is not None:
        from bounceback.workload.redis import RedisSystem

        return RedisSystem(workload.redis, workload.model, seconds)
    if workload.sql is not None:
        from bounceback.workload.sql import SqlSystem

        return SqlSystem(workload.sql, workload.model, seconds)
    if workload.nats is not None:
        from bounceback.workload.nats import NatsSystem

        return NatsSystem(workload.nats, workload.model, seconds)
    if workload.kubernetes is not None:
        from bounceback.workload.kubernetes import KubernetesSystem

        return KubernetesSystem(workload.kubernetes, workload.model, seconds)
    from bounceback.workload.http import HttpSystem

    assert workload.http is not None
    return HttpSystem(workload.http, workload.model, seconds)
