"""How a client backs off, from the pauses between its tries alone."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.proxy.api.backoff import FACTORS, TURNS, Backoff, BackoffKind, fitted

SEEDS = range(20)
Pauses = Callable[[int, random.Random], list[float]]


def noise(draw: random.Random) -> float:
    """What a busy machine adds to every pause."""
    return draw.random() * 0.004


def constant(length: float, jitter: float = 0.0) -> Pauses:
    """As wait.JitterUntil of k8s.io/apimachinery: from the length to 1 + jitter times that."""
    return lambda n, draw: [length * (1 + jitter * draw.random()) + noise(draw) for _ in range(n)]


def growing(first: float, factor: float, longest: float = 1e9, jitter: float = 0.0) -> Pauses:
    """As wait.Backoff of k8s.io/apimachinery: jitter is added to what has grown, the longest one included."""

    def pauses(n: int, draw: random.Random) -> list[float]:
        lengths = (min(first * factor**k, longest) for k in range(n))
        return [length * (1 + jitter * draw.random()) + noise(draw) for length in lengths]

    return pauses


def at_once(n: int, draw: random.Random) -> list[float]:
    return [noise(draw) * 10 for _ in range(n)]


def after_one_at_once(then: Pauses) -> Pauses:
    return lambda n, draw: [noise(draw), *then(n - 1, draw)]


CLIENTS: list[tuple[str, Pauses, int, BackoffKind, bool | None]] = [
    ("none at all", at_once, 10, BackoffKind.IMMEDIATE, False),
    ("every second", constant(1), 10, BackoffKind.CONSTANT, False),
    ("every 10 s, and up to twice that", constant(10, 1.0), 10, BackoffKind.CONSTANT, True),
    ("client-go's reflector", growing(0.8, 2, 30, 1.0), 10, BackoffKind.EXPONENTIAL, True),
    ("client-go's work queue", growing(0.005, 2), 10, BackoffKind.EXPONENTIAL, False),
    ("the same without jitter, to a longest one", growing(0.8, 2, 30), 12, BackoffKind.EXPONENTIAL, False),
    ("retry.DefaultBackoff, slowed down", growing(1, 5, jitter=0.1), 4, BackoffKind.EXPONENTIAL, None),
    ("a slow growth", growing(1, 1.3), 10, BackoffKind.EXPONENTIAL, False),
    ("at once, then every 2 s", after_one_at_once(constant(2)), 8, BackoffKind.CONSTANT, False),
    ("at once, then growing", after_one_at_once(growing(1, 2)), 8, BackoffKind.EXPONENTIAL, False),
    ("growing, seen four times", growing(1, 2), 4, BackoffKind.EXPONENTIAL, False),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "pauses", "count", "kind", "jitter"), CLIENTS, ids=[each[0] for each in CLIENTS])
def test_a_client_is_known_by_its_pauses(
    name: str, pauses: Pauses, count: int, kind: BackoffKind, jitter: bool | None, seed: int
) -> None:
    found = fitted(pauses(count, random.Random(seed)))
    assert found.kind is kind
    assert found.gaps == count
    if jitter is not None:
        assert found.jitter is jitter


@pytest.mark.parametrize("gaps", [[1.0], [1.0, 2.0], [0.01, 5.0]])
def test_two_pauses_tell_nothing(gaps: list[float]) -> None:
    assert fitted(gaps).kind is BackoffKind.UNKNOWN


def test_none_is_none() -> None:
    assert fitted([]) == Backoff(BackoffKind.NONE)
    assert fitted([]).to_json() == {"kind": "None", "gaps": 0}


@pytest.mark.parametrize(
    "gaps",
    [[8.0, 4.0, 2.0, 1.0], [1.0, 9.0, 1.0, 9.0, 1.0, 9.0], [1.0, 4.0, 16.0, 1.0, 1.0, 1.0], [0.1, 0.07, 9.0, 0.1]],
)
def test_what_has_no_rule_gets_no_name(gaps: list[float]) -> None:
    assert fitted(gaps).kind is BackoffKind.UNKNOWN


@pytest.mark.parametrize(
    ("gaps", "kind"),
    [
        ([0.001] * 12 + [0.4] + [0.001] * 12, BackoffKind.IMMEDIATE),
        ([0.01, 0.01, 3.0, 0.01], BackoffKind.IMMEDIATE),
        ([0.01, 0.4, 0.02, 0.01], BackoffKind.IMMEDIATE),
        ([0.01, 0.02, 0.01, 0.4], BackoffKind.IMMEDIATE),
        ([0.01, 0.4, 0.02, 0.01, 0.3], BackoffKind.IMMEDIATE),
        ([0.03, 0.08, 0.12, 0.07, 0.04], BackoffKind.IMMEDIATE),
        ([0.12, 0.13, 0.41, 0.14], BackoffKind.CONSTANT),
        ([0.12, 0.6, 0.14, 0.13, 0.4], BackoffKind.CONSTANT),
        ([0.08, 0.15, 0.06, 0.19, 0.11], BackoffKind.CONSTANT),
    ],
)
def test_a_machine_that_is_busy_makes_no_backoff_of_none(gaps: list[float], kind: BackoffKind) -> None:
    assert fitted(gaps).kind is kind


@pytest.mark.parametrize("gaps", [[0.02, 0.04, 0.06, 0.12], [0.01, 0.02, 0.03, 0.06, 0.14]])
def test_growth_that_a_busy_machine_may_have_made_is_not_believed(gaps: list[float]) -> None:
    assert fitted(gaps).kind is BackoffKind.UNKNOWN


def hiccups(draw: random.Random) -> float:
    """What a machine adds that stops for up to a second, at one pause of ten."""
    return draw.random() * 0.02 + (draw.uniform(0.1, 1) if draw.random() < 0.1 else 0.0)


def crowded(draw: random.Random) -> float:
    """What one adds on which many others run: 50 ms most of the time, and half a second now and then."""
    return draw.lognormvariate(-3.0, 0.6)


@pytest.mark.parametrize("added", [hiccups, crowded])
@pytest.mark.parametrize(
    ("pauses", "wrong"),
    [
        (constant(0.005), BackoffKind.EXPONENTIAL),
        (constant(0.11), BackoffKind.EXPONENTIAL),
        (growing(0.2, 2, 5, 0.1), BackoffKind.IMMEDIATE),
    ],
    ids=["none at all", "at a pace", "growing"],
)
def test_five_pauses_tell_even_on_a_busy_machine(
    added: Callable[[random.Random], float], pauses: Pauses, wrong: BackoffKind
) -> None:
    draw = random.Random(1)
    found = [fitted([gap + added(draw) for gap in pauses(5, draw)]).kind for _ in range(1000)]
    assert found.count(wrong) <= 20
    assert found.count(BackoffKind.UNKNOWN) <= 50
    if wrong is BackoffKind.IMMEDIATE:
        assert not found.count(BackoffKind.IMMEDIATE) + found.count(BackoffKind.CONSTANT)


class Starved:
    """A machine on which whoever wants a turn waits for it: most of the time little, now and then for seconds."""

    def __init__(self, seed: int, usual: float) -> None:
        self.draw = random.Random(seed)
        self.usual = usual

    def turn(self) -> float:
        return min(self.draw.lognormvariate(math.log(self.usual), 1.0), 30 * self.usual)

    def seen(self, pauses: list[float]) -> tuple[list[float], float]:
        """What becomes of these pauses, and how late the proxy saw itself, twenty times a second."""
        gaps = [pause + sum(self.turn() for _ in range(TURNS)) for pause in pauses]
        return gaps, max(self.turn() for _ in range(max(3, round(sum(gaps) * 20))))


@pytest.mark.parametrize("usual", [0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("count", [4, 5, 8, 20])
def test_a_hot_loop_on_a_starved_machine_is_never_told_to_back_off(usual: float, count: int) -> None:
    for seed in range(500):
        machine = Starved(seed, usual)
        assert fitted(*machine.seen([0.0] * count)).kind is not BackoffKind.EXPONENTIAL


@pytest.mark.parametrize("usual", [0.01, 0.05, 0.1])
def test_a_client_that_backs_off_is_told_so_on_a_starved_machine(usual: float) -> None:
    kinds = [fitted(*Starved(seed, usual).seen([2.0**n for n in range(7)])).kind for seed in range(300)]
    assert kinds.count(BackoffKind.EXPONENTIAL) >= 290
    assert set(kinds) <= {BackoffKind.EXPONENTIAL, BackoffKind.UNKNOWN}


@pytest.mark.parametrize(
    ("gaps", "late", "kind"),
    [
        ([0.3, 0.6, 1.2, 2.4], 0.0, BackoffKind.EXPONENTIAL),
        ([0.3, 0.6, 1.2, 2.4], 0.1, BackoffKind.EXPONENTIAL),
        ([0.3, 0.6, 1.2, 2.4], 0.7, BackoffKind.UNKNOWN),
        ([0.01, 0.3, 0.6, 1.2, 2.4], 0.7, BackoffKind.UNKNOWN),
        ([1.0, 2.0, 4.0, 8.0, 16.0], 0.9, BackoffKind.EXPONENTIAL),
        ([1.0, 1.1, 1.0, 1.3], 0.3, BackoffKind.CONSTANT),
        ([0.3, 0.4, 0.5, 0.4], 0.5, BackoffKind.UNKNOWN),
        ([0.01, 0.02, 0.01], 0.5, BackoffKind.IMMEDIATE),
    ],
)
def test_what_our_own_lateness_may_have_made_is_unknown(gaps: list[float], late: float, kind: BackoffKind) -> None:
    found = fitted(gaps, late)
    assert found.kind is kind
    assert found.to_json().get("lateSeconds", 0.0) == late


def test_what_is_reported() -> None:
    assert fitted([1.0, 2.0, 4.0, 8.0]).to_json() == {
        "kind": "Exponential",
        "gaps": 4,
        "firstSeconds": 1.0,
        "longestSeconds": 8.0,
        "jitter": False,
        "factor": 2.0,
    }


@given(st.floats(0.06, 60), st.lists(st.floats(1, 2), min_size=3, max_size=32))
def test_one_length_with_jitter_never_counts_as_growing(length: float, parts: list[float]) -> None:
    assert fitted([length * part for part in parts]).kind is BackoffKind.CONSTANT


@given(st.floats(0.1, 5), st.floats(FACTORS[0] + 0.05, FACTORS[1] - 1), st.integers(4, 20), st.integers(0, 10))
def test_pure_growth_is_found_with_its_factor(first: float, factor: float, steps: int, stays: int) -> None:
    longest = first * factor ** (steps - 1)
    if longest / first < 2.6:
        return
    found = fitted([first * factor**n for n in range(steps)] + [longest] * stays)
    assert found.kind is BackoffKind.EXPONENTIAL
    assert found.factor == pytest.approx(factor, rel=0.05)
    assert not found.jitter


@given(st.lists(st.floats(0, 1e6), max_size=40))
def test_whatever_the_pauses_there_is_an_answer(gaps: list[float]) -> None:
    found = fitted(gaps)
    assert found.gaps == len(gaps)
    assert (found.factor is not None) == (found.kind is BackoffKind.EXPONENTIAL)
    assert (found.kind is BackoffKind.NONE) == (not gaps)
