"""How much is filled, which limit leaves how many descriptors, what is corrupt; and that acts survive their journey."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.drivers.descriptors import _taken
from bounceback.types.clock import Skew
from bounceback.types.files import Spoil, corrupted, pieces
from bounceback.types.inside import InsideAct, Who
from bounceback.types.plan import act_from
from bounceback.types.scarce import Backlog, Crowd, Descriptors, Fill

ACTS = [
    Fill(path="/data", free_percent=5, keep=True, who=Who(container="app")),
    Descriptors(leave=3, who=Who("app", "nginx", 80)),
    Crowd(port=80, connections=10_000, per_second=100),
    Backlog(port=80, size=4),
    Spoil(path="/data/file", damage="Corrupt", percent=5.0, seed=7, name="bad"),
    Skew(offset_milliseconds=-500, drift_ppm=100, who=Who("app")),
]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.driver)
def test_an_act_survives_its_journey(act: InsideAct) -> None:
    assert act_from(asdict(act)) == act


@pytest.mark.parametrize(
    ("fill", "amount"),
    [
        (Fill(path="/", free_bytes=100), 300),
        (Fill(path="/", free_percent=10), 300),
        (Fill(path="/", amount_bytes=50), 50),
        (Fill(path="/", free_bytes=500), 0),
        (Fill(path="/", free_bytes=100).scaled(0.5), 150),
        (Fill(path="/", amount_bytes=50).scaled(0.5).scaled(0.5), 12),
    ],
)
def test_how_much_is_filled_of_a_disk_of_1000_with_400_free(fill: Fill, amount: int) -> None:
    assert fill.amount(1000, 400) == amount


@pytest.mark.parametrize(
    ("taken", "leave", "limit"),
    [([0, 1, 2], 0, 3), ([0, 1, 2], 2, 5), ([0, 1, 5], 0, 2), ([0, 1, 5, 3], 2, 6), ([], 0, 0)],
)
def test_the_limit_that_leaves_just_so_many_numbers(taken: list[int], leave: int, limit: int) -> None:
    assert _taken(taken, leave) == limit


@given(taken=st.sets(st.integers(0, 200)), leave=st.integers(0, 50))
def test_below_the_limit_just_so_many_numbers_are_free(taken: set[int], leave: int) -> None:
    limit = _taken(taken, leave)
    assert len(set(range(limit)) - taken) == leave


def test_a_weaker_fault_takes_less() -> None:
    assert Descriptors(limit=100).scaled(0.5).limit == 200
    assert Descriptors(leave=0).scaled(0.5).leave == 1
    assert Backlog(port=80, size=1).scaled(0.5).size == 3
    assert Crowd(leave_ports=0).scaled(0.5).share == 0.5


@given(size=st.integers(1, 100_000), percent=st.floats(0.1, 100), seed=st.integers(0, 9))
def test_pieces_are_in_the_file_in_order_and_never_none(size: int, percent: float, seed: int) -> None:
    act = Spoil(path="/f", damage="Corrupt", percent=percent, seed=seed, name="bad")
    found = pieces(act, size)
    assert found == pieces(act, size), "the same seed, the same pieces"
    ends = [0]
    for start, end, mask in found:
        assert ends[-1] <= start < end <= size
        assert 1 <= mask <= 255
        ends.append(end)
    assert len(ends) > 1


def test_about_as_much_is_corrupt_as_was_asked_for() -> None:
    act = Spoil(path="/f", damage="Corrupt", percent=10.0, seed=1, name="bad")
    share = sum(end - start for start, end, _ in pieces(act, 1 << 20)) / (1 << 20)
    assert abs(share - 0.1) < 0.02
    whole = Spoil(path="/f", damage="Corrupt", percent=100.0, name="bad")
    assert sum(end - start for start, end, _ in pieces(whole, 12_345)) == 12_345


@given(data=st.binary(max_size=100), mask=st.integers(1, 255))
def test_each_byte_of_a_corrupt_piece_is_another_one_and_damage_undoes_damage(data: bytes, mask: int) -> None:
    bad = corrupted(data, mask)
    assert all(one != other for one, other in zip(data, bad, strict=True))
    assert corrupted(bad, mask) == data
