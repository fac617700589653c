"""Plain TCP connections on one epoll of our own: what a fan-in of many small packets costs is system calls, so make few.

asyncio wakes one callback for each readable socket, and each callback is a good microsecond of loop before the first byte
is looked at. Here all connections lie in one epoll, and the loop only watches that epoll: one wake-up, one *round* over
all that is readable, one `on_round` when all have been heard. A write goes straight to `send`, which on a connection that
keeps up is the whole of it.

    sockets.py      chooses the twin          _epoll.pyx      compiled          _epoll_py.py      pure, and the theory
    accepting.py    binds and accepts

Rules. Level-triggered: what a round leaves is offered again. One `recv` per connection and round, so that nobody starves.
A protocol's `connection_lost` comes from the loop, never from within `write` or `close`. TLS and WebSocket stay with
asyncio.
"""
