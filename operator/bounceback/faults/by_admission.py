"""What of a client fault can be done by admission: the API server asks us about writes before it carries them out.

So a client that has no proxy before it can be hit as well, in what it writes; what it reads, nobody is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bounceback.types.api_rule import Act, Answer, Body, Delay, RateLimit, Requests

VERBS: Final = ("create", "update", "patch", "delete", "deletecollection")
LONGEST_DELAY: Final = 25_000_000
"""Microseconds; the API server waits for 30 s at most (timeoutSeconds of a webhook)."""


def obstacle(act: Act, requests: Iterable[Requests]) -> str:
    """Why it cannot be done like that, or nothing."""
    for each in requests:
        if each.paths or not each.verbs or any(verb not in VERBS for verb in each.verbs):
            return f"requests must name verbs among {', '.join(VERBS)}: nobody is asked about others"
    match act:
        case RateLimit():
            return ""
        case Answer(body=Body.STATUS, headers=(), retry_date=False):
            return ""
        case Answer():
            return "an answer to a write can only be a Status, without headers or a retryAfterDate"
        case Delay(before_us=before, after_us=0, jitter_us=jitter) if before + jitter <= LONGEST_DELAY:
            return ""
        case Delay():
            return f"a delay can only be beforeMilliseconds, of at most {LONGEST_DELAY // 1000} with its jitter"
        case _:
            return "only answer, rateLimit and delay can be done there"
