"""Relays: programs in the path of a connection, that do to it what the rules say (types/relay.py).

`relay.Relay` is what entry points use:

    relay = Relay()
    await relay.listen("db", "127.0.0.1", 5433, Fixed("db", 5432))   # or Original(mark) for redirected connections
    relay.follow([Rule("slow", Hold(delay_us=200_000), Direction.INGRESS)])
    relay.counters(), relay.traffic()
    left = await relay.drain(30)

It needs asyncio with a loop that has `connect_accepted_socket`; uvloop is meant, and what was measured.

A protocol of its own (TLS, say) takes connections over by a handler, `relay.Handler`: a coroutine that gets each
connection of a listener before anything was read from it, and says whether it is its own now. It may look at the first
bytes with MSG_PEEK, and open the upstream with `accepted.dial()`; what it declines goes through the relay untouched.
What it takes it serves by itself, in tasks of its own: the rules for streams do not reach it.
"""
