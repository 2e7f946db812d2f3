"""Signals: processes of the target stand still, are asked to end, are killed, or told something."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.base import NO_PATTERN
from bounceback.faults.inside import InsideFault, ProcessFault
from bounceback.faults.repeated import Repeated
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.inside import InsideAct
from bounceback.types.rules import Rule, refuse
from bounceback.types.signals import Freeze, Signal

FREEZE_IS_LONG = "everySeconds must be unset for Freeze, which lasts; use pattern to freeze again and again"
NOT_FROZEN = "signals other than Freeze"


class SignalName(StrEnum):
    FREEZE = "Freeze"
    TERM = "TERM"
    KILL = "KILL"
    HUP = "HUP"
    INT = "INT"
    USR1 = "USR1"
    USR2 = "USR2"


class ProcessSignal(Repeated, ProcessFault):
    """Processes of the target get a signal, process 1 of a container like any other, in pods that share one too.

    `Freeze` stops them (SIGSTOP) for as long as the fault lasts; they go on (SIGCONT) at its end, and within 2 s where
    the agent dies. Any other is sent once, and the fault is over then; or again and again for as long as it lasts, each
    time to the processes that are there. Proof is the number of signals sent to processes that do not ignore them; for
    Freeze the number of processes that the kernel showed to be stopped.
    """

    kind: ClassVar[str] = "processSignal"
    hit_words: ClassVar[str] = "signals delivered"
    rules: ClassVar[tuple[Rule, ...]] = (
        *Repeated.rules,
        Rule("self.signal != 'Freeze' || !has(self.everySeconds)", FREEZE_IS_LONG, ".everySeconds"),
    )
    entry_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.processSignal) || !has(self.pattern) || self.processSignal.signal == 'Freeze'",
            NO_PATTERN.format(NOT_FROZEN),
            ".pattern",
        ),
    )

    signal: SignalName = Field(description="Freeze, TERM, KILL, HUP, INT, USR1 or USR2.")

    @model_validator(mode="after")
    def _freeze_is_not_repeated(self) -> Self:
        if self.signal is SignalName.FREEZE and self.every_seconds is not None:
            raise refuse(FREEZE_IS_LONG, "everySeconds")
        return self

    @property
    def momentary(self) -> str:
        return "" if self.signal is SignalName.FREEZE else NOT_FROZEN

    def act(self, name: str, choice: Choice = ALWAYS) -> InsideAct:
        if self.signal is SignalName.FREEZE:
            return Freeze(who=self.who(), name=name, choice=choice)
        again = self.repeat(name, choice)
        return Signal(who=self.who(), signal=self.signal.value, name=name, choice=choice, again=again)


class ContainerKill(Repeated, InsideFault):
    """The process with which a container began is killed, so that the container ends and the kubelet starts it again.

    What the kubelet does then follows from the pod's restartPolicy: from the second time on it waits before it starts
    it again, 10 s and longer. Proof is the number of processes killed; how often the kubelet has started containers
    again since stands beside it.
    """

    kind: ClassVar[str] = "containerKill"
    hit_words: ClassVar[str] = "containers killed"
    entry_rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.containerKill) || !has(self.pattern)", NO_PATTERN.format("containerKill"), ".pattern"),
    )

    @property
    def momentary(self) -> str:
        return self.kind

    def act(self, name: str, choice: Choice = ALWAYS) -> InsideAct:
        again = self.repeat(name, choice)
        return Signal(who=self.who(), signal="KILL", firsts=True, name=name, choice=choice, again=again)
