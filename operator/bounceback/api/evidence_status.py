"""Where the evidence of a run is kept, and what it must be when it is read again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bounceback.types.fields import StatusModel
from bounceback.types.outcome import EvidenceKind, EvidenceState

MOST_WORDS = 512


class EvidencePart(StatusModel):
    """One kind of evidence."""

    kind: EvidenceKind = Field(description="injection, systemResponse, recoveryProcess, finalState or consistency.")
    kept: bool = Field(description="It is in the store, whole.")
    lines: int = Field(0, description="How many lines of JSON it has.")
    bytes: int = Field(0, description="Its size before it was compressed.")
    message: str = Field("", max_length=256, description="Why it is not kept, or what was left out of it.")


class EvidenceStatus(StatusModel):
    """The evidence of this run, outside the resource."""

    state: EvidenceState = Field(
        description="Kept, Partial (something is missing), NotKept; Doubtful: the store refused when the run began; "
        "Writing: the digest is known, the store is asked."
    )
    reason: str = Field("", max_length=64, description="One CamelCase word.")
    message: str = Field("", max_length=MOST_WORDS, description="For people: what is missing, why, and the way out.")
    store: str = Field("", max_length=32, description="ConfigMaps, Volume or ObjectStorage.")
    place: str = Field(
        "",
        max_length=MOST_WORDS,
        description="The first ConfigMap, the folder of the volume, or s3://BUCKET/… of the objects.",
    )
    digest: str = Field("", max_length=71, description="sha256 of its manifest, which has those of all kinds.")
    bytes: int = Field(0, description="What it takes in the store.")
    kinds: Annotated[list[EvidencePart], Field(max_length=5)] = Field(default_factory=list, description="Each kind.")
