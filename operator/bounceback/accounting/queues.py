"""The checker of queues: what is put in comes out, once, and in order."""

from __future__ import annotations

from array import array

from bounceback.accounting.account import Account, Flaw
from bounceback.accounting.ledger import ACKNOWLEDGED, FAILED, NOTHING, TAKE, UNKNOWN, WRITE, Ledger, Model

NEVER = 0xFFFFFFFF
NONE_YET = -1
MANY = 255


def check_queue(ledger: Ledger) -> Account:
    """Lost: acknowledged and never taken out, though the queue was empty in the end.

    As many of these as there were takes without an answer may be lost only on the way to us, and are told apart.
    Duplicated: taken out more than once. Reordered: taken out after a value that was put in after it was (one ended
    before the other began, both times). Phantom: taken out though its put failed, had not begun, or never was.
    """
    account = Account.of(Model.QUEUE, ledger)
    taken = _follow(ledger, account)
    missing = [
        number
        for number, (function, outcome) in enumerate(zip(ledger.functions, ledger.outcomes, strict=True))
        if function == WRITE and outcome == ACKNOWLEDGED and not taken[number]
    ]
    if not _emptied(ledger):
        account.read_back = account.acknowledged - len(missing)
        account.not_read_back = len(missing)
        return account
    account.read_back = account.acknowledged
    unanswered = sum(
        function == TAKE and outcome == UNKNOWN
        for function, outcome in zip(ledger.functions, ledger.outcomes, strict=True)
    )
    account.may_be_lost = min(unanswered, len(missing))
    for number in missing[account.may_be_lost :]:
        account.flaws[Flaw.LOST].add(number)
    return account


def _follow(ledger: Ledger, account: Account) -> bytearray:
    """How often each value was taken out."""
    functions, outcomes, values = ledger.functions, ledger.outcomes, ledger.values
    began = array("I", [NEVER]) * len(ledger)
    ended = array("I", [NEVER]) * len(ledger)
    taken = bytearray(len(ledger))
    newest = NONE_YET  # where the latest put began of what has been taken out
    floors: dict[int, int] = {}  # of takes under way: that, when they began
    begun = 0
    for place, event in enumerate(ledger.events):
        number = event >> 1
        if not event & 1:
            begun = number + 1
            began[number] = place
            if functions[number] == TAKE:
                floors[number] = newest
            continue
        if functions[number] == WRITE:
            if outcomes[number] == ACKNOWLEDGED:
                ended[number] = place
            continue
        floor = floors.pop(number)
        value = values[number]
        if outcomes[number] != ACKNOWLEDGED or value == NOTHING:
            continue
        if not 0 <= value < begun or functions[value] != WRITE or outcomes[value] == FAILED:
            account.flaws[Flaw.PHANTOM].add(number)
            continue
        if taken[value] < MANY:
            taken[value] += 1
        if taken[value] > 1:
            if taken[value] == 2:
                account.flaws[Flaw.DUPLICATED].add(value)
            continue  # what comes again comes late: that is one flaw, not two
        if outcomes[value] == UNKNOWN:
            account.took_effect += 1
        if floor > ended[value]:
            account.flaws[Flaw.REORDERED].add(value)
        newest = max(newest, began[value])
    return taken


def _emptied(ledger: Ledger) -> bool:
    """Whether the last take that got an answer found nothing more, after the load had ended."""
    for number in range(len(ledger) - 1, ledger.last_of_load - 1, -1):
        if ledger.functions[number] == TAKE and ledger.outcomes[number] == ACKNOWLEDGED:
            return ledger.values[number] == NOTHING
    return False
