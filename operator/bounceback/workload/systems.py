"""From a workload to the system that it is for. Clients are loaded where one is wanted."""

from __future__ import annotations

import os

from bounceback.api.workload import Workload
from bounceback.connecting.tls import context_of
from bounceback.workload.client import System


def missing_variable(workload: Workload) -> str | None:
    """The environment variable that is to have a password, and that there is not."""
    names = (store.password_variable for store in workload.stores.values())
    return next((name for name in names if name is not None and name not in os.environ), None)


def system_of(workload: Workload, authorities: str | None = None) -> System:
    """`authorities` are the certificates that the workload's `tls` names, in PEM.

    Raises ValueError where they are none.
    """
    seconds = workload.timeout_milliseconds / 1000
    context = next(
        (context_of(store.tls, store.host, authorities) for store in workload.stores.values() if store.tls), None
    )
    if workload.redis is not None:
        from bounceback.workload.redis import RedisSystem

        return RedisSystem(workload.redis, workload.model, seconds, context)
    if workload.sql is not None:
        from bounceback.workload.sql import SqlSystem

        return SqlSystem(workload.sql, workload.model, seconds, context)
    if workload.nats is not None:
        from bounceback.workload.nats import NatsSystem

        return NatsSystem(workload.nats, workload.model, seconds, context)
    if workload.kubernetes is not None:
        from bounceback.workload.kubernetes import KubernetesSystem

        return KubernetesSystem(workload.kubernetes, workload.model, seconds)
    from bounceback.workload.http import HttpSystem

    assert workload.http is not None
    return HttpSystem(workload.http, workload.model, seconds)
