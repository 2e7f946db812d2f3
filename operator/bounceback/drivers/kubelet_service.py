"""A kubelet that is stopped as a service of its node's systemd, and started by it at the end.

Nothing that takes the kubelet can end this. So before it is stopped systemd has a timer of its own that starts it at
the order's deadline, whatever has become of us; who else starts it are this process, at the first of its deadline, a
stop and a SIGTERM, and where this process dies the guard. An order is refused where systemd does not run the kubelet.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

from bounceback.drivers import HoldsNothing, KernelError, Refused, Site
from bounceback.drivers.host_systemd import HostSystemd
from bounceback.drivers.kubelet import HEAD_START, LATE, found, kubelets
from bounceback.drivers.processes import Process
from bounceback.types.instants import Instant
from bounceback.types.plan import Act, Order

LOOK_SECONDS: Final = 0.05  # for a kubelet that is to end, or to come
BACK_SECONDS: Final = 10.0
STILL_SECONDS: Final = 1.0  # between two looks whether it stays stopped
GONE_SECONDS: Final = 5.0
_DEPENDENTS: Final = ("RequiredBy", "BoundBy", "ConsistsOf")
"""Units that systemd stops along with one (systemd.unit(5)), and does not start again with it."""


def apply(order: Order, site: Site) -> Standstill:
    """The timer is set, the kubelet runs still. Raises Refused, KernelError."""
    host = HostSystemd(site.proc)
    kubelet = found(site.proc)
    host.required()
    unit = _service(host, kubelet)
    site.notes.write(unit=unit)
    now = Instant.now()
    seconds = min(order.duration + LATE, order.not_after - now.utc)
    host.start_later(unit, max(seconds, HEAD_START), timer(order))
    return Standstill(host, unit, kubelet, timer(order), site.proc)


def undo(order: Order, site: Site) -> None:
    """Without notes nothing was begun. Raises KernelError."""
    if unit := site.notes.kept.get("unit"):
        host = HostSystemd(site.proc)
        bring_back(host, unit)
        host.forget_timer(timer(order))


def left(order: Order, site: Site) -> list[str]:
    """Raises KernelError."""
    host = HostSystemd(site.proc)
    if not host.there:
        return []
    until = time.monotonic() + GONE_SECONDS
    while (is_set := host.timer_is_set(timer(order))) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    unit = site.notes.kept.get("unit")
    stopped = [f"{unit} is still stopped"] if unit and not is_up(host, unit) else []
    return [*stopped, *([f"the node's timer {timer(order)} is still set"] if is_set else [])]


def timer(order: Order) -> str:
    """Its name in systemd."""
    return f"bounceback-{order.injection}"


def is_up(host: HostSystemd, unit: str) -> bool:
    """It has a process, and is not about to end it. Raises KernelError."""
    told = host.properties(unit, "ActiveState", "MainPID")
    return told["ActiveState"] in ("active", "activating") and told["MainPID"] not in ("", "0")


def bring_back(host: HostSystemd, unit: str) -> None:
    """One that is ending is started once it has ended. Raises KernelError; systemd goes on trying all the same."""
    host.start(unit)
    until = time.monotonic() + BACK_SECONDS
    while not is_up(host, unit):
        if time.monotonic() > until:
            raise KernelError(f"{unit} was told to start and has no process yet")
        time.sleep(LOOK_SECONDS)


class Standstill(HoldsNothing):
    """A kubelet that is to be stopped, and is after the first turn but one."""

    def __init__(self, host: HostSystemd, unit: str, kubelet: Process, its_timer: str, proc: str) -> None:
        self._host = host
        self._unit = unit
        self._kubelet: Process | None = kubelet  # the one to be stopped; None: it has ended
        self._timer = its_timer
        self._proc = proc
        self._wanted = True  # or its pattern has a pause
        self._begun = False
        self._asked = False
        self._since: float | None = None  # it is gone since then, by the boot-time clock
        self._looked = 0.0
        self._milliseconds = 0.0  # before that
        self.detail: dict[str, str] = {"service": unit, "process": str(kubelet.number), "timer": its_timer}

    @property
    def farewell(self) -> dict[str, Any]:  # type: ignore[override]
        return {"seen": [f"{self._unit} was stopped for {self._so_far() / 1000:.1f} s"]}

    def turn(self) -> float | None:
        if not self._begun:
            self._begun = True
            return HEAD_START
        if not self._wanted or self._since is not None:
            return math.inf
        if not self._asked:
            self._asked = True
            self._host.stop(self._unit)
        if self._kubelet is not None and self._kubelet.alive():
            return LOOK_SECONDS
        self._kubelet = None
        self._since = self._looked = _now()
        return math.inf

    def hits(self) -> int:
        """Milliseconds in which there was no kubelet. Raises KernelError where somebody else has started it."""
        if self._since is not None and _now() - self._looked >= STILL_SECONDS:
            self._looked = _now()
            if any(each.alive() for each in kubelets(self._proc)):
                raise KernelError(f"somebody else has started {self._unit}")
            if not self._host.timer_is_set(self._timer):
                raise KernelError(f"the node's timer {self._timer} is not there any more")
        return int(self._so_far())

    def change(self, act: Act | None) -> None:
        self._wanted = act is not None
        if self._wanted and self._begun and self._since is None:
            self._stop_again()
        elif not self._wanted:
            self._start()

    def revert(self) -> None:
        """Raises KernelError; then the timer is still there."""
        self._wanted = False
        self._start()
        self._host.forget_timer(self._timer)

    def _stop_again(self) -> None:
        try:
            self._kubelet = found(self._proc)
        except Refused as error:
            raise KernelError(str(error)) from error
        self._asked = True
        self._host.stop(self._unit)
        until = time.monotonic() + BACK_SECONDS
        while self._kubelet.alive():
            if time.monotonic() > until:
                raise KernelError(f"{self._unit} was told to stop and still runs")
            time.sleep(LOOK_SECONDS)
        self._kubelet = None
        self._since = self._looked = _now()

    def _start(self) -> None:
        if not self._asked:
            return
        self._milliseconds, self._since = self._so_far(), None
        bring_back(self._host, self._unit)
        self._asked = False

    def _so_far(self) -> float:
        return self._milliseconds + ((_now() - self._since) * 1000 if self._since is not None else 0.0)


def _service(host: HostSystemd, kubelet: Process) -> str:
    """The service that is the kubelet. Raises Refused, KernelError."""
    unit = host.unit_of(kubelet.number)
    names = ("MainPID", "CanStart", "CanStop", "RefuseManualStart", "RefuseManualStop", *_DEPENDENTS)
    told = host.properties(unit, *names) if unit else dict.fromkeys(names, "")
    if told["MainPID"] != str(kubelet.number):
        raise Refused(
            "NoService",
            f"{kubelet.name} (process {kubelet.number}) is not the main process of a service of the node's systemd "
            f"({unit or 'it is in none'}), so nobody is known who would start it again; use mode Freeze",
        )
    if "no" in (told["CanStart"], told["CanStop"]) or "yes" in (told["RefuseManualStart"], told["RefuseManualStop"]):
        raise Refused("NotStartable", f"the node's systemd lets nobody stop and start {unit} by hand; use mode Freeze")
    if others := " ".join(told[name] for name in _DEPENDENTS if told[name]):
        raise Refused(
            "OthersDepend", f"{others} would be stopped along with {unit} and not be started again; use mode Freeze"
        )
    return unit


def _now() -> float:
    return Instant.now().nanos / 1e9
