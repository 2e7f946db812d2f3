"""The life of `bounceback proxy`: start, follow the file and the control API, drain, count."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import resource
import signal
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from bounceback.api.client_behavior import ClientBehavior
from bounceback.cli.documents import UnreadableError
from bounceback.cli.exits import PASSED, CommandError
from bounceback.cli.proxy_course import Faults, Source
from bounceback.cli.proxy_file import NO_COMMAND, Protocol, ProxyFile, ProxyListener, address
from bounceback.cli.proxy_names import NameRule, Names, UnfitError
from bounceback.cli.proxy_source import FileSource, WrongFileError
from bounceback.cli.proxy_verdict import shown_code, verdict
from bounceback.proxy import counters
from bounceback.proxy.relay import Relay
from bounceback.proxy.upstream import Fixed
from bounceback.types.api_rule import ApiRule
from bounceback.types.relay import Rule

if TYPE_CHECKING:  # certificates are heavy: who stands before no cluster does not wait for them
    from bounceback.cli.proxy_cluster import ClusterProxy

API_LISTENER: Final = "api"
"""What the listener before a cluster is called."""
LOOK_SECONDS: Final = 0.04
"""How often the file is looked at: with what a change takes, within 50 ms."""

Json = dict[str, Any]


def run_proxy(options: argparse.Namespace, token: str) -> int:
    """The exit code. Raises CommandError."""
    import uvloop

    listeners = [_listener(n, *pair) for n, pair in enumerate(zip(options.listen, options.upstream, strict=True), 1)]
    cluster = _cluster(options) if options.write_kubeconfig else None
    known = {listener.name: listener.protocol for listener in listeners}
    source = FileSource(options.fault, known | ({API_LISTENER: Protocol.KUBERNETES} if cluster else {}))
    try:
        first = source.read()
    except (UnreadableError, WrongFileError) as error:
        raise CommandError(str(error)) from error
    if not (listeners := [*listeners, *first.listeners]) and cluster is None:
        raise CommandError(f"{options.fault}: listeners: must name one where no --listen is given")
    _more_descriptors()
    return uvloop.run(_Proxy(options, token, listeners, source, cluster).live(first))


def _cluster(options: argparse.Namespace) -> ClusterProxy:
    from bounceback.cli.proxy_cluster import ClusterProxy

    return ClusterProxy(options)


class _Proxy:
    def __init__(
        self,
        options: argparse.Namespace,
        token: str,
        listeners: list[ProxyListener],
        source: FileSource,
        cluster: ClusterProxy | None,
    ) -> None:
        self._options = options
        self._token = token
        self._listeners = listeners
        self._source = source
        self._cluster = cluster
        self._faults = Faults()
        self._wanted: ClientBehavior | None = None
        self._addresses: dict[str, tuple[str, int]] = {}
        self._seen: Json = {}  # of the client, before it was made to end
        self._timer: asyncio.TimerHandle | None = None

    async def live(self, first: ProxyFile) -> int:
        self._relay = Relay()
        self._names = Names(self._relay)
        self._end = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._asked_to_end)
        async with AsyncExitStack() as stack:
            for listener in self._listeners:
                await self._listen(listener)
            if self._cluster is not None:
                stack.callback(self._cluster.close)
                await self._cluster.listen()
            if self._options.control:
                await self._serve(stack)
            try:
                self._take_file(first)
            except WrongFileError as error:
                raise CommandError(str(error)) from error
            for line in self._words():
                _say(line)
            gc.freeze()  # what is there now stays: it need not be looked through again and again
            await self._while_it_lasts()
            await self._drain()
        self._tell()
        return self._conclude()

    async def _while_it_lasts(self) -> None:
        """Until it is asked to end, its time is over, or its client has ended."""
        if self._options.seconds is not None:
            asyncio.get_running_loop().call_later(self._options.seconds, self._end.set)
        if self._cluster is None or (client := self._cluster.client) is None:
            await self._follow_file()
            if self._cluster is not None:
                self._seen = self._cluster.counted()
            return
        living = asyncio.create_task(client.live())
        living.add_done_callback(lambda _: self._end.set())
        await self._follow_file()
        self._seen = self._cluster.counted()  # how it ends says nothing of how it behaves
        await client.end()
        await living

    # The start

    async def _listen(self, listener: ProxyListener) -> None:
        host, port = address(listener.listen, any_port=True)
        upstream = Fixed(*address(listener.upstream))
        try:
            await upstream.addresses(None)
        except OSError as error:
            raise CommandError(
                f"upstream {listener.upstream}: must be a host that resolves: {error.strerror}"
            ) from error
        listen = {
            Protocol.TCP: self._relay.listen,
            Protocol.UDP: self._relay.listen_udp,
            Protocol.DNS: self._names.listen,
        }
        try:
            self._addresses[listener.name] = await listen[listener.protocol](listener.name, host, port, upstream)
        except OSError as error:
            raise CommandError(f"listen {listener.listen}: cannot be listened on: {error.strerror}") from error

    async def _serve(self, stack: AsyncExitStack) -> None:
        from bounceback.cli.proxy_control import Control
        from bounceback.proxy.control import served

        try:
            host, port = address(self._options.control, any_port=True)
            known = {listener.name: listener.protocol for listener in self._listeners}
            if self._cluster is not None:
                known[API_LISTENER] = Protocol.KUBERNETES
            control = Control(
                self._faults, self._listeners, known, self._addresses, self._counters, self._apply, self._may_kill
            )
            self._control = await stack.enter_async_context(served(control, host, port, self._token))
        except ValueError as error:
            raise CommandError(f"--control {self._options.control}: {error}") from error
        except OSError as error:
            raise CommandError(f"--control {self._options.control}: cannot be listened on: {error}") from error

    def _words(self) -> Iterable[str]:
        for listener in self._listeners:
            here = _shown(self._addresses[listener.name])
            yield f"{listener.name}: {here} -> {listener.upstream} ({listener.protocol})"
        if self._cluster is not None:
            yield self._cluster.words
        if self._options.control:
            yield f"control API: http://{_shown(self._control)}"

    # Changes

    async def _follow_file(self) -> None:
        """Until it is asked to end."""
        while not self._end.is_set():
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._end.wait()
            except TimeoutError:
                try:
                    if (changed := self._source.changed()) is not None:
                        self._take_file(changed)
                        _say(f"{self._options.fault}: taken up: {len(changed.faults)} faults")
                except (UnreadableError, WrongFileError) as error:
                    _say(f"{error}\nwhat was in force stays")

    def _take_file(self, file: ProxyFile) -> None:
        of_the_api = {name for name, taken in self._faults.taken.items() if taken.source is Source.API}
        for n, fault in enumerate(file.faults):
            if fault.name in of_the_api:
                raise self._source.wrong(("faults", n, "name"), "must not be that of a fault made by the control API")
            if fault.kills and not self._may_kill:
                raise self._source.wrong(("faults", n, fault.fault.kind, "crash"), NO_COMMAND)
            if fault.authority is not None:
                try:
                    self._names.trust(fault.authority, Path(self._options.fault).parent)
                except UnfitError as error:
                    path = ("faults", n, fault.fault.kind, "authority", error.field)
                    raise self._source.wrong(path, str(error)) from error
        if file.client_behavior is not None:
            self._wanted = file.client_behavior
        self._faults.replace_file(file.faults, monotonic())
        self._apply()

    @property
    def _may_kill(self) -> bool:
        return self._cluster is not None and self._cluster.client is not None

    def _apply(self) -> None:
        """Bring what is in force now into force, and come back when that changes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = monotonic()
        rules, until = self._faults.rules(now)
        self._relay.follow(rule for rule in rules if isinstance(rule, Rule))
        streams = [listener.name for listener in self._listeners if listener.protocol is Protocol.TCP]
        self._names.follow([rule for rule in rules if isinstance(rule, NameRule)], streams)
        if self._cluster is not None:
            self._cluster.follow(rule for rule in rules if isinstance(rule, ApiRule))
        if until < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.001, until - now), self._apply)

    # The end

    def _asked_to_end(self) -> None:
        if self._end.is_set():
            self._options.drain_seconds = 0
            if self._cluster is not None and self._cluster.client is not None:
                self._cluster.client.hurry()
        self._end.set()

    def _conclude(self) -> int:
        """The exit code: the verdict where something was asked of the client, else its own."""
        client = self._cluster.client if self._cluster is not None else None
        if self._wanted is None:
            return shown_code(client.code) if client is not None else PASSED
        lines, code = verdict(self._wanted, self._seen, client.code if client is not None else None)
        for line in lines:
            _say(line)
        return code

    async def _drain(self) -> None:
        seconds = self._options.drain_seconds
        api = self._cluster.drain(seconds) if self._cluster is not None else _nobody()
        left, unanswered, clients = await asyncio.gather(self._relay.drain(seconds), self._names.drain(seconds), api)
        left += clients
        if left:
            _say(f"{left} connections were reset: they were still open after {seconds:g} s")
        if unanswered:
            _say(f"{unanswered} DNS queries or connections had no end after {seconds:g} s")

    def _counters(self) -> Json:
        of_cluster = self._cluster.counted() if self._cluster is not None else None
        return counters.document(self._relay.counters(), self._relay.traffic(), self._names.counted(), of_cluster)

    def _tell(self) -> None:
        if self._options.output == "json":
            print(json.dumps(self._counters()))
        else:
            of_cluster = self._cluster.counted() if self._cluster is not None else None
            print(counters.table(self._relay.counters(), self._relay.traffic(), self._names.counted(), of_cluster))


def _listener(number: int, listen: str, upstream: str) -> ProxyListener:
    from bounceback.api.problems import parse

    name, equals, place = listen.rpartition("=")
    place, slash, protocol = place.partition("/")
    entry = {
        "name": name if equals else f"listener-{number}",
        "listen": place,
        "upstream": upstream,
        "protocol": protocol.upper() if slash else "TCP",
    }
    found, problems = parse(ProxyListener, entry, ())
    if found is None:
        words = {"upstream": f"--upstream {upstream}"}
        raise CommandError(
            "; ".join(f"{words.get(str(p.path[0]), f'--listen {listen}')}: {p.message}" for p in problems)
        )
    return found


async def _nobody() -> int:
    return 0


def _more_descriptors() -> None:
    """As many as we may have: two for each connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _shown(where: tuple[str, int]) -> str:
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
