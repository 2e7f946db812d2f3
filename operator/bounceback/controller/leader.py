"""One leader at a time, by a Lease (coordination.k8s.io/v1).

Validity is judged by the boot-time clock, which goes on while the process is stopped: a leader that was suspended knows
on waking that its time is over before it acts again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp

from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import LEASES

LEASE = "bounceback-operator"
DURATION = 15.0
RENEW_EVERY = 3.0
GIVE_UP_AFTER = 10.0  # seconds without a renewal; below DURATION by more than the clocks can drift in that time

log = logging.getLogger(__name__)


class NotLeaderError(Exception):
    """This replica must not act."""


class Leadership:
    """Held from `acquire` until `held` says otherwise."""

    def __init__(self, kube: Kube, namespace: str, identity: str, tried: Callable[[], None]) -> None:
        self._kube = kube
        self._tried = tried  # told each time that the lease was asked for, whatever the answer
        self._namespace = namespace
        self._identity = identity
        self._renewed = float("-inf")
        self._observed: tuple[str, float] | None = None  # another's renewTime, and when we first saw it

    def held(self) -> bool:
        return _clock() - self._renewed < GIVE_UP_AFTER

    def check(self) -> None:
        """Raises NotLeaderError; called before each act."""
        if not self.held():
            raise NotLeaderError(f"{self._identity} has not renewed its lease for {GIVE_UP_AFTER:.0f} s")

    async def acquire(self) -> None:
        """Waits until this replica is the leader."""
        while not await self._try():  # noqa: ASYNC110 - there is no event: another replica holds the lease
            await asyncio.sleep(RENEW_EVERY)
        log.info("leading as %s", self._identity)

    async def keep(self) -> None:
        """Renews until that fails for too long, then raises NotLeaderError."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            if self.held():
                await self._try(renewing=True)
            self.check()

    async def release(self) -> None:
        """Lets another take over at once."""
        if not self.held():
            return
        self._renewed = float("-inf")
        try:
            lease = await self._kube.get(LEASES, self._namespace, LEASE)
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._kube.replace(LEASES, self._namespace, LEASE, lease)
        except (KubeError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("lease not released, it will run out: %s", error)

    async def _try(self, renewing: bool = False) -> bool:
        """Take or renew the lease; True when it is ours. The time counts from before the request.

        A renewal that comes when our time was over comes too late: runs may have been left alone meanwhile.
        """
        asked = _clock()
        self._tried()
        try:
            async with asyncio.timeout(RENEW_EVERY):
                won = await self._take()
        except (KubeError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("lease: %s", error)
            return False
        if won and (self.held() or not renewing):
            self._renewed = asked
        return won

    async def _take(self) -> bool:
        try:
            lease = await self._kube.get(LEASES, self._namespace, LEASE)
        except KubeError as error:
            if not error.gone:
                raise
            lease = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": {"name": LEASE}}
            await self._kube.create(LEASES, self._namespace, lease | {"spec": self._spec({})})
            return True
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") not in (self._identity, "", None) and not self._expired(spec):
            self._renewed = float("-inf")  # another leads, whatever our clock says
            return False
        lease["spec"] = self._spec(spec)
        try:
            await self._kube.replace(LEASES, self._namespace, LEASE, lease)
        except KubeError as error:
            if error.conflict:
                return False
            raise
        return True

    def _expired(self, spec: Json) -> bool:
        """By how long we have seen it unchanged: the holder's clock is not compared with ours."""
        renewed = str(spec.get("renewTime"))
        if self._observed is None or self._observed[0] != renewed:
            self._observed = (renewed, _clock())
        return _clock() - self._observed[1] > float(spec.get("leaseDurationSeconds") or DURATION)

    def _spec(self, before: Json) -> Json:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        same = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION),
            "renewTime": now,
            "acquireTime": before.get("acquireTime") if same else now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if same else 1),
        }


def _clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
