"""How a client of the Kubernetes API behaves, seen from what it asks and what it was answered.

It decides nothing and changes nothing. Times are seconds of one monotonic clock. What it keeps is bounded: requests
that failed and were not settled yet, watches, and counts by verb and resource. Pure; standard library only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final

from bounceback.proxy.api.backoff import Backoff, BackoffKind, fitted, middle
from bounceback.proxy.api.series import Rate, Series, Tally
from bounceback.types.api_request import ApiRequest, Sort

__all__ = ["Backoff", "BackoffKind", "Behavior", "fitted"]

TRACKED: Final = 256
"""Failed requests, watches and sorts of requests that are told apart, of each; the longest unheard of go first."""
SHORT_WATCH: Final = 1.0
"""Seconds. One that ended sooner and is begun again at once counts as a loop, however orderly it ended."""
LONG_WATCH: Final = 30.0
"""Seconds. One that lived longer was well: pauses before the next say nothing of those before it."""
_FAILED: Final = frozenset({401, 408, 410, 429})
_CONFLICTS: Final = frozenset({"update", "patch", "delete"})
_WATCH: Final = ("list", "watch")


class Behavior:
    """Of one client, or of all that come to one proxy.

    A failure is a lost reply, a 5xx, 401, 408, 410 or 429, a 409 to a write of what was there, and whatever else of
    400 and above a rule of ours had a hand in. What the API server refuses by itself (404, 403, 409 to a create)
    is an answer like others: clients ask for what is not there all the time.
    """

    def __init__(self) -> None:
        self._began: float | None = None  # with the first request
        self._rate = Rate()
        self._tallies: dict[Sort, Tally] = {}
        self._troubles: dict[Hashable, Series] = {}
        self._watches: dict[Hashable, Series] = {}
        self._retries = _Sum()
        self._returns = _Sum()
        self._watched = {"ended": 0, "lost": 0, "rewatched": 0, "relisted": 0}
        self._creates = {"lost": 0, "askedAgain": 0, "refused": 0, "duplicated": 0}
        self._settled = 0
        self._forgotten = 0

    def asked(self, request: ApiRequest, fingerprint: int, now: float) -> None:
        """A request came. The fingerprint is the same for another try of the same one, and differs otherwise."""
        if self._began is None:
            self._began = now
        self._rate.count(now)
        tally = self._tally(request)
        tally.rate.count(now)
        if request.verb in _WATCH and request.resource:
            self._looked(request, tally, now)
        if self._troubles:
            series = self._troubles.get(fingerprint) or self._troubles.get(_identity(request))
            if series is not None and series.failed_at is not None:
                tally.retries += self._retries.again(series, now)
                self._creates["askedAgain"] += series.created
                series.failed_at = None

    def answered(
        self,
        request: ApiRequest,
        fingerprint: int,
        code: int,
        now: float,
        retry_after: float | None,
        by_us: bool,
        lost: bool,
    ) -> None:
        """What became of it. `code` is that of the answer, of which the client saw nothing where it is `lost`, and 0
        where there was none; `retry_after` is what the client was told to wait, in seconds from `now` (of an
        HTTP-date: what is left till then); `by_us`: a rule had a hand in it. Of a watch: when its answer began."""
        tally = self._tally(request)
        tally.answered(code, by_us, lost)
        failed = (lost or code >= 400) and _is_failure(request, code, by_us, lost)
        if request.verb == "watch":
            if failed:
                self._watch_lost(request, tally, now, retry_after)
            return
        if not failed and not self._troubles:
            return
        key = _identity(request) if code == 409 and not lost and request.verb in _CONFLICTS else fingerprint
        if request.verb == "create" and (code < 300 or not by_us):
            self._created(self._troubles.get(key), code)
        if not failed:
            self._settle(fingerprint)
            self._settle(_identity(request))
            return
        series = self._series(self._troubles, key, tally, now)
        series.fail(now, retry_after)
        if lost and request.verb == "create" and 200 <= code < 300:
            self._creates["lost"] += 1
            series.created = True

    def watch_ended(self, request: ApiRequest, now: float, clean: bool) -> None:
        """A watch that was open is over; `clean`: with an orderly end between events and no error.

        One that ended like that, but at once, is still one that a client has to pause after.
        """
        self._watched["ended"] += 1
        tally = self._tally(request)
        if not clean:
            self._watch_lost(request, tally, now, None)
        else:
            series = self._series(self._watches, _what(request), tally, now)
            series.lost = series.listed = False
            if now - series.since < SHORT_WATCH:
                series.fail(now, None)
            else:
                self._returns.close(series)

    def waits(self, now: float) -> bool:
        """Whether a client may come again to what failed, so that the time until then is of interest."""
        return any(
            series.failed_at is not None and not series.is_given_up(now)
            for kept in (self._troubles, self._watches)
            for series in kept.values()
        )

    def late(self, seconds: float) -> None:
        """By so much this process has just been late: all that was being measured may be."""
        for kept in (self._troubles, self._watches):
            for series in kept.values():
                if series.failed_at is not None or series.gaps:
                    series.late = max(series.late, seconds)

    def report(self, now: float) -> dict[str, Any]:
        """All of it as JSON; nothing is changed by asking."""
        seconds = max(now - self._began, 0.0) if self._began is not None else 0.0
        open_troubles, open_watches = list(self._troubles.values()), list(self._watches.values())
        retries, returns = self._retries, self._returns
        return {
            "seconds": round(seconds, 3),
            "requests": self._rate.total,
            "requestsPerSecond": {
                "mean": round(self._rate.total / seconds, 2) if seconds else 0.0,
                "peak": self._rate.peak,
            },
            "kinds": [
                {"verb": verb, "resource": _named(group, resource, subresource), **tally.to_json()}
                for (verb, group, resource, subresource), tally in sorted(
                    self._tallies.items(), key=lambda item: (-item[1].rate.total, item[0])
                )
            ],
            "retries": {
                "count": retries.count,
                "settled": self._settled,
                "gaveUp": retries.gave_up + sum(series.is_given_up(now) for series in open_troubles),
                "forgotten": self._forgotten,
                **retries.to_json(open_troubles),
            },
            "retryAfter": {
                "asked": sum(tally.told_to_wait for tally in self._tallies.values()),
                "honored": retries.honored + returns.honored,
                "ignored": retries.ignored + returns.ignored,
            },
            "watches": {
                **self._watched,
                "awaited": sum(series.lost and series.is_awaited(now) for series in open_watches),
                "gaveUp": returns.gave_up + sum(series.is_given_up(now) for series in open_watches),
                **returns.to_json(open_watches),
            },
            "creates": dict(self._creates),
            "hotLoops": retries.hot + returns.hot,
        }

    def _looked(self, request: ApiRequest, tally: Tally, now: float) -> None:
        """A list or watch: maybe the way back of a watch that ended."""
        series = self._watches.get(_what(request))
        if series is not None and series.failed_at is not None:
            if not series.listed:  # else its pause was counted when it listed
                tally.retries += self._returns.again(series, now)
            if request.verb == "list" or request.lists:
                self._watched["relisted"] += series.lost and not series.listed
                series.listed = True
            if request.verb == "list":
                return
            self._watched["rewatched"] += 1
            series.failed_at = None
        if request.verb == "watch":
            series = series or self._series(self._watches, _what(request), tally, now)
            series.since = now
            series.listed = False

    def _watch_lost(self, request: ApiRequest, tally: Tally, now: float, retry_after: float | None) -> None:
        series = self._series(self._watches, _what(request), tally, now)
        self._watched["lost"] += 1
        series.lost, series.listed = True, False
        if now - series.since > LONG_WATCH:
            self._returns.close(series)
        series.fail(now, retry_after)

    def _created(self, series: Series | None, code: int) -> None:
        """An answer to a create that an earlier one, whose reply was lost, may have done already."""
        if series is not None and series.created and series.failed_at is None:
            if code == 409:
                self._creates["refused"] += 1
            self._creates["duplicated"] += 200 <= code < 300

    def _settle(self, key: Hashable) -> None:
        if (series := self._troubles.pop(key, None)) is not None:
            self._settled += 1
            self._retries.close(series)

    def _tally(self, request: ApiRequest) -> Tally:
        if (tally := self._tallies.get(request.sort)) is None:
            others: Sort = ("", "", "", "")  # together
            sort = request.sort if len(self._tallies) < TRACKED else others
            tally = self._tallies.setdefault(sort, Tally())
        return tally

    def _series(self, kept: dict[Hashable, Series], key: Hashable, tally: Tally, now: float) -> Series:
        """The one of that key, which is now the last heard of; a new one if need be."""
        if (series := kept.pop(key, None)) is None:
            if len(kept) >= TRACKED:
                self._forget(kept, now)
            series = Series(tally, now)
        kept[key] = series
        return series

    def _forget(self, kept: dict[Hashable, Series], now: float) -> None:
        oldest = kept.pop(next(iter(kept)))
        total = self._retries if kept is self._troubles else self._returns
        total.gave_up += oldest.is_given_up(now)
        self._forgotten += not oldest.is_given_up(now)
        total.close(oldest)


class _Sum:
    """What all series of one sort come to; pauses that Retry-After asked for are not the client's own."""

    __slots__ = ("best", "count", "found", "gave_up", "honored", "hot", "ignored", "longest", "recent", "shortest")

    def __init__(self) -> None:
        self.count = 0
        self.hot = 0
        self.honored = 0
        self.ignored = 0
        self.gave_up = 0
        self.shortest = float("inf")
        self.longest = 0.0
        self.recent: deque[float] = deque(maxlen=TRACKED)  # the last pauses
        self.found: dict[BackoffKind, int] = {}  # series that are over, by how they backed off
        self.best: dict[BackoffKind, Backoff] = {}  # of each the one with the most pauses

    def again(self, series: Series, now: float) -> bool:
        """It comes again; False where it had been given up, so that this is the first try of another attempt."""
        assert series.failed_at is not None
        if series.is_given_up(now):
            self.gave_up += 1
            self.close(series)
            return False
        gap = now - series.failed_at
        if series.wait:
            self.honored += series.honors(gap)
            self.ignored += not series.honors(gap)
        self.count += 1
        self.recent.append(gap)
        self.shortest, self.longest = min(self.shortest, gap), max(self.longest, gap)
        self.hot += series.again(now, gap)
        return True

    def close(self, series: Series) -> None:
        """Its pauses are all there will be."""
        if series.gaps:
            self._vote(self.found, self.best, fitted(series.gaps, series.late))
        series.gaps.clear()
        series.late = 0.0
        series.hot = False

    def to_json(self, still_open: Iterable[Series]) -> dict[str, Any]:
        found, best = dict(self.found), dict(self.best)
        for series in still_open:
            if series.gaps:
                self._vote(found, best, fitted(series.gaps, series.late))
        winner = _most(found, best)
        return {
            "gapSeconds": {
                "shortest": round(self.shortest, 4) if self.count else None,
                "median": round(middle(self.recent), 4) if self.recent else None,
                "longest": round(self.longest, 4) if self.count else None,
            },
            "backoff": {**winner.to_json(), "series": {str(kind): n for kind, n in sorted(found.items())}},
        }

    @staticmethod
    def _vote(found: dict[BackoffKind, int], best: dict[BackoffKind, Backoff], backoff: Backoff) -> None:
        found[backoff.kind] = found.get(backoff.kind, 0) + 1
        if (known := best.get(backoff.kind)) is None or known.gaps < backoff.gaps:
            best[backoff.kind] = backoff


def _most(found: Mapping[BackoffKind, int], best: Mapping[BackoffKind, Backoff]) -> Backoff:
    """How most of them that say something back off; among as many, the one that is known from more pauses."""
    if not found:
        return fitted(())
    telling: list[BackoffKind] = [kind for kind in found if kind != BackoffKind.UNKNOWN]
    telling = telling or [BackoffKind.UNKNOWN]
    return best[max(telling, key=lambda kind: (found[kind], best[kind].gaps, str(kind)))]


def _is_failure(request: ApiRequest, code: int, by_us: bool, lost: bool) -> bool:
    if lost or code in _FAILED or code >= 500:
        return True
    return (code >= 400 and by_us) or (code == 409 and request.verb in _CONFLICTS)


def _identity(request: ApiRequest) -> Hashable:
    """What a write is to: after a conflict it is tried again with another body."""
    return (request.verb, request.path)


def _what(request: ApiRequest) -> Hashable:
    """What a watch watches: the list before it has the same."""
    return (request.group, request.resource, request.namespace, request.name)


def _named(group: str, resource: str, subresource: str) -> str:
    """deployments.apps/scale; what is not for a resource has no name."""
    return f"{resource}{'.' if group else ''}{group}{'/' if subresource else ''}{subresource}"
