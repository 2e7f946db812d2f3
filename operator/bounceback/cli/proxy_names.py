"""dnsFault and tlsFault in `bounceback proxy`: resolvers that listen, and gates before connections of TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bounceback.proxy.counters import Named
from bounceback.proxy.listening import first_address
from bounceback.proxy.relay import Relay
from bounceback.proxy.upstream import Upstream
from bounceback.types.names import DnsRule, TlsRule

if TYPE_CHECKING:  # DNS messages and certificates are heavy: who has no such fault does not wait for them
    from bounceback.cli.proxy_file import FileAuthority
    from bounceback.proxy.certificates import Certificates
    from bounceback.proxy.dns import Resolver
    from bounceback.proxy.dns_answers import DnsShelf
    from bounceback.proxy.tls import TlsGate, TlsShelf


@dataclass(frozen=True, slots=True)
class NameRule:
    """A rule for names, as types.relay.Rule is one for bytes."""

    name: str
    rule: DnsRule | TlsRule
    listener: str = ""  # only what comes to this listener; "": to all that know such names

    def scaled(self, share: float) -> NameRule:
        """That share of what it is about is hit."""
        choice = self.rule.choice
        return replace(self, rule=replace(self.rule, choice=replace(choice, probability=choice.probability * share)))


class UnfitError(ValueError):
    """What an authority's files hold is none; `field` is certificateFile or keyFile."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Names:
    """Rules for names of all listeners of a proxy. They are chosen and counted for all listeners together."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._resolvers: dict[str, Resolver] = {}
        self._gates: dict[str, TlsGate] = {}  # of the listeners that have had such a rule
        self._dns: DnsShelf = {}
        self._tls: TlsShelf = {}
        self._made: Certificates | None = None

    async def listen(self, name: str, host: str, port: int, upstream: Upstream) -> tuple[str, int]:
        """Take DNS queries, by UDP and TCP. Raises OSError."""
        from bounceback.proxy.dns import Resolver

        resolver = Resolver(upstream, self._dns)
        address = first_address(host, port)
        found = await resolver.listen(address, port)
        self._resolvers[name] = resolver
        return address, found

    def trust(self, authority: FileAuthority, folder: Path) -> None:
        """Read whom clients trust; paths begin in `folder`. Raises UnfitError, and what was read before stays."""
        from bounceback.proxy import certificates

        pem = [_read("certificateFile", folder / authority.certificate_file)]
        pem.append(_read("keyFile", folder / authority.key_file))
        try:
            read = certificates.Authority.from_pem(*pem)
        except certificates.UnfitError as error:
            raise UnfitError(f"{error.part}File", str(error)) from error
        self._certificates.give(authority.name, read)

    def follow(self, rules: Sequence[NameRule], streams: Iterable[str]) -> None:
        """Exactly these from now on; `streams` are the listeners of TCP."""
        for listener, resolver in self._resolvers.items():
            resolver.put({each.name: each.rule for each in _of(rules, listener) if isinstance(each.rule, DnsRule)})
        for listener in streams:
            wanted = {each.name: each.rule for each in _of(rules, listener) if isinstance(each.rule, TlsRule)}
            if wanted or listener in self._gates:
                self._gate(listener).put(wanted)
                self._relay.handle(listener, self._gate(listener) if wanted else None)

    def counted(self) -> Named:
        """By rule, those that are gone included, and by listener of DNS."""
        return Named(
            {name: asdict(applied.count) for name, applied in self._dns.items()},
            {name: applied.count.to_json() for name, applied in self._tls.items()},
            {name: {**asdict(each.traffic), "open": each.open} for name, each in self._resolvers.items()},
        )

    async def drain(self, seconds: float) -> int:
        """Take no query any more, wait for those that have no answer yet; how many are left without one."""
        return sum(await asyncio.gather(*(resolver.drain(seconds) for resolver in self._resolvers.values())))

    @property
    def _certificates(self) -> Certificates:
        from bounceback.proxy.certificates import Certificates

        self._made = self._made or Certificates()
        return self._made

    def _gate(self, listener: str) -> TlsGate:
        from bounceback.proxy.tls import TlsGate

        if listener not in self._gates:
            self._gates[listener] = TlsGate(self._certificates, self._tls)
        return self._gates[listener]


def _of(rules: Iterable[NameRule], listener: str) -> Iterable[NameRule]:
    return (each for each in rules if each.listener in ("", listener))


def _read(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnfitError(field, f"must be a file that can be read: {path}: {error.strerror}") from error
