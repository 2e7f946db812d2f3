"""What `bounceback plan` has found out: what would happen, and what stands against it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One fault on one pod, or on another object, whose kind and name are `pod` then."""

    pod: str
    node: str
    vehicle: str
    why: str
    rung: str


@dataclass
class Outlook:
    """What would happen, and what stands against it."""

    namespace: str
    name: str
    matching: dict[str, int] = field(default_factory=dict)  # by target: how many match (of pods: that run)
    nouns: dict[str, str] = field(default_factory=dict)  # by target: what they are, in a word
    on: dict[str, str] = field(default_factory=dict)  # by fault: its target
    faults: dict[str, list[Foreseen]] = field(default_factory=dict)
    course: list[str] = field(default_factory=list)  # a line for each fault, where one waits for something
    refusals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, told: str) -> None:
        if told not in self.notes:
            self.notes.append(told)

    def refuse(self, path: str, message: str) -> None:
        told = f"{path}: {message}"
        if told not in self.refusals:
            self.refusals.append(told)
