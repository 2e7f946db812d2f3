"""Patterns: when a fault is there, and how strong."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise

import pytest

from bounceback.api.pattern import Pattern
from bounceback.api.problems import parse
from bounceback.types.pattern import Intermittent, OnOff, Ramp, Step, pattern_from, steps


def test_turns_of_fixed_lengths() -> None:
    told = list(steps(OnOff(2, 3), 11))
    assert told == [Step(0, 1), Step(2, 0), Step(5, 1), Step(7, 0), Step(10, 1)]


def test_turns_of_random_lengths_keep_their_bounds_and_repeat_by_their_seed() -> None:
    pattern = Intermittent((0.5, 1), (2, 4), seed=7)
    told = list(steps(pattern, 500))
    assert [step.share for step in told] == [1.0, 0.0] * (len(told) // 2) + [1.0] * (len(told) % 2)
    lengths = [(one.share, other.at - one.at) for one, other in pairwise(told)]
    assert all((0.5 <= length <= 1) if share else (2 <= length <= 4) for share, length in lengths)
    assert len({round(length, 6) for _, length in lengths}) > 100
    assert told == list(steps(pattern, 500))
    assert told != list(steps(Intermittent((0.5, 1), (2, 4), seed=8), 500))


def test_a_ramp_ends_with_its_last_share() -> None:
    told = list(steps(Ramp(0.1, 1.0, 4), 20))
    assert [step.at for step in told] == [0, 5, 10, 15]
    assert [step.share for step in told] == pytest.approx([0.1, 0.4, 0.7, 1.0])


@pytest.mark.parametrize("pattern", [OnOff(1, 2), Intermittent((1, 2), (3, 4), 5), Ramp(0.5, 1, 3)])
def test_a_pattern_reaches_the_agent_unchanged(pattern: OnOff | Intermittent | Ramp) -> None:
    assert pattern_from(json.loads(json.dumps(asdict(pattern)))) == pattern


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({}, "", "exactly one of"),
        (
            {
                "onOff": {"onMilliseconds": 100, "offMilliseconds": 100},
                "ramp": {"fromPercent": 1, "toPercent": 2, "steps": 2},
            },
            "",
            "exactly one of",
        ),
        ({"onOff": {"onMilliseconds": 10, "offMilliseconds": 100}}, "onOff.onMilliseconds", "50"),
        ({"ramp": {"fromPercent": 0, "toPercent": 100, "steps": 2}}, "ramp.fromPercent", "1"),
        ({"ramp": {"fromPercent": 1, "toPercent": 101, "steps": 2}}, "ramp.toPercent", "100"),
        (
            {
                "intermittent": {
                    "shortestOnMilliseconds": 900,
                    "longestOnMilliseconds": 100,
                    "shortestOffMilliseconds": 100,
                    "longestOffMilliseconds": 100,
                }
            },
            "intermittent.longestOnMilliseconds",
            "shortestOnMilliseconds",
        ),
    ],
)
def test_what_a_pattern_must_be(given: dict[str, object], field: str, words: str) -> None:
    pattern, problems = parse(Pattern, given)
    assert pattern is None
    assert any(field in str(problem) and words in str(problem) for problem in problems), problems
