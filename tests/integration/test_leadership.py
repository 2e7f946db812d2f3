"""Two replicas and one lease on a real API server; one of them is stopped as a process, as a frozen node would."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process

from bounceback.controller.leader import DURATION, GIVE_UP_AFTER, LEASE, Leadership
from bounceback.kube import Kube
from bounceback.kube.resources import LEASES
from tests.conftest import ROOT

LEADER = """
import asyncio, sys, time
from bounceback.controller.leader import Leadership, NotLeaderError
from bounceback.kube import Kube

async def main(kubeconfig, namespace):
    async with Kube.connected(kubeconfig) as kube:
        leadership = Leadership(kube, namespace, "sleeper", lambda: None)
        await leadership.acquire()
        print("leads", flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # asked for after its sleep
        print("held" if leadership.held() else "lost", flush=True)
        try:
            await leadership.keep()
        except NotLeaderError:
            print("stepped down", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def replica(kube: Kube, home: str, name: str) -> Leadership:
    return Leadership(kube, home, name, lambda: None)


async def test_a_suspended_leader_has_given_up_before_another_acquires(kube: Kube, kubeconfig: str, home: str) -> None:
    sleeper = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LEADER, kubeconfig, home, cwd=ROOT / "operator", stdin=PIPE, stdout=PIPE
    )
    try:
        assert await _says(sleeper) == "leads"
        other = replica(kube, home, "other")
        sleeper.send_signal(signal.SIGSTOP)
        suspended = time.monotonic()
        async with asyncio.timeout(2 * DURATION):
            await other.acquire()
        assert time.monotonic() - suspended > GIVE_UP_AFTER
        assert other.held()
        assert sleeper.stdin is not None
        sleeper.stdin.write(b"\n")
        sleeper.send_signal(signal.SIGCONT)
        assert await _says(sleeper) == "lost"
        assert await _says(sleeper) == "stepped down"
        assert (await kube.get(LEASES, home, LEASE))["spec"]["holderIdentity"] == "other"
    finally:
        if sleeper.returncode is None:
            sleeper.kill()
        await sleeper.wait()


async def test_of_many_that_begin_at_once_one_leads(kube: Kube, home: str) -> None:
    replicas = [replica(kube, home, f"replica-{number}") for number in range(5)]
    queueing = [asyncio.create_task(each.acquire()) for each in replicas]
    await asyncio.wait(queueing, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(1)
    assert sum(each.held() for each in replicas) == 1
    for task in queueing:
        task.cancel()
    await asyncio.wait(queueing)


async def test_a_lease_that_is_released_is_taken_without_waiting(kube: Kube, home: str) -> None:
    first, second = replica(kube, home, "first"), replica(kube, home, "second")
    await first.acquire()
    await first.release()
    async with asyncio.timeout(DURATION):  # one that is not released is waited for longer
        await second.acquire()
    assert not first.held()
    lease = await kube.get(LEASES, home, LEASE)
    assert lease["spec"]["leaseTransitions"] >= 1


async def test_a_lease_that_was_deleted_is_made_again_by_its_holder(kube: Kube, home: str) -> None:
    first = replica(kube, home, "first")
    await first.acquire()
    await kube.delete(LEASES, home, LEASE)
    keeping = asyncio.create_task(first.keep())
    async with asyncio.timeout(GIVE_UP_AFTER):
        while not any(item["metadata"]["name"] == LEASE for item in (await kube.list(LEASES, home))[0]):
            await asyncio.sleep(0.2)
    assert first.held()
    keeping.cancel()


async def _says(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()
