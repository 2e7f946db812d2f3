"""JSON-RPC 2.0 over HTTP: a call is the body of a POST, and its answer is judged by what it says.

What answers mean (https://www.jsonrpc.org/specification, 4 and 5): an answer has the id of its request, and either a
`result`, which is there if the call succeeded, or an `error`, which is there if it did not; an error about a request
whose id could not be read has the id null. HTTP's status is none of the specification's business. Hence

acknowledged    a result, by the id of the call, and no error.
failed          an error by that id, or by null, which is about a request that was never understood; 400 to 499
                without an answer by JSON-RPC. Not every server has undone what it began when it says error, and -32603,
                an internal error, says nothing of the kind: such codes are `unknownCodes`, and unknown.
unknown         an answer with another id, or both or none of the two; all else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final

from bounceback.accounting.ledger import Outcome
from bounceback.api.operations import HttpRead, HttpTake, HttpWrite, RpcCall
from bounceback.workload.client import Answer, number_of
from bounceback.workload.http import FAILED, MISSING, REFUSAL, UNKNOWN, Exchange, Reply, Template, at, way_of

DONE: Final = Answer(Outcome.ACKNOWLEDGED)

Json = dict[str, Any]


def exchange(head: str, operation: HttpWrite | HttpRead | HttpTake, call: RpcCall, *, is_set: bool) -> Exchange:
    """`head` is the request's but for its length."""
    template = Template(head, f'"method": {json.dumps(call.method)}, "params": {call.params}}}', variable=True)
    judge = partial(_judged, operation, call, is_set)
    numbers = count(1)

    def exchanged(key: str, value: int) -> tuple[bytes, Callable[[Reply], Answer]]:
        number = next(numbers)
        return template.request(key, value, f'{{"jsonrpc": "2.0", "id": {number}, '), partial(judge, number)

    return exchanged


def _judged(
    operation: HttpWrite | HttpRead | HttpTake, call: RpcCall, is_set: bool, number: int, reply: Reply
) -> Answer:
    without = FAILED if isinstance(operation, HttpRead) else UNKNOWN  # a read changes nothing
    status, body = reply
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return FAILED if status in REFUSAL else without
    error, about = told.get("error"), told.get("id", MISSING)  # JSON-RPC 1.0 says "error": null to what succeeded
    if error is not None and told.get("result") is None and about in (number, None):
        return _of_error(operation, call, error, without)
    if error is None and "result" in told and about == number:
        return _of_result(operation, is_set, told["result"], without)
    return without


def _of_error(operation: HttpWrite | HttpRead | HttpTake, call: RpcCall, error: Any, without: Answer) -> Answer:
    code = error.get("code") if isinstance(error, dict) else None
    if code in call.absent_codes and not isinstance(operation, HttpWrite):
        return DONE
    return without if code is None or code in call.unknown_codes else FAILED


def _of_result(operation: HttpWrite | HttpRead | HttpTake, is_set: bool, result: Any, without: Answer) -> Answer:
    try:
        found = at(result, way_of(operation.field))
    except (LookupError, TypeError, ValueError):
        return without
    if isinstance(operation, HttpWrite):
        return UNKNOWN if operation.field and found is None else DONE
    if is_set:
        return Answer(Outcome.ACKNOWLEDGED, 1 if found else None)
    return Answer(Outcome.ACKNOWLEDGED, None if found is None else number_of(found))
