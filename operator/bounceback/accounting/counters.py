"""The checker of counters: each key counts every increment once."""

from __future__ import annotations

from collections import defaultdict

from bounceback.accounting.account import Account, Flaw
from bounceback.accounting.ledger import ACKNOWLEDGED, FAILED, READ, WRITE, Ledger, Model


def check_counter(ledger: Ledger) -> Account:
    """A count is at least what was acknowledged before the read began, and at most what had begun when it ended.

    Lost: what the count at the end is short of the acknowledged increments. Duplicated: what it is beyond the
    acknowledged and the unknown ones. Stale: a read below what was acknowledged, or read, before it began. Phantom: a
    read above what had begun by then.
    """
    account = Account.of(Model.COUNTER, ledger)
    functions, outcomes, keys, values = ledger.functions, ledger.outcomes, ledger.keys, ledger.values
    acknowledged: dict[int, int] = defaultdict(int)
    possible: dict[int, int] = defaultdict(int)
    seen: dict[int, int] = defaultdict(int)
    floors: dict[int, int] = {}
    at_the_end: dict[int, tuple[int, int]] = {}
    final = ledger.last_of_load
    for event in ledger.events:
        number = event >> 1
        key = keys[number]
        if not event & 1:
            if functions[number] == READ:
                floors[number] = max(acknowledged[key], seen[key])
            elif outcomes[number] != FAILED:
                possible[key] += 1
            continue
        if functions[number] == READ:
            floor = floors.pop(number)
        if outcomes[number] != ACKNOWLEDGED:
            continue
        if functions[number] == WRITE:
            acknowledged[key] += 1
        elif number >= final:
            at_the_end[key] = number, values[number]
        elif values[number] > possible[key]:
            account.flaws[Flaw.PHANTOM].add(number)
        else:
            if values[number] < floor:
                account.flaws[Flaw.STALE].add(number)
            seen[key] = max(seen[key], values[number])
    for key, (number, value) in at_the_end.items():
        if value < acknowledged[key]:
            account.flaws[Flaw.LOST].add(number, acknowledged[key] - value)
        if value > possible[key]:
            account.flaws[Flaw.DUPLICATED].add(number, value - possible[key])
        account.took_effect += max(0, min(value, possible[key]) - acknowledged[key])
    written = {key for key, count in acknowledged.items() if count}
    account.read_back = len(written & at_the_end.keys())
    account.not_read_back = len(written - at_the_end.keys())
    return account
