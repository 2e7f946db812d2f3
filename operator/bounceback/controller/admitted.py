"""What is answered to the API server's questions about writes: a refusal, a delay, or nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from bounceback.engine import admission
from bounceback.kube.client import Json
from bounceback.proxy.api.rulebook import Applied, Rulebook
from bounceback.proxy.api.status import Limiter, status
from bounceback.types.api_request import ApiRequest
from bounceback.types.api_rule import Answer, ApiRule, Delay, RateLimit
from bounceback.types.instants import Instant


@dataclass
class OnPod:
    """A fault on what one pod writes, and what it has done."""

    rule: ApiRule
    not_after: float  # UTC seconds: nothing is hit later, whoever is still there
    hits: int = 0
    first: Instant | None = None
    book: Rulebook = field(default_factory=Rulebook)
    limiter: Limiter | None = None
    lifted: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.book.change([self.rule])
        self.book.applied[0].chooser.hits = self.book.applied[0].chooser.seen = self.hits  # of an operator before us
        if isinstance(self.rule.act, RateLimit):
            self.limiter = Limiter(self.rule.act.per_second, self.rule.act.burst)

    async def answer(self, request: ApiRequest, user: str) -> Json | None:
        """The Status of a refusal; None: it is let through, now."""
        if self.lifted.is_set() or time.time() >= self.not_after:
            return None
        for applied in self.book.hits(request, user):
            match applied.rule.act:
                case Answer() as act:
                    self._hit()
                    return status(act, request, user)
                case RateLimit():
                    assert self.limiter is not None
                    if (wait := self.limiter.ask(time.monotonic())) is None:
                        applied.spared()
                        continue
                    self._hit()
                    return status(Answer(429, retry_after=wait), request, user)
                case Delay() as act:
                    self._hit()
                    await self._hold(act, applied)
        return None

    def _hit(self) -> None:
        self.hits += 1
        self.first = self.first or Instant.now()

    async def _hold(self, act: Delay, applied: Applied) -> None:
        seconds = (act.before_us + act.jitter_us * (2 * applied.draw() - 1)) / 1e6
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self.lifted.wait()
        except TimeoutError:
            return


class Admitted:
    """All that this process answers to; nothing of it outlives the term of the leader."""

    def __init__(self) -> None:
        self.authorities = b""  # in PEM; whom the API server is to trust. Empty: nobody answers
        self._faults: dict[tuple[str, str], dict[str, OnPod]] = {}

    def begin(self, run: str, fault: str, pod: str, on: OnPod) -> None:
        self._faults.setdefault((run, fault), {}).setdefault(pod, on)

    def on(self, run: str, fault: str, pod: str) -> OnPod | None:
        return self._faults.get((run, fault), {}).get(pod)

    def end(self, run: str, fault: str, pod: str) -> None:
        """Nothing is hit any more, and who is held is let go."""
        if (on := self._faults.get((run, fault), {}).pop(pod, None)) is not None:
            on.lifted.set()

    def end_all(self) -> None:
        for run, fault in list(self._faults):
            for pod in list(self._faults[run, fault]):
                self.end(run, fault, pod)

    async def answer(self, run: str, fault: str, review: Json) -> Json:
        """An AdmissionReview to an AdmissionReview. Raises KeyError, TypeError or AttributeError for anything else."""
        request = review["request"]
        response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
        on = self.on(run, fault, admission.pod_of(request))
        if on is not None and not request.get("dryRun"):
            refusal = await on.answer(admission.asked(request), request["userInfo"].get("username", ""))
            if refusal is not None:
                response |= {"allowed": False, "status": refusal}
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}
