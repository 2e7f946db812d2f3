"""Delay and loss as the user asks for them, measured from the outside on the node that has netem."""

from __future__ import annotations

import json
import math
from typing import Any

from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.types.outcome import Phase
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, make_check, make_experiment, reached, until
from tests.workload import SERVE, pod, running

NODE = "node-uml"
IDLE = "import time; time.sleep(3600)"
CONNECT = """
import json, socket, sys, time
def once():
    began = time.perf_counter()
    socket.create_connection((sys.argv[1], 8080), 5).close()
    return time.perf_counter() - began
print(json.dumps([once() for _ in range(30)]))
"""
SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    s.sendto(b"x", (sys.argv[1], 9))
"""


async def client_and_server(kube: Kube, namespace: str) -> tuple[PodInfo, PodInfo]:
    """The client on the node with netem, silent unless told otherwise."""
    (server,) = await running(kube, namespace, [pod("server", "python3", "-c", SERVE)])
    idle = pod("client", "python3", "-c", IDLE, labels={"role": "caller"}, nodeName=NODE)
    (client,) = await running(kube, namespace, [idle])
    await make_check(kube, namespace, server.ips[0])
    return client, server


async def in_client(kube: Kube, namespace: str, *words: str) -> str:
    code, out, err = await kube.exec(namespace, "client", "main", ["python3", "-c", *words], seconds=60)
    assert code == 0, err
    return out


async def quickest(kube: Kube, namespace: str, server: PodInfo) -> float:
    """Seconds of the quickest of several connections: what the network takes, without what a busy machine adds."""
    return float(min(json.loads(await in_client(kube, namespace, CONNECT, server.ips[0]))))


def peers(server: PodInfo, **more: Any) -> Json:
    return {"peers": [{"cidr": f"{server.ips[0]}/32", **more}]}


async def test_a_delay_is_what_was_asked_within_2_ms(
    kube: Kube, namespace: str, resources: None, operator: OperatorProcess
) -> None:
    _, server = await client_and_server(kube, namespace)
    before = await quickest(kube, namespace, server)
    delay = {"delayMilliseconds": 100, **peers(server)}
    fault = {"name": "slow", "target": "callers", "durationSeconds": 30, "networkDelay": delay}
    await make_experiment(kube, namespace, "delay", fault)
    await until(kube, namespace, "delay", reached(Phase.ACTIVE))
    during = await quickest(kube, namespace, server)
    status = await finished(kube, namespace, "delay")
    assert abs((during - before) * 1000 - 100) <= 2, f"{before * 1000:.2f} ms before, {during * 1000:.2f} ms during"
    assert (status["verdict"], status["injections"][0]["rung"]) == ("Passed", "Netem"), status
    assert status["injections"][0]["clockOffsetMilliseconds"] is not None, "that node's clock is not ours"
    assert await quickest(kube, namespace, server) < before + 0.02


async def test_a_loss_is_what_was_asked_within_the_binomial_bounds(
    kube: Kube, namespace: str, resources: None, operator: OperatorProcess
) -> None:
    sent, share = 3000, 0.1
    _, server = await client_and_server(kube, namespace)
    loss = {"lossPercent": 10, **peers(server, ports=[{"port": 9, "protocol": "UDP"}])}
    fault = {"name": "lossy", "target": "callers", "durationSeconds": 25, "networkLoss": loss}
    await make_experiment(kube, namespace, "loss", fault)
    await until(kube, namespace, "loss", reached(Phase.ACTIVE))
    await in_client(kube, namespace, SEND, server.ips[0], str(sent))
    status = await finished(kube, namespace, "loss")
    lost = status["injections"][0]["hits"]
    bound = 3.891 * math.sqrt(sent * share * (1 - share))  # 99.99 % of a binomial distribution
    assert abs(lost - sent * share) <= bound, f"{lost} of {sent} lost; {sent * share:.0f} ± {bound:.0f} expected"
    assert status["verdict"] == "Passed", status
