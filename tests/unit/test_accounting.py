"""Workloads' accounts: each flaw is told where it is and nowhere else, and what was not looked at is no pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.accounting.account import SEEN, Account, Flaw, judge
from bounceback.accounting.checking import check
from bounceback.accounting.ledger import FOREIGN, NOTHING, Function, Ledger, Model
from bounceback.types.outcome import Verdict
from tests.ledgers import FAILED, OK, READ, TAKE, UNKNOWN, WRITE, Told, ledgers
from tests.naive_accounting import agree


@pytest.fixture
def told() -> Told:
    return Told()


def flaws(account: Account) -> dict[Flaw, int]:
    return {flaw: finding.count for flaw, finding in account.flaws.items() if finding.count or finding.examples}


# Sets


def test_an_acknowledged_value_that_the_list_has_not_is_lost(told: Told) -> None:
    kept, lost = told.write(), told.write()
    told.at_the_end([kept])
    account = check(Model.SET, told.ledger)
    assert flaws(account) == {Flaw.LOST: 1}
    assert account.flaws[Flaw.LOST].examples == [lost]
    assert judge(account).verdict is Verdict.FAILED


def test_an_unknown_write_may_be_there_or_not(told: Told) -> None:
    told.write()
    there, _ = told.write(UNKNOWN), told.write(UNKNOWN)
    told.at_the_end([0, there])
    account = check(Model.SET, told.ledger)
    assert (flaws(account), account.unknown, account.took_effect) == ({}, 2, 1)
    assert judge(account).verdict is Verdict.PASSED


def test_a_failed_write_that_is_there_is_a_phantom_and_so_is_what_nobody_wrote(told: Told) -> None:
    told.at_the_end([told.write(), told.write(FAILED), FOREIGN, 77])
    assert flaws(check(Model.SET, told.ledger)) == {Flaw.PHANTOM: 3}


def test_a_value_that_is_listed_thrice_is_one_duplicate(told: Told) -> None:
    number = told.write()
    told.at_the_end([number, number, number])
    assert flaws(check(Model.SET, told.ledger)) == {Flaw.DUPLICATED: 1}


def test_a_read_that_misses_what_was_acknowledged_is_stale_unless_the_value_is_lost(told: Told) -> None:
    late, lost = told.write(), told.write()
    told.read(0, late)
    told.read(0, lost)
    told.at_the_end([late])
    assert flaws(check(Model.SET, told.ledger)) == {Flaw.STALE: 1, Flaw.LOST: 1}


def test_what_a_read_has_seen_is_known_though_nobody_acknowledged_it(told: Told) -> None:
    number = told.write(UNKNOWN)
    told.read(1, number)
    told.at_the_end([])
    account = check(Model.SET, told.ledger)
    assert (flaws(account), account.took_effect) == ({Flaw.LOST: 1}, 1)


def test_single_reads_at_the_end_tell_of_no_duplicates(told: Told) -> None:
    kept, lost, unread = told.write(), told.write(), told.write()
    told.at_the_end()
    told.read(1, kept)
    told.read(0, lost)
    told.read(0, unread, FAILED)
    account = check(Model.SET, told.ledger)
    assert Flaw.DUPLICATED not in account.flaws
    assert (flaws(account), account.read_back, account.not_read_back) == ({Flaw.LOST: 1}, 2, 1)


def test_a_read_that_overlaps_a_write_may_miss_it(told: Told) -> None:
    number = told.begin(WRITE)
    told.read(0, number)
    told.end(number)
    told.at_the_end([number])
    assert flaws(check(Model.SET, told.ledger)) == {}


# Registers


def test_a_register_that_falls_back_loses_what_was_written_since(told: Told) -> None:
    first, *_ = [told.write() for _ in range(3)]
    told.at_the_end()
    told.read(first)
    account = check(Model.REGISTER, told.ledger)
    assert flaws(account) == {Flaw.LOST: 2}
    assert account.flaws[Flaw.LOST].examples == [1, 2]


def test_a_register_that_has_nothing_yet_is_in_order(told: Told) -> None:
    told.read(NOTHING)
    told.write(key=1)
    told.at_the_end()
    told.read(NOTHING)
    assert flaws(check(Model.REGISTER, told.ledger)) == {}


def test_writes_at_the_same_time_may_end_either_way(told: Told) -> None:
    one, other = told.begin(WRITE), told.begin(WRITE)
    told.end(one)
    told.end(other)
    told.at_the_end()
    told.read(one)
    assert flaws(check(Model.REGISTER, told.ledger)) == {}


def test_an_unknown_write_may_take_effect_at_any_time_later(told: Told) -> None:
    ghost = told.write(UNKNOWN)
    told.write()
    told.at_the_end()
    told.read(ghost)
    assert flaws(check(Model.REGISTER, told.ledger)) == {}


def test_a_read_of_what_was_overwritten_before_it_began_is_stale(told: Told) -> None:
    old, new = told.write(), told.write()
    told.read(old)
    told.read(NOTHING)
    told.at_the_end()
    told.read(new)
    assert flaws(check(Model.REGISTER, told.ledger)) == {Flaw.STALE: 2}


def test_reads_that_go_back_in_time_are_reordered_though_nobody_acknowledged_the_newer_value(told: Told) -> None:
    old = told.write()
    new = told.begin(WRITE)
    told.read(new)
    told.read(old)
    assert flaws(check(Model.REGISTER, told.ledger)) == {Flaw.REORDERED: 1}


def test_a_write_that_began_early_and_ended_late_does_not_hide_a_stale_read(told: Told) -> None:
    early = told.begin(WRITE)
    old, _ = told.write(), told.write()
    told.end(early)
    told.read(old)
    assert flaws(check(Model.REGISTER, told.ledger)) == {Flaw.STALE: 1}


def test_a_read_of_what_began_early_does_not_hide_that_reads_go_back_in_time(told: Told) -> None:
    early = told.begin(WRITE)
    old = told.write()
    new = told.begin(WRITE)
    for value in (new, early, old):
        told.read(value)
    assert flaws(check(Model.REGISTER, told.ledger)) == {Flaw.REORDERED: 1}


@pytest.mark.parametrize(("model", "other"), [(Model.REGISTER, READ), (Model.QUEUE, TAKE)])
def test_what_is_seen_before_it_was_written_is_a_phantom(model: Model, other: Function, told: Told) -> None:
    told.end(told.begin(other), OK, 1)
    assert told.write() == 1
    assert flaws(check(model, told.ledger))[Flaw.PHANTOM] == 1


def test_a_value_of_another_key_is_a_phantom(told: Told) -> None:
    number = told.write(key=1)
    told.read(number, key=2)
    told.read(FOREIGN, key=1)
    assert flaws(check(Model.REGISTER, told.ledger)) == {Flaw.PHANTOM: 2}


def test_a_register_that_has_what_it_refused_shows_a_phantom(told: Told) -> None:
    told.read(told.write(FAILED))
    assert flaws(check(Model.REGISTER, told.ledger)) == {Flaw.PHANTOM: 1}


def test_a_key_that_nobody_read_back_is_no_pass(told: Told) -> None:
    told.write(key=1)
    number = told.write(key=2)
    told.at_the_end()
    told.read(number, key=2)
    account = check(Model.REGISTER, told.ledger)
    assert (account.read_back, account.not_read_back) == (1, 1)
    assert judge(account).verdict is Verdict.INCONCLUSIVE


# Counters


def test_a_count_below_the_acknowledged_ones_has_lost_the_difference(told: Told) -> None:
    for _ in range(5):
        told.write()
    told.at_the_end()
    told.read(3)
    assert flaws(check(Model.COUNTER, told.ledger)) == {Flaw.LOST: 2}


def test_a_count_beyond_acknowledged_and_unknown_ones_has_counted_twice(told: Told) -> None:
    for outcome in (OK, UNKNOWN, FAILED):
        told.write(outcome)
    told.at_the_end()
    told.read(4)
    account = check(Model.COUNTER, told.ledger)
    assert (flaws(account), account.took_effect) == ({Flaw.DUPLICATED: 2}, 1)


def test_an_unknown_increment_may_count_or_not(told: Told) -> None:
    for key in (0, 1):
        told.write(key=key)
        told.write(UNKNOWN, key=key)
    told.at_the_end()
    told.read(1, key=0)
    told.read(2, key=1)
    account = check(Model.COUNTER, told.ledger)
    assert (flaws(account), account.took_effect) == ({}, 1)


def test_a_count_that_goes_back_is_stale_and_one_ahead_of_its_time_a_phantom(told: Told) -> None:
    told.begin(WRITE)
    told.read(1)
    told.read(0)
    told.read(2)
    assert flaws(check(Model.COUNTER, told.ledger)) == {Flaw.STALE: 1, Flaw.PHANTOM: 1}


# Queues


def drained(told: Told, *values: int) -> Account:
    told.at_the_end()
    for value in (*values, NOTHING):
        told.take(value)
    return check(Model.QUEUE, told.ledger)


def test_what_was_put_in_and_never_came_out_is_lost(told: Told) -> None:
    kept, _ = told.write(), told.write()
    assert flaws(drained(told, kept)) == {Flaw.LOST: 1}


def test_a_take_without_an_answer_may_have_had_it(told: Told) -> None:
    told.write()
    told.take(NOTHING, UNKNOWN)
    account = drained(told)
    assert (flaws(account), account.may_be_lost) == ({}, 1)
    assert judge(account).verdict is Verdict.INCONCLUSIVE


def test_what_comes_out_twice_is_duplicated_and_what_nobody_put_in_a_phantom(told: Told) -> None:
    number = told.write()
    assert flaws(drained(told, number, number, number, FOREIGN)) == {Flaw.DUPLICATED: 1, Flaw.PHANTOM: 1}


def test_what_is_overtaken_is_reordered(told: Told) -> None:
    one, two, three = (told.write() for _ in range(3))
    account = drained(told, three, one, two)
    assert flaws(account) == {Flaw.REORDERED: 2}
    assert account.flaws[Flaw.REORDERED].examples == [one, two]


def test_takes_at_the_same_time_may_get_their_values_in_either_order(told: Told) -> None:
    one, two = told.write(), told.write()
    slow, quick = told.begin(TAKE), told.begin(TAKE)
    told.end(quick, OK, two)
    told.end(slow, OK, one)
    assert flaws(drained(told)) == {}


def test_a_queue_that_was_not_emptied_has_lost_nothing_yet(told: Told) -> None:
    one, _ = told.write(), told.write()
    told.at_the_end()
    told.take(one)
    account = check(Model.QUEUE, told.ledger)
    assert (flaws(account), account.not_read_back) == ({}, 1)
    assert judge(account).verdict is Verdict.INCONCLUSIVE


# The verdict


@pytest.mark.parametrize("model", list(Model))
def test_a_workload_that_did_nothing_never_passes(model: Model) -> None:
    assert judge(check(model, Ledger())).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("model", list(Model))
def test_a_workload_that_read_nothing_back_never_passes(model: Model, told: Told) -> None:
    told.write()
    told.at_the_end()
    judged = judge(check(model, told.ledger), SEEN[model])
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "nothing was read back" in judged.reasons


def test_a_flaw_that_is_allowed_is_told_and_does_not_fail(told: Told) -> None:
    number = told.write()
    told.at_the_end([number, number])
    account = check(Model.SET, told.ledger)
    assert judge(account, [Flaw.LOST]).verdict is Verdict.FAILED
    assert judge(account, [Flaw.DUPLICATED]).verdict is Verdict.PASSED
    assert account.count(Flaw.DUPLICATED) == 1


# Against a checker that looks at every pair


@given(st.data(), st.sampled_from(list(Model)))
def test_the_checkers_say_what_the_definitions_say(data: st.DataObject, model: Model) -> None:
    ledger = data.draw(ledgers(model))
    account = check(model, ledger)
    agree(account, ledger)
    passed = judge(account).verdict is Verdict.PASSED
    assert not passed or (account.acknowledged and account.read_back and not flaws(account))
