"""The checker of sets: what was added is there, once, from then on."""

from __future__ import annotations

from bounceback.accounting.account import Account, Flaw
from bounceback.accounting.ledger import ACKNOWLEDGED, FAILED, READ, UNKNOWN, WRITE, Ledger, Model

ABSENT, ONCE, OFTEN = 1, 2, 3
"""What the read-back says of a value; 0: nothing."""
IS_ACKNOWLEDGED = bytes(outcome == ACKNOWLEDGED for outcome in range(256))


def check_set(ledger: Ledger) -> Account:
    """A value is known to be there once its write is acknowledged or a read has seen it.

    Lost: known, and absent from the read-back. Stale: a read that began when the value was known and did not see it,
    though it is not lost. Duplicated: in the list at the end more than once. Phantom: seen though its write failed or
    never was.
    """
    account = Account.of(Model.SET, ledger)
    known, missed = _read_while_loading(ledger, account)
    found = _at_the_end(ledger, account)
    _balance(ledger, account, known, found)
    for read in missed:
        if found[ledger.keys[read]] != ABSENT:
            account.flaws[Flaw.STALE].add(read)
    return account


def _read_while_loading(ledger: Ledger, account: Account) -> tuple[bytearray, list[int]]:
    """Which values are known to have been there, and the reads that did not see one that was."""
    functions, outcomes, keys, values = ledger.functions, ledger.outcomes, ledger.keys, ledger.values
    if not functions.count(bytes([READ])):
        return outcomes.translate(IS_ACKNOWLEDGED), []
    known = bytearray(len(ledger))
    missed: list[int] = []
    was_known: dict[int, int] = {}  # of reads under way: whether they must see it
    for event in ledger.events:
        number = event >> 1
        if not event & 1:
            if functions[number] == READ:
                was_known[number] = known[keys[number]]
        elif functions[number] == WRITE:
            if outcomes[number] == ACKNOWLEDGED:
                known[number] = 1
        else:
            expected, asked = was_known.pop(number), keys[number]
            if outcomes[number] != ACKNOWLEDGED:
                continue
            if not values[number]:
                if expected:
                    missed.append(number)
            elif outcomes[asked] == FAILED:
                account.flaws[Flaw.PHANTOM].add(number)
            else:
                known[asked] = 1
    return known, missed


def _at_the_end(ledger: Ledger, account: Account) -> bytearray:
    """Of each value what the read-back says: by the list where there is one, else by the reads."""
    functions, outcomes = ledger.functions, ledger.outcomes
    count = len(ledger)
    if ledger.listed is not None:
        found = bytearray(bytes([ABSENT])) * count
        for value in ledger.listed:
            if not 0 <= value < count or functions[value] != WRITE or outcomes[value] == FAILED:
                account.flaws[Flaw.PHANTOM].add(value)
            elif found[value] == ABSENT:
                found[value] = ONCE
            elif found[value] == ONCE:
                found[value] = OFTEN
                account.flaws[Flaw.DUPLICATED].add(value)
        return found
    del account.flaws[Flaw.DUPLICATED]  # who asks for one value is not told how often it is there
    found = bytearray(count)
    for number in range(ledger.last_of_load, count):
        if functions[number] == READ and outcomes[number] == ACKNOWLEDGED:
            found[ledger.keys[number]] = ONCE if ledger.values[number] else ABSENT
    return found


def _balance(ledger: Ledger, account: Account, known: bytearray, found: bytearray) -> None:
    """What is known to have been written against what was found."""
    is_write = ledger.functions.translate(bytes(function == WRITE for function in range(256)))
    for number, (write, outcome, was_there, end) in enumerate(
        zip(is_write, ledger.outcomes, known, found, strict=True)
    ):
        if not write:
            continue
        if outcome == ACKNOWLEDGED:
            account.read_back += end != 0
            account.not_read_back += end == 0
        elif outcome == UNKNOWN:
            account.took_effect += end > ABSENT or was_there
        if was_there and end == ABSENT:
            account.flaws[Flaw.LOST].add(number)
