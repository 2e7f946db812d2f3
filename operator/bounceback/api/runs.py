"""Repeated runs of one experiment: what is asked of them, and what became of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bounceback.types.fields import Model, StatusModel
from bounceback.types.outcome import Verdict

LISTED_RUNS = 100
MOST_RUNS = 400
MOST_WORDS = 160


class Runs(Model):
    """Run it several times: each time steady, inject, prove, clear, recover, check, clean up; then judge them all."""

    count: int = Field(
        ge=1, le=MOST_RUNS, description="How often it is run at the most; fewer where the answer is certain before."
    )
    seed: int = Field(
        0,
        ge=0,
        le=2_147_483_647,
        description="The first run's; those of the others follow from it. Each seed of the spec is XORed with the "
        "run's. A run is done again as it was with count 1 and the seed that status shows for it.",
    )
    required_success_percent: int | None = Field(
        None,
        ge=1,
        le=99,
        description="At least this share of all such runs must pass, and those that were made must be enough to say "
        "so. Unset: each run that is made must pass, and nothing is said of others.",
    )
    confidence_percent: int = Field(
        95,
        ge=50,
        le=99,
        description="How sure Passed or Failed must be where a share is asked for: of systems that pass exactly as "
        "often as is asked, at the most the rest is told the one or the other. Also that of the interval shown.",
    )


class RunSummary(StatusModel):
    """One run, in short."""

    number: int = Field(description="Counted from 1.")
    seed: int = Field(description="Its seed.")
    verdict: Verdict = Field(description="Its own verdict.")
    reason: str = Field("", max_length=64, description="One CamelCase word; empty where it passed.")
    message: str = Field("", max_length=MOST_WORDS, description="For people; empty where it passed.")
    started_at: str = Field("", description="When it started (RFC 3339).")
    seconds: int = Field(0, description="How long it took.")
    detection_milliseconds: int | None = Field(None, description="Active to detected (or to the first symptom).")
    outage_milliseconds: int | None = Field(None, description="First symptom to recovered.")
    recovery_milliseconds: int | None = Field(None, description="Cleared to recovered.")
    evidence: str | None = Field(None, max_length=71, description="The digest of its evidence, where that is kept.")


class SuccessRate(StatusModel):
    """The share of runs that passed among those that passed or failed, with its Wilson score interval."""

    percent: float = Field(description="That share.")
    low_percent: float = Field(description="The lower end of the interval at spec.runs.confidencePercent.")
    high_percent: float = Field(description="Its upper end.")


class Percentiles(StatusModel):
    """One length of time over all runs in which it could be measured, by nearest rank: each was one of them."""

    figure: str = Field(max_length=64, description="activation, detection, outage or recovery.")
    runs: int = Field(description="In how many runs it was measured.")
    p50_milliseconds: int = Field(description="Half of them took no longer.")
    p90_milliseconds: int = Field(description="Nine of ten took no longer.")
    p99_milliseconds: int = Field(description="99 of 100 took no longer.")
    most_milliseconds: int = Field(description="The longest.")
    plus_minus_milliseconds: int = Field(description="The largest uncertainty of any of them.")


class RunsStatus(StatusModel):
    """All runs so far. What else the status tells is the run's that is under way, or was the last."""

    number: int = Field(1, description="The run that is under way, or was the last; counted from 1.")
    seed: int = Field(0, description="Its seed.")
    told: str = Field("", max_length=32, description="For the RUNS column: 3/20, the number and spec.runs.count.")
    started_at: str = Field("", description="When the first run started (RFC 3339).")
    passed: int = Field(0, description="Runs that passed.")
    failed: int = Field(0, description="Runs that failed.")
    undecided: int = Field(0, description="Runs that were neither: they count on neither side.")
    rate: SuccessRate | None = Field(None, description="Unset while no run has passed or failed.")
    percentiles: Annotated[list[Percentiles], Field(max_length=4)] = Field(
        default_factory=list, description="Lengths of time over all runs."
    )
    listed: Annotated[list[RunSummary], Field(max_length=LISTED_RUNS)] = Field(
        default_factory=list, description="The newest hundred."
    )
    measured: dict[str, list[int]] = Field(
        default_factory=dict, description="By figure: what was measured in all runs, in milliseconds, in order."
    )
    widest: dict[str, int] = Field(
        default_factory=dict, description="By figure: its largest uncertainty, in milliseconds."
    )
