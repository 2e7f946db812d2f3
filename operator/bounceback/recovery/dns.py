"""A question to a name server, and what it answers."""

from __future__ import annotations

import time
from typing import Any

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from bounceback.api.looks import DnsLook
from bounceback.recovery.errors import CannotLookError, NotHealthyError
from bounceback.recovery.looks import in_a_line
from bounceback.recovery.means import Means


async def ask_by_dns(means: Means, look: DnsLook, seconds: float) -> dict[str, Any]:
    """One question, or one for each entry of the search list. Raises NotHealthyError, CannotLookError."""
    began = time.monotonic()
    answer = await _answer(means, look, seconds)
    milliseconds = round((time.monotonic() - began) * 1000)
    kind = dns.rdatatype.from_text(look.type)
    sets = [each for each in answer.answer if each.rdtype == kind]
    found = sorted(record.to_text() for each in sets for record in each)
    code = dns.rcode.to_text(answer.rcode())
    if code != look.expect_code:
        raise NotHealthyError(f"{look.name} {look.type}: {code}, expected {look.expect_code}")
    if code == "NOERROR" and not found:
        raise NotHealthyError(f"{look.name} {look.type}: there is no such record")
    if look.expect_answers and sorted(look.expect_answers) != found:
        wanted = ", ".join(sorted(look.expect_answers))
        raise NotHealthyError(f"{look.name} {look.type}: {', '.join(found)[:80]}, expected {wanted[:80]}")
    ttl = min((each.ttl for each in sets), default=0)
    return {"code": code, "answers": found, "ttl": ttl, "milliseconds": milliseconds}


async def _answer(means: Means, look: DnsLook, seconds: float) -> dns.message.Message:
    try:
        name = dns.name.from_text(means.names.full(look.name), origin=None)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise CannotLookError(f"{look.name!r} is no name: {error}") from error
    if look.server is not None:
        server = look.server
        try:
            return await means.reach(server, look.port, lambda ip, port: _ask(name, look, ip, port, seconds))
        except OSError as error:
            raise NotHealthyError(f"name server {server}: {in_a_line(error)}") from error
    try:
        settings = dns.asyncresolver.Resolver()  # resolv.conf of our pod: the cluster's servers and search list
    except (dns.exception.DNSException, OSError) as error:
        raise CannotLookError(f"resolv.conf names no server: {error}; name one") from error
    return await _search(name, look, settings, seconds)


async def _search(
    name: dns.name.Name, look: DnsLook, settings: dns.asyncresolver.Resolver, seconds: float
) -> dns.message.Message:
    """As resolv.conf(5) says: names with few dots are tried with each entry of the search list first."""
    absolute = name if name.is_absolute() else name.concatenate(dns.name.root)
    tries = [absolute]
    if not name.is_absolute():
        listed = [name.concatenate(suffix) for suffix in settings.search]
        few = len(name.labels) - 1 < (settings.ndots if settings.ndots is not None else 1)
        tries = [*listed, absolute] if few else [absolute, *listed]
    answer = None
    server = str(settings.nameservers[0])
    for each in tries:
        try:
            answer = await _ask(each, look, server, settings.port, seconds)
        except OSError as error:
            raise NotHealthyError(f"name server {server}: {in_a_line(error)}") from error
        if answer.rcode() != dns.rcode.NXDOMAIN:
            return answer
    assert answer is not None
    return answer


async def _ask(name: dns.name.Name, look: DnsLook, address: str, port: int, seconds: float) -> dns.message.Message:
    question = dns.message.make_query(name if name.is_absolute() else name.concatenate(dns.name.root), look.type)
    try:
        if look.protocol == "TCP":
            return await dns.asyncquery.tcp(question, address, timeout=seconds, port=port)
        answer, _ = await dns.asyncquery.udp_with_fallback(question, address, timeout=seconds, port=port)
    except dns.exception.Timeout as error:
        raise NotHealthyError(f"name server {address} did not answer") from error
    except (dns.exception.DNSException, EOFError) as error:
        raise NotHealthyError(f"name server {address}: not a valid answer: {type(error).__name__}") from error
    return answer
