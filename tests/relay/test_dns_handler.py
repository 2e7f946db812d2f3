"""The DNS handler between real clients and a real name server, on UDP and TCP."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.asyncquery
import dns.asyncresolver
import dns.dnssec
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest

from bounceback.proxy.dns import LENGTH, DnsTraffic, Resolver
from bounceback.proxy.dns_answers import DnsCount
from bounceback.proxy.upstream import Fixed, Original
from bounceback.types.choice import Choice
from bounceback.types.names import DnsAnswer, DnsRule
from tests.relay.conftest import until
from tests.relay.name_server import DNSKEY, ORIGIN, name_server

HOST = "127.0.0.1"
SOON = 20.0  # seconds in which an answer must come
SILENCE = 0.4  # seconds without an answer that are taken for none
CLOCK = 0.002  # the loop's timers know milliseconds
TCP, UDP = True, False


@pytest.fixture(scope="module")
def true_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with name_server(tmp_path_factory.mktemp("dns")) as port:
        yield port


@dataclass
class Line:
    """A resolver of ours, and the true server behind it."""

    resolver: Resolver
    port: int
    true_port: int

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = UDP, wait: float = SOON) -> dns.message.Message:
        return await self.send(dns.message.make_query(name, kind), tcp=tcp, wait=wait)

    async def send(self, query: dns.message.Message, *, tcp: bool = UDP, wait: float = SOON) -> dns.message.Message:
        """Raises dns.exception.Timeout. dnspython holds ID, question and sender of the answer against the query."""
        ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await ask(query, HOST, wait, self.port)


@pytest.fixture
async def line(true_server: int) -> AsyncIterator[Line]:
    resolver = Resolver(Fixed(HOST, true_server))
    port = await resolver.listen(HOST)
    yield Line(resolver, port, true_server)
    await resolver.close()


def addresses(answer: dns.message.Message) -> list[str]:
    return [record.to_text() for rrset in answer.answer for record in rrset if rrset.rdtype != dns.rdatatype.CNAME]


def descriptors() -> int:
    """Open ones of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def raw(port: int, query: bytes, *, tcp: bool) -> bytes:
    """One message there and one back, as bytes."""
    loop = asyncio.get_running_loop()
    if tcp:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(LENGTH.pack(len(query)) + query)
        answer = await reader.readexactly(LENGTH.unpack(await reader.readexactly(2))[0])
        writer.close()
        return answer
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((HOST, port))
        await loop.sock_sendall(client, query)
        return await asyncio.wait_for(loop.sock_recv(client, 65_535), SOON)


# What no rule is about


@pytest.mark.parametrize("tcp", [UDP, TCP])
@pytest.mark.parametrize(
    "query",
    [
        dns.message.make_query("db.shop.test", "A"),
        dns.message.make_query("DB.sHoP.tEsT", "AAAA", use_edns=True),  # 0x20: the case is a cookie
        dns.message.make_query("www.shop.test", "A", want_dnssec=True, payload=4096),
        dns.message.make_query("_sql._tcp.shop.test", "SRV"),
        dns.message.make_query("large.shop.test", "TXT"),  # truncated by UDP
        dns.message.make_query("large.shop.test", "TXT", use_edns=True, payload=4096),
        dns.message.make_query("nobody.shop.test", "A"),
        dns.message.make_query("shop.test", "TYPE65280"),
        dns.message.make_query("version.bind", "TXT", rdclass="CH"),
    ],
    ids=lambda query: f"{query.question[0].name}{dns.rdatatype.to_text(query.question[0].rdtype)}-{query.edns}",
)
async def test_what_no_rule_is_about_passes_byte_for_byte(line: Line, query: dns.message.Message, tcp: bool) -> None:
    line.resolver.put({"other": DnsRule(DnsAnswer.NX_DOMAIN, ("*.elsewhere.test",))})
    wire = query.to_wire()
    assert await raw(line.port, wire, tcp=tcp) == await raw(line.true_port, wire, tcp=tcp)
    assert line.resolver.traffic == DnsTraffic(queries=1, forwarded=1)
    assert line.resolver.counts() == {"other": DnsCount(0, 0)}


async def test_a_truncated_answer_stays_one_and_the_client_comes_again_by_tcp(line: Line) -> None:
    query = dns.message.make_query("large.shop.test", "TXT")
    assert (await line.send(query)).flags & dns.flags.TC
    answer, by_tcp = await dns.asyncquery.udp_with_fallback(query, HOST, SOON, line.port)
    assert by_tcp
    assert len(answer.answer[0]) == 1


@pytest.mark.parametrize("tcp", [UDP, TCP])
async def test_signatures_hold_behind_it(line: Line, tcp: bool) -> None:
    answer = await line.send(dns.message.make_query("db.shop.test", "AAAA", want_dnssec=True), tcp=tcp)
    records, signatures = answer.answer
    keys = {ORIGIN: dns.rrset.from_rdata(ORIGIN, 60, DNSKEY)}
    dns.dnssec.validate(records, signatures, keys)  # type: ignore[arg-type]  # an RRset is a Rdataset


async def test_a_stub_resolver_follows_the_aliases(line: Line) -> None:
    client = dns.asyncresolver.Resolver(configure=False)
    client.nameservers, client.port = [HOST], line.port
    answer = await client.resolve("www.shop.test", "A")
    assert answer.canonical_name == dns.name.from_text("front.edge.shop.test")
    assert [record.to_text() for record in answer] == ["10.0.0.8"]


@pytest.mark.parametrize("tcp", [UDP, TCP])
async def test_malformed_queries_are_the_true_servers_to_judge(line: Line, tcp: bool) -> None:
    """Thousands of them, and it still answers: with rules for all names, so that each is read as far as it goes."""
    everything = DnsRule(DnsAnswer.WRONG_ADDRESS, addresses=("192.0.2.1",), choice=Choice(0.5))
    line.resolver.put({"all": everything})
    dice = random.Random(4)
    sound = dns.message.make_query("db.shop.test", "A", want_dnssec=True).to_wire()
    bad = []
    for _ in range(2000):
        changed = bytearray(sound)
        for _ in range(dice.randint(1, 5)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        bad.append(bytes(changed[: dice.randint(0, len(changed))]))
    if tcp:
        reader, writer = await asyncio.open_connection(HOST, line.port)
        for message in bad[:200]:
            writer.write(LENGTH.pack(len(message)) + message)
        writer.write(b"\xff\xff half a message")
        writer.write_eof()
        await reader.read()
    else:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            for n, message in enumerate(bad):
                client.sendto(message, (HOST, line.port))
                if n % 50 == 0:
                    await asyncio.sleep(0)
    line.resolver.put({})
    assert addresses(await line.ask("db.shop.test", tcp=tcp)) == ["10.0.0.7"]
    assert line.resolver.traffic.queries > 100


# What a rule answers


@pytest.mark.parametrize("tcp", [UDP, TCP])
@pytest.mark.parametrize(
    ("answer", "rcode"), [(DnsAnswer.NX_DOMAIN, dns.rcode.NXDOMAIN), (DnsAnswer.SERV_FAIL, dns.rcode.SERVFAIL)]
)
async def test_no_such_name_and_a_failing_server(
    line: Line, answer: DnsAnswer, rcode: dns.rcode.Rcode, tcp: bool
) -> None:
    line.resolver.put({"broken": DnsRule(answer, ("db.*",))})
    got = await line.ask("db.shop.test", tcp=tcp)
    assert (got.rcode(), got.answer, got.authority) == (rcode, [], [])  # nothing that says how long it may be kept
    assert got.flags & dns.flags.RA  # or resolvers take it for a referral that leads nowhere
    assert addresses(await line.ask("front.edge.shop.test", tcp=tcp)) == ["10.0.0.8"]
    assert line.resolver.counts() == {"broken": DnsCount(1, 1)}


async def test_a_stub_resolver_is_told_that_there_is_no_such_name(line: Line) -> None:
    line.resolver.put({"gone": DnsRule(DnsAnswer.NX_DOMAIN, ("db.shop.test",))})
    client = dns.asyncresolver.Resolver(configure=False)
    client.nameservers, client.port = [HOST], line.port
    with pytest.raises(dns.resolver.NXDOMAIN):
        await client.resolve("db.shop.test", "A")


@pytest.mark.parametrize("tcp", [UDP, TCP])
async def test_a_wrong_address_is_of_the_family_that_was_asked(line: Line, tcp: bool) -> None:
    wrong = ("192.0.2.1", "192.0.2.2", "2001:db8::1")
    line.resolver.put({"wrong": DnsRule(DnsAnswer.WRONG_ADDRESS, ("db.shop.test",), addresses=wrong, ttl=5)})
    got = await line.ask("db.shop.test", "A", tcp=tcp)
    assert addresses(got) == ["192.0.2.1", "192.0.2.2"]
    assert got.answer[0].ttl == 5
    assert addresses(await line.ask("db.shop.test", "AAAA", tcp=tcp)) == ["2001:db8::1"]
    assert (await line.ask("_sql._tcp.shop.test", "SRV", tcp=tcp)).answer  # other types are left alone


async def test_a_family_without_a_wrong_address_has_none_at_all(line: Line) -> None:
    """The true IPv6 address would lead around the fault."""
    line.resolver.put({"wrong": DnsRule(DnsAnswer.WRONG_ADDRESS, addresses=("192.0.2.1",))})
    got = await line.ask("db.shop.test", "AAAA")
    assert (got.rcode(), got.answer) == (dns.rcode.NOERROR, [])


async def test_the_letters_of_the_question_come_back_as_they_were(line: Line) -> None:
    line.resolver.put({"wrong": DnsRule(DnsAnswer.WRONG_ADDRESS, ("db.SHOP.test",), addresses=("192.0.2.1",))})
    wire = dns.message.make_query("dB.sHoP.TeSt", "A").to_wire()
    assert b"\x02dB\x04sHoP\x04TeSt\x00" in await raw(line.port, wire, tcp=UDP)


async def test_edns_is_answered_with_edns_and_without_it_is_not(line: Line) -> None:
    line.resolver.put({"broken": DnsRule(DnsAnswer.SERV_FAIL)})
    assert (await line.send(dns.message.make_query("db.shop.test", "A", use_edns=0))).edns == 0
    assert (await line.send(dns.message.make_query("db.shop.test", "A", use_edns=False))).edns == -1


async def test_more_addresses_than_a_datagram_holds_are_truncated(line: Line) -> None:
    many = tuple(f"192.0.2.{n}" for n in range(1, 100))
    line.resolver.put({"wrong": DnsRule(DnsAnswer.WRONG_ADDRESS, addresses=many)})
    query = dns.message.make_query("db.shop.test", "A", use_edns=False)
    wire = await raw(line.port, query.to_wire(), tcp=UDP)
    assert len(wire) <= 512
    assert dns.message.from_wire(wire).flags & dns.flags.TC
    assert len(addresses(await line.send(query, tcp=TCP))) == 99


@pytest.mark.parametrize("tcp", [UDP, TCP])
async def test_silence(line: Line, tcp: bool) -> None:
    line.resolver.put({"silent": DnsRule(DnsAnswer.TIMEOUT, record_types=("AAAA",))})
    with pytest.raises(dns.exception.Timeout):
        await line.ask("db.shop.test", "AAAA", tcp=tcp, wait=SILENCE)
    assert addresses(await line.ask("db.shop.test", "A", tcp=tcp)) == ["10.0.0.7"]
    assert line.resolver.traffic == DnsTraffic(queries=2, forwarded=1, swallowed=1)


@pytest.mark.parametrize("tcp", [UDP, TCP])
async def test_a_late_answer_is_the_true_one(line: Line, tcp: bool) -> None:
    line.resolver.put({"slow": DnsRule(DnsAnswer.DELAY, delay_ms=300)})
    begin = time.monotonic()
    assert addresses(await line.ask("db.shop.test", tcp=tcp)) == ["10.0.0.7"]
    assert time.monotonic() - begin >= 0.3 - CLOCK


async def test_rules_compose_delays_add_up_and_then_the_first_other_answers(line: Line) -> None:
    line.resolver.put(
        {
            "slow": DnsRule(DnsAnswer.DELAY, delay_ms=100),
            "slower": DnsRule(DnsAnswer.DELAY, delay_ms=200),
            "gone": DnsRule(DnsAnswer.NX_DOMAIN, ("db.*",)),
            "broken": DnsRule(DnsAnswer.SERV_FAIL),
        }
    )
    begin = time.monotonic()
    assert (await line.ask("db.shop.test")).rcode() == dns.rcode.NXDOMAIN
    assert time.monotonic() - begin >= 0.3 - CLOCK
    assert line.resolver.counts()["broken"] == DnsCount(0, 0)


async def test_a_slow_query_holds_up_no_other_on_its_connection(line: Line) -> None:
    """RFC 7766 section 6.2.1.1: answers by TCP come in any order."""
    line.resolver.put({"slow": DnsRule(DnsAnswer.DELAY, record_types=("AAAA",), delay_ms=500)})
    reader, writer = await asyncio.open_connection(HOST, line.port)
    queries = [dns.message.make_query("db.shop.test", kind) for kind in ("AAAA", "A")]
    for query in queries:
        writer.write(LENGTH.pack(len(wire := query.to_wire())) + wire)
    writer.write_eof()  # it has asked all, and waits
    ids = []
    for _ in queries:
        (length,) = LENGTH.unpack(await reader.readexactly(2))
        ids.append(dns.message.from_wire(await reader.readexactly(length)).id)
    assert ids == [queries[1].id, queries[0].id]
    assert await reader.read() == b""
    writer.close()


# Which of them


async def test_every_third_query_fails(line: Line) -> None:
    line.resolver.put({"third": DnsRule(DnsAnswer.SERV_FAIL, choice=Choice(nth=3))})
    codes = [(await line.ask("db.shop.test")).rcode() for _ in range(6)]
    assert [code == dns.rcode.SERVFAIL for code in codes] == [False, False, True] * 2
    assert line.resolver.counts() == {"third": DnsCount(6, 2)}


async def test_a_rule_that_comes_back_goes_on_counting(line: Line) -> None:
    rule = {"first": DnsRule(DnsAnswer.SERV_FAIL, choice=Choice(first_n=2))}
    codes = []
    for _ in range(3):
        line.resolver.put(rule)
        codes.append((await line.ask("db.shop.test")).rcode())
        line.resolver.put({})
        assert (await line.ask("db.shop.test")).rcode() == dns.rcode.NOERROR
    assert codes == [dns.rcode.SERVFAIL, dns.rcode.SERVFAIL, dns.rcode.NOERROR]
    assert line.resolver.counts() == {"first": DnsCount(3, 2)}


async def test_the_same_seed_hits_the_same_queries(line: Line) -> None:
    async def hit(seed: int) -> list[bool]:
        line.resolver.put({})
        fresh = Resolver(Fixed(HOST, line.true_port))
        port = await fresh.listen(HOST)
        fresh.put({"dice": DnsRule(DnsAnswer.NX_DOMAIN, choice=Choice(0.5, seed=seed))})
        asked = Line(fresh, port, line.true_port)
        codes = [(await asked.ask("db.shop.test")).rcode() for _ in range(20)]
        await fresh.close()
        return [code == dns.rcode.NXDOMAIN for code in codes]

    assert await hit(3) == await hit(3) != await hit(4)


# Many, and none


async def test_many_clients_at_once_each_get_their_own_answer(line: Line) -> None:
    """All with the same ID: what tells them apart is their port alone."""
    queries = [dns.message.make_query("db.shop.test", kind, id=7) for kind in ("A", "AAAA")] * 100
    answers = await asyncio.gather(*(line.send(query) for query in queries))
    assert [addresses(answer) for answer in answers] == [["10.0.0.7"], ["fd00::7"]] * 100


async def test_sockets_do_not_pile_up(line: Line) -> None:
    """A flow whose queries are answered goes within two seconds."""
    before = descriptors()
    await asyncio.gather(*(line.ask("db.shop.test") for _ in range(50)))
    end = time.monotonic() + 20
    while descriptors() > before and time.monotonic() < end:
        await asyncio.sleep(0.1)
    assert descriptors() <= before


@pytest.mark.parametrize("tcp", [UDP, TCP])
async def test_no_true_server_is_counted_and_kills_nothing(tcp: bool) -> None:
    resolver = Resolver(Original(0))  # where nothing was redirected
    lost = Line(resolver, await resolver.listen(HOST), 0)
    for _ in range(2):
        with pytest.raises((dns.exception.Timeout, OSError, EOFError)):
            await lost.ask("db.shop.test", tcp=tcp, wait=SILENCE)
    assert resolver.traffic.lost == 2
    resolver.put({"gone": DnsRule(DnsAnswer.NX_DOMAIN)})
    assert (await lost.ask("db.shop.test", tcp=tcp)).rcode() == dns.rcode.NXDOMAIN
    await resolver.close()


@pytest.mark.parametrize("tcp", [UDP, TCP])
async def test_at_the_end_late_answers_still_come(line: Line, tcp: bool) -> None:
    """The fault is over; who waits because of it must not be left without an answer."""
    line.resolver.put({"slow": DnsRule(DnsAnswer.DELAY, delay_ms=500)})
    asking = asyncio.create_task(line.ask("db.shop.test", tcp=tcp))
    await until(lambda: line.resolver.open == 1)
    line.resolver.put({})
    assert await line.resolver.drain(SOON) == 0
    assert addresses(await asking) == ["10.0.0.7"]


async def test_the_end_waits_no_longer_than_it_may(line: Line) -> None:
    line.resolver.put({"slow": DnsRule(DnsAnswer.DELAY, delay_ms=60_000)})
    asking = [asyncio.create_task(line.ask("db.shop.test", tcp=tcp, wait=3.0)) for tcp in (UDP, TCP)]
    await until(lambda: line.resolver.open == 2)
    assert await line.resolver.drain(0.1) == 2
    for outcome in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(outcome, dns.exception.Timeout | EOFError | OSError)


async def test_nothing_is_open_when_all_is_answered(line: Line) -> None:
    line.resolver.put(
        {"half": DnsRule(DnsAnswer.NX_DOMAIN, choice=Choice(0.5)), "slow": DnsRule(DnsAnswer.DELAY, delay_ms=20)}
    )
    await asyncio.gather(*(line.ask("db.shop.test", tcp=n % 2 == 0) for n in range(60)))
    await until(lambda: line.resolver.open == 0)


async def test_ipv6_clients_and_servers(line: Line) -> None:
    inner = await line.resolver.listen("::1")
    outer = Resolver(Fixed("::1", inner))
    port = await outer.listen("::1")
    answer = await dns.asyncquery.udp(dns.message.make_query("db.shop.test", "A"), "::1", SOON, port)
    assert addresses(answer) == ["10.0.0.7"]
    answer = await dns.asyncquery.tcp(dns.message.make_query("db.shop.test", "A"), "::1", SOON, port)
    assert addresses(answer) == ["10.0.0.7"]
    await outer.close()
