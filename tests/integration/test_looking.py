"""The last reading of a run, of servers that do not always answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import CheckCopy, FaultExperimentStatus
from bounceback.controller.looking import Looking

SPEC = FaultExperimentSpec.model_validate(
    {
        "targets": [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "web"}}}}],
        "faults": [{"name": "cut", "target": "web", "networkPartition": {}, "durationSeconds": 30}],
        "checks": [{"name": "web"}],
    }
)
OFFICE: Any = SimpleNamespace(
    pulse=None, kube=SimpleNamespace(acting_as=lambda *_: None), settings=SimpleNamespace(namespace="")
)


@pytest.mark.parametrize(("refusals", "read"), [(0, True), (1, True), (2, False)])
async def test_the_last_reading_gets_a_second_try(refusals: int, read: bool) -> None:
    asked = 0

    async def orders(_: web.BaseRequest) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"count": 3}, status=503 if asked <= refusals else 200)

    async with RawTestServer(orders) as server:
        observation = {"name": "orders", "http": {"url": str(server.make_url("/"))}, "timeoutMilliseconds": 20_000}
        invariant = {"name": "kept", "expression": "after.orders.count == 3"}
        check = RecoveryCheckSpec.model_validate({"observations": [observation], "invariants": [invariant]})
        status = FaultExperimentStatus(checks=[CheckCopy(name="web", uid="c", generation=1, spec=check)])
        found, _ = await Looking(OFFICE, "default", SPEC, lambda: None).observe_after(status)
    assert found.values["web"] == ({"orders": {"count": 3}} if read else {})
    assert found.problems == ({} if read else {"web": {"orders": "status 503, expected 200"}})
