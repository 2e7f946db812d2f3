"""I/O faults: files of the target are opened and read late, or not at all."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.inside import FolderPath, InsideFault
from bounceback.types.access import EVERYWHERE, Access
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Feature
from bounceback.types.rules import Rule, refuse

JITTER_FITS: Final = "jitterMilliseconds must not exceed delayMilliseconds"


class Operation(StrEnum):
    OPEN = "Open"
    READ = "Read"


class FileError(StrEnum):
    """Those that the kernel takes for an answer, but for one that no file system gives (ETXTBSY)."""

    EIO = "EIO"
    EPERM = "EPERM"
    ENOSPC = "ENOSPC"
    EDQUOT = "EDQUOT"
    EBUSY = "EBUSY"
    EAGAIN = "EAGAIN"


Operations = Annotated[list[Operation], Field(min_length=1, max_length=2)]


class IoFault(InsideFault):
    """A fault on what is done with files at a path and below."""

    path: FolderPath = Field(
        description="A folder or a file, as the container sees it, and all below it on the same mount."
    )
    operations: Operations = Field(
        default_factory=lambda: [Operation.OPEN, Operation.READ],
        description="Open (for reading, writing or execution), Read, or both. Nobody can be asked about writes, fsync, "
        "names and attributes.",
    )

    def where(self) -> str:
        return self.path

    def why_idle(self) -> str:
        return f"does anything open or read what is at {self.path} meanwhile?"

    def _access(self, name: str, choice: Choice, delay: int = 0, jitter: int = 0, error: str = "") -> Access:
        return Access(
            who=self.who(),
            path=self.path,
            opens=Operation.OPEN in self.operations,
            reads=Operation.READ in self.operations,
            delay_us=delay * 1000,
            jitter_us=jitter * 1000,
            error=error,
            choice=choice,
            name=name,
        )

    def needs(self) -> frozenset[Feature]:
        return frozenset({Feature.FANOTIFY})


class IoDelay(IoFault):
    """The target's opens and reads of files at a path take longer.

    The kernel asks an agent on the node about each of them (fanotify), which answers late. Only processes of the target
    wait: others that have the same volume are not even asked about. Of two accesses, an open and the read after it,
    each is held. Reads of a file that was open before it began are not seen by Linux 6.14 and later. When the agent
    dies the kernel lets go at once. Proof is the number of accesses that were held.
    """

    kind: ClassVar[str] = "ioDelay"
    hit_words: ClassVar[str] = "accesses held"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.jitterMilliseconds <= self.delayMilliseconds", JITTER_FITS, ".jitterMilliseconds"),
    )

    delay_milliseconds: int = Field(ge=1, le=60_000, description="Time that each access takes longer.")
    jitter_milliseconds: int = Field(
        0, ge=0, le=60_000, description="Largest deviation from the delay, evenly spread; must not exceed it."
    )

    @model_validator(mode="after")
    def _jitter_fits(self) -> Self:
        if self.jitter_milliseconds > self.delay_milliseconds:
            raise refuse(JITTER_FITS, "jitterMilliseconds")
        return self

    def act(self, name: str, choice: Choice = ALWAYS) -> Access:
        return self._access(name, choice, self.delay_milliseconds, self.jitter_milliseconds)


class IoError(IoFault):
    """The target's opens and reads of files at a path fail.

    As with ioDelay the kernel asks an agent, which says no. Programs see `error`; errors other than EPERM take Linux
    6.14, and are refused on nodes that are older. A file that an open would have made is there, and empty. Proof is the
    number of accesses that were denied.
    """

    kind: ClassVar[str] = "ioError"
    hit_words: ClassVar[str] = "accesses denied"
    way_out: ClassVar[str] = (
        "use error EPERM, which takes no more than fanotify-perm, or choose pods on a node that can"
    )

    error: FileError = Field(description="What programs see: EIO, EPERM, ENOSPC, EDQUOT, EBUSY or EAGAIN.")

    def needs(self) -> frozenset[Feature]:
        return super().needs() | ({Feature.FANOTIFY_ERRNO} if self.error != EVERYWHERE else set())

    def act(self, name: str, choice: Choice = ALWAYS) -> Access:
        return self._access(name, choice, error=str(self.error))
