"""What keeps a look from being healthy, and what keeps us from looking: never to be taken for one another."""

from __future__ import annotations


class NotHealthyError(Exception):
    """The system did not answer as it should; the message says how, in a line."""


class CannotLookError(Exception):
    """We cannot look, which says nothing about the system; the message says why, and what to change."""


class UnansweredError(CannotLookError):
    """What we look with did not answer this time: nobody looked, and it may well be otherwise the next time."""
