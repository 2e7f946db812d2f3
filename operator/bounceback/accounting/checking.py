"""Each model with its checker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bounceback.accounting.account import Account
from bounceback.accounting.counters import check_counter
from bounceback.accounting.ledger import Ledger, Model
from bounceback.accounting.queues import check_queue
from bounceback.accounting.registers import check_register
from bounceback.accounting.sets import check_set

CHECKERS: Final[Mapping[Model, Callable[[Ledger], Account]]] = {
    Model.REGISTER: check_register,
    Model.SET: check_set,
    Model.COUNTER: check_counter,
    Model.QUEUE: check_queue,
}


def check(model: Model, ledger: Ledger) -> Account:
    """The account of a workload that is over."""
    return CHECKERS[model](ledger)
