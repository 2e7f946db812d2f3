"""A kubelet that a node's systemd runs: stopped as a service, and started again whatever becomes of who stopped it.

The node's process 1 is a real systemd, in processes, mounts and cgroups of its own, with what it could change of this
machine read-only; the kubelet is a program of that name."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bounceback.drivers.kubelet_service import timer
from bounceback.types.kubelet import StopKubeletService
from bounceback.types.pattern import OnOff
from bounceback.types.plan import Order, Plan
from bounceback.types.told import Line, Told
from bounceback.vehicles.node_pod import agent_pod
from tests.kernel.lab import GONE_SECONDS, Agent, Lab, plan
from tests.kernel.pods import until
from tests.kernel.test_kubelet import is_its_time, start_looking, still

SYSTEMD = Path("/lib/systemd/systemd")
ALL = Path("/sys/fs/cgroup")  # of version 2
WITH_V1 = (ALL / "systemd", ALL / "unified")  # what systemd uses for itself where version 1 is there
STOPPING = """
[Unit]
DefaultDependencies=no
{unit}
[Service]
ExecStart={python} -c 'import time; open("/proc/self/comm", "w").write("kubelet"); time.sleep(1000)'
Restart=always
"""
BEGIN = """
set -e
mount -t tmpfs tmpfs /run
mount --bind {folder} {folder}
for kept in /dev /proc/sys /sys; do mount --bind $kept $kept; mount -o remount,bind,ro $kept; done
mount -o remount,bind,ro /  # what else it may want to tidy up is the machine's
{cgroups}
mkdir -p /run/systemd/system
for target in bbt needs sysinit basic timers shutdown; do
  printf '[Unit]\\nDefaultDependencies=no\\n' > /run/systemd/system/$target.target
done
export container=bbt SYSTEMD_UNIT_PATH=/run/systemd/system:/run/systemd/transient
exec {systemd} --system --unit=bbt.target --log-target=null --show-status=no
"""
OWN_V1 = """
printf '#subsys_name\\thierarchy\\tnum_cgroups\\tenabled\\n' > /run/cgroups
mount --bind /run/cgroups /proc/cgroups
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
"""
"""It would mount all controllers that it hears of, and make cgroups at their top, which are not only its own."""
OWN_V2 = "mount -t cgroup2 cgroup2 /sys/fs/cgroup"


@dataclass
class Host:
    """A node whose process 1 is systemd."""

    lab: Lab
    number: int  # of its process 1, here

    def systemctl(self, *words: str) -> str:
        line = ["nsenter", "-t", str(self.number), "-p", "-m", "systemctl", *words]
        return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()

    def begin(self, unit: str = "") -> int:
        """The kubelet as a service, with these lines in [Unit]; its number there."""
        text = STOPPING.format(unit=unit, python=sys.executable)
        Path(f"/proc/{self.number}/root/run/systemd/system/kubelet.service").write_text(text)
        self.systemctl("start", "kubelet.service")
        until(lambda: self._name() == "kubelet")
        return self.kubelet()

    def kubelet(self) -> int:
        """Its number there; 0 where none runs."""
        return int(self.systemctl("show", "kubelet.service", "--property=MainPID", "--value") or 0)

    def started_by(self, each: Order) -> bool:
        """Its timer is set."""
        return self.systemctl("is-active", f"{timer(each)}.timer") == "active"

    def agent(self, each: Order, guarded: bool = False) -> Agent:
        """With the rights of its NodePod, and no others."""
        made = plan(each, on_node=True, guarded=guarded)
        return self.limited(made).start(made, where=self.lab.one)

    def guard(self, agent: Agent) -> Agent:
        return self.limited(agent.plan).start(agent.plan, "guard", where=self.lab.one)

    def limited(self, made: Plan) -> Lab:
        asked = agent_pod(made, "node", "ns", "image", "Never", 0.0)["spec"]["containers"][0]["securityContext"]
        rights = ",".join(f"+{each.lower()}" for each in asked["capabilities"]["add"])
        return replace(self.lab, among=(*self.lab.among, "setpriv", f"--bounding-set=-all,{rights}"))

    def _name(self) -> str:
        there = Path(f"/proc/{self.number}/root/proc/{self.kubelet()}/comm")
        return there.read_text().strip() if there.exists() else ""


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    if not (SYSTEMD.exists() and shutil.which("systemctl")):
        pytest.skip("there is no systemd here")
    unified = (ALL / "cgroup.controllers").exists()
    tops = [ALL] if unified else [each for each in WITH_V1 if (each / "cgroup.procs").exists()]
    groups = [each / f"bbt-host-{os.getpid()}" for each in tops]
    try:
        for group in groups:
            group.mkdir()
    except OSError as error:
        pytest.skip(f"makes cgroups, which it may not here: {error}")
    begin = BEGIN.format(cgroups=OWN_V2 if unified else OWN_V1, systemd=SYSTEMD, folder=lab.folder)
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--uts", "--ipc", "--cgroup"]
    join = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
    line = ["sh", "-c", f'{join}; exec "$@"', "sh", *apart, "sh", "-c", begin]
    with lab.node.entered():
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        until(lambda: process.poll() is not None or children.read_text().strip())
        assert process.poll() is None, process.stdout and process.stdout.read()
        here = Host(lab, int(children.read_text()))
        lab.among = ("nsenter", "-t", str(here.number), "-p", "-m")
        until(lambda: here.systemctl("is-active", "bbt.target") == "active")
        yield here
        os.kill(here.number, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        for group in groups:
            below = [Path(folder) for folder, _, _ in os.walk(group, topdown=False)]
            for folder in below:
                gone(folder)


def gone(group: Path) -> None:
    until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def of(lines: list[Line], told: Told) -> Line:
    return next(line for line in lines if line.told is told)


def test_a_kubelet_is_stopped_for_its_time_and_another_one_begins(host: Host) -> None:
    before = host.begin()
    each = still(StopKubeletService(), duration=8.0)
    agent = host.agent(each)
    begun, first = agent.until(Told.IN_FORCE), agent.until(Told.HITS)
    assert host.kubelet() == 0
    assert host.started_by(each)
    lines = agent.end()
    assert host.kubelet() not in (0, before)
    assert of(lines, Told.CLEARED).detail["why"] == "Duration"
    assert "kubelet.service was stopped for" in of(lines, Told.CLEARED).detail["seen"][0]
    assert is_its_time(agent.hits(each.injection), begun, first, of(lines, Told.CLEARED), each.duration)
    assert of(lines, Told.VERIFIED).detail["leftovers"] == []
    assert not host.started_by(each)
    looked = start_looking(host.lab, agent)
    assert of(looked.end(), Told.VERIFIED).detail["leftovers"] == []


def test_the_guard_starts_it_when_the_agent_is_killed(host: Host) -> None:
    host.begin()
    each = still(StopKubeletService())
    agent = host.agent(each, guarded=True)
    guard = host.guard(agent)
    agent.until(Told.HITS)
    assert host.kubelet() == 0
    agent.signal(signal.SIGKILL)
    until(host.kubelet, GONE_SECONDS)
    lines = guard.end()
    assert of(lines, Told.CLEARED).detail["why"] == "AgentLost"
    assert of(lines, Told.VERIFIED).detail["leftovers"] == []
    assert not host.started_by(each)


def test_the_nodes_systemd_starts_it_at_the_deadline_though_everybody_is_dead(host: Host) -> None:
    host.begin()
    each = still(StopKubeletService(), duration=6.0)
    agent = host.agent(each, guarded=True)
    guard = host.guard(agent)
    agent.until(Told.HITS)
    for one in (guard, agent):
        one.signal(signal.SIGKILL)
    assert host.kubelet() == 0
    until(host.kubelet, seconds=14)
    until(lambda: not host.started_by(each))


def test_a_pattern_lets_one_run_in_between(host: Host) -> None:
    host.begin()
    each = still(StopKubeletService(), pattern=OnOff(6.0, 6.0), duration=40.0)
    agent = host.agent(each)
    agent.until(Told.HITS)
    assert host.kubelet() == 0
    until(host.kubelet)
    until(lambda: host.kubelet() == 0)
    agent.control({"stop": True})
    agent.end()
    assert host.kubelet()


def test_a_kubelet_that_others_start_has_ended_the_fault(host: Host) -> None:
    host.begin()
    agent = host.agent(still(StopKubeletService()))
    agent.until(Told.HITS)
    host.systemctl("start", "kubelet.service")
    failed = agent.until(Told.FAILED)
    assert failed.detail["message"] == "no longer in force: somebody else has started kubelet.service"
    agent.end()
    assert host.kubelet()


def refused(host: Host) -> tuple[str, str]:
    told = host.agent(still(StopKubeletService())).until(Told.REFUSED).detail
    return told["reason"], told["message"]


def test_what_would_stop_along_with_it_and_stay_so_is_a_reason_to_refuse(host: Host) -> None:
    root = Path(f"/proc/{host.number}/root/run/systemd/system")
    (root / "needs.target").write_text("[Unit]\nDefaultDependencies=no\nRequires=kubelet.service\n")
    before = host.begin()
    host.systemctl("daemon-reload")
    host.systemctl("start", "needs.target")
    reason, message = refused(host)
    assert (reason, host.kubelet()) == ("OthersDepend", before)
    assert "needs.target would be stopped along with kubelet.service" in message


def test_a_kubelet_that_is_no_service_is_left_alone(host: Host) -> None:
    program = 'import time; open("/proc/self/comm", "w").write("kubelet"); print(1, flush=True); time.sleep(1000)'
    with subprocess.Popen([*host.lab.among, sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"1\n"
            reason, message = refused(host)
            assert reason == "NoService"
            assert "is not the main process of a service of the node's systemd" in message
        finally:
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGKILL)
