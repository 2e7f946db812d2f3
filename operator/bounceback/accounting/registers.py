"""The checker of registers: each key has what was written to it last."""

from __future__ import annotations

from array import array
from typing import Final

from bounceback.accounting.account import Account, Flaw
from bounceback.accounting.ledger import ACKNOWLEDGED, FAILED, NOTHING, READ, WRITE, Ledger, Model

NEVER: Final = 0xFFFFFFFF
"""The place of an end that is not known: later than any other."""
AT_FIRST: Final = -1
"""The place of what was there before the first operation."""


def check_register(ledger: Ledger) -> Account:
    """One write is before another when it ended before the other began; without an acknowledgement it never ended.

    Stale: a read of a value that is before an acknowledged write which ended before the read began. Reordered: a read
    of a value that is before one that an earlier read has seen. Lost: the acknowledged writes that began after the
    write of what the key has in the end was over. Phantom: a value that nobody wrote to that key, or whose write
    failed or had not begun.
    """
    account = Account.of(Model.REGISTER, ledger)
    fallen, read = _follow(ledger, account)
    written = _written(ledger)
    account.read_back = len(written & read)
    account.not_read_back = len(written - read)
    if fallen:
        _count_lost(ledger, account, fallen)
    return account


def _follow(ledger: Ledger, account: Account) -> tuple[dict[int, int], set[int]]:
    """The keys that fell back, each with where the write of what it has was over; and the keys that were read back."""
    functions, outcomes, keys, values = ledger.functions, ledger.outcomes, ledger.keys, ledger.values
    ended = array("I", [NEVER]) * len(ledger)
    began = array("I", [NEVER]) * len(ledger)
    acknowledged: dict[int, int] = {}  # where the latest acknowledged write of the key began
    seen: dict[int, int] = {}  # where the latest write of the key that was read began
    floors: dict[int, tuple[int, int]] = {}  # of reads under way: both as they were when it began
    fallen: dict[int, int] = {}
    read: set[int] = set()
    final = ledger.last_of_load
    begun = 0
    for place, event in enumerate(ledger.events):
        number = event >> 1
        key = keys[number]
        if not event & 1:
            begun = number + 1
            began[number] = place
            if functions[number] == READ:
                floors[number] = acknowledged.get(key, AT_FIRST), seen.get(key, AT_FIRST)
        elif functions[number] == WRITE:
            if outcomes[number] == ACKNOWLEDGED:
                ended[number] = place
                if began[number] > acknowledged.get(key, AT_FIRST):
                    acknowledged[key] = began[number]
        else:
            written, observed = floors.pop(number)
            if outcomes[number] != ACKNOWLEDGED:
                continue
            value = values[number]
            if number >= final:
                read.add(key)
            if value == NOTHING:
                over = AT_FIRST
            elif not 0 <= value < begun or not _may_be(ledger, value, key):
                account.flaws[Flaw.PHANTOM].add(number)
                continue
            else:
                over = ended[value]
                if began[value] > seen.get(key, AT_FIRST):
                    seen[key] = began[value]
            if written > over:
                if number >= final:
                    fallen[key] = over
                else:
                    account.flaws[Flaw.STALE].add(number)
            elif observed > over:
                account.flaws[Flaw.REORDERED].add(number)
    return fallen, read


def _may_be(ledger: Ledger, value: int, key: int) -> bool:
    """Whether that operation may have given the key its value."""
    return ledger.functions[value] == WRITE and ledger.keys[value] == key and ledger.outcomes[value] != FAILED


def _written(ledger: Ledger) -> set[int]:
    """The keys with an acknowledged write."""
    return {
        key
        for key, function, outcome in zip(ledger.keys, ledger.functions, ledger.outcomes, strict=True)
        if function == WRITE and outcome == ACKNOWLEDGED
    }


def _count_lost(ledger: Ledger, account: Account, fallen: dict[int, int]) -> None:
    functions, outcomes, keys = ledger.functions, ledger.outcomes, ledger.keys
    lost = account.flaws[Flaw.LOST]
    for place, event in enumerate(ledger.events):
        number = event >> 1
        if (
            not event & 1
            and functions[number] == WRITE
            and outcomes[number] == ACKNOWLEDGED
            and place > fallen.get(keys[number], NEVER)
        ):
            lost.add(number)
