"""From a workload to the system that it is for. Clients are loaded where one is wanted."""

from __future__ import annotations

from bounceback.api.workload import Workload
from bounceback.workload.client import System


def system_of(workload: Workload) -> System:
    seconds = workload.timeout_milliseconds / 1000
    if workload.redis is not None:
        from bounceback.workload.redis import RedisSystem

        return RedisSystem(workload.redis, workload.model, seconds)
    from bounceback.workload.http import HttpSystem

    assert workload.http is not None
    return HttpSystem(workload.http, workload.model, seconds)
