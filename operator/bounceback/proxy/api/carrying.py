"""An exchange that rules hit, from its first byte to its last: a task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Final

from bounceback.proxy.api import rewriting
from bounceback.proxy.api.exchange import Exchange, Reply
from bounceback.proxy.api.rulebook import Applied
from bounceback.proxy.api.status import gone_event, reply, throttled
from bounceback.types.api_rule import (
    Act,
    Answer,
    Crash,
    Cut,
    Delay,
    Ending,
    LoseReply,
    OldVersion,
    OtherNamespace,
    RateLimit,
    SpoilToken,
)

if TYPE_CHECKING:
    from bounceback.proxy.api.gate import Gate

FIRST_EVENT_SECONDS: Final = 0.2
"""What a watch from a version that is gone is answered with comes at once."""
ERROR_EVENT: Final = b'"type":"ERROR"'


def needs_body(hits: Sequence[Applied]) -> bool:
    """Whether somebody wants to read the body: it is kept from its first byte then."""
    return any(
        isinstance(act, OldVersion | OtherNamespace) or _is_about_body(act) for act in (h.rule.act for h in hits)
    )


def _is_about_body(act: Act) -> bool:
    """Whether the API server's own words would name what is in the body: AlreadyExists does."""
    return isinstance(act, Answer) and act.code == HTTPStatus.CONFLICT


class Carrier:
    """What the rules that hit one exchange make of it."""

    def __init__(self, gate: Gate, exchange: Exchange, hits: Sequence[Applied]) -> None:
        self._gate = gate
        self._exchange = exchange
        self._hits = hits
        self._before = self._after = 0.0  # seconds
        self._lost: Applied | None = None
        self._expired = False  # it is a watch from a version of long ago

    async def carry(self) -> None:
        exchange = self._exchange
        exchange.touched = not all(isinstance(applied.rule.act, Delay) for applied in self._hits)
        if not await self._goes_on():
            return
        if self._before:
            await asyncio.sleep(self._before)
        if self._lost is not None:
            exchange.reply = Reply.LOSE
        elif self._after or self._expired:
            exchange.reply = Reply.HOLD
        exchange.open()
        exchange.send()
        exchange.client.go_on()
        if self._expired and self._lost is None and not await self._expires():
            return
        if self._after and self._lost is None:
            await exchange.until_answering()
            await asyncio.sleep(self._after)
            self._release()
        await exchange.until_answered()
        if self._lost is None:
            exchange.client.finished(exchange)
            return
        await asyncio.sleep(self._after)
        if isinstance(self._lost.rule.act, Crash):
            await self._crash(self._lost)
        else:
            self._end(self._lost, self._ending_of(self._lost))

    async def _expires(self) -> bool:
        """Whether what the API server says to a watch from long ago is to be passed on: that it cannot.

        One whose watch cache is as old as the cluster can, and begins with what is there now. Then its words are ours.
        """
        exchange = self._exchange
        await exchange.until_answering()
        with suppress(TimeoutError):
            await asyncio.wait_for(exchange.until_held(ERROR_EVENT), FIRST_EVENT_SECONDS)
        if exchange.code == 200 and not exchange.holds(ERROR_EVENT):
            exchange.replace_answer(gone_event(410, f"too old resource version: {OldVersion().version}"))
            self._gate.watch_ended(exchange, clean=False)
            exchange.client.close()
            return False
        self._release()
        return True

    def _release(self) -> None:
        """The client hears what was held; only now was it told."""
        exchange = self._exchange
        exchange.release()
        if exchange.answered:
            self._gate.told(exchange, retry_after=exchange.retry_after)

    async def _goes_on(self) -> bool:
        """What is done to the request; False when it goes no further."""
        exchange = self._exchange
        for applied in self._hits:
            match applied.rule.act:
                case Answer() as answer:
                    await self._answer(answer)
                    return False
                case RateLimit():
                    if (seconds := self._gate.limiter(applied).ask(monotonic())) is not None:
                        await self._answer(throttled(seconds))
                        return False
                    applied.spared()
                case Cut() as cut:
                    exchange.drop()
                    await exchange.until_requested()
                    self._end(applied, cut.ending)
                    return False
                case Delay() as delay:
                    swing = (2 * applied.draw() - 1) * delay.jitter_us
                    self._before += max(0.0, delay.before_us + swing * (delay.before_us > 0)) / 1e6
                    self._after += max(0.0, delay.after_us + swing * (delay.after_us > 0)) / 1e6
                case LoseReply() | Crash(done=True):
                    self._lost = applied
                case Crash():
                    exchange.drop()
                    await exchange.until_requested()
                    await self._crash(applied)
                    return False
                case SpoilToken() as spoil:
                    if not await self._spoil(applied, spoil):
                        return False
                case OldVersion() as old:
                    self._expired = exchange.request.verb == "watch"
                    await self._rewritten(applied, rewriting.with_version(self._exchange, old.version))
                case OtherNamespace() as other:
                    await self._rewritten(applied, rewriting.with_namespace(self._exchange, other.namespace))
        return True

    async def _answer(self, answer: Answer) -> None:
        exchange = self._exchange
        name = await self._name_of_new(answer)
        if not exchange.upgrade:
            exchange.drop()
            await exchange.until_requested()  # the next request begins where this one ends
        if self._before:
            await asyncio.sleep(self._before)
        request = replace(exchange.request, name=name) if name else exchange.request
        made = reply(answer, request, self._gate.user(exchange), datetime.now(UTC))
        exchange.answer_with(made.code, made.phrase.encode(), made.headers, made.body)
        self._gate.told(exchange, ours=True, retry_after=_waits(answer))
        exchange.client.finished(exchange)

    async def _name_of_new(self, answer: Answer) -> str:
        """Of the object that is there already; "" where nothing but the path says what it is about."""
        if not _is_about_body(answer) or self._exchange.request.verb != "create":
            return ""
        await self._exchange.until_requested()
        return rewriting.name_in(b"".join(self._exchange.body or ()))

    async def _spoil(self, applied: Applied, spoil: SpoilToken) -> bool:
        """Whether it goes on to the API server, with what it will refuse."""
        exchange = self._exchange
        if not self._gate.is_spoilt(applied, spoil, exchange):
            applied.spared()
            return True
        if (headers := rewriting.with_spoilt_token(exchange.headers)) is None:
            await self._answer(Answer(401))  # who has no token cannot have a spoilt one
            return False
        exchange.rewrite(headers)
        return True

    async def _rewritten(self, applied: Applied, change: rewriting.Change) -> None:
        """`change` waits for the body where it needs it."""
        if not await change:
            applied.spared()

    def _ending_of(self, lost: Applied) -> Ending:
        assert isinstance(lost.rule.act, LoseReply)
        return lost.rule.act.ending

    async def _crash(self, applied: Applied) -> None:
        """Killed before it is reset: it must not hear even of that."""
        self._gate.told(self._exchange, lost=True)
        killing = asyncio.ensure_future(self._gate.kill(applied.rule.name, self._exchange.client.ends))
        killing.add_done_callback(
            lambda done: applied.has_killed(not done.cancelled() and not done.exception() and done.result())
        )
        await asyncio.shield(killing)  # who is killed lets its connection go, and this task with it
        self._exchange.client.reset()

    def _end(self, applied: Applied, ending: Ending) -> None:
        exchange = self._exchange
        self._gate.told(exchange, lost=True)
        match ending:
            case Ending.RESET:
                exchange.client.reset()
            case Ending.CLOSE:
                exchange.client.close()
            case Ending.SILENCE:
                self._gate.hold(applied, exchange)


def _waits(answer: Answer) -> float | None:
    """Seconds that the client is told to wait: of a date, which is one of whole seconds, no less than what is left."""
    if answer.retry_after is None:
        return None
    return float(max(0, answer.retry_after - answer.retry_date))
