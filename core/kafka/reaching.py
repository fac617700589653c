"""From a name to a connected socket: every address that the name has is tried, and none holds up the others.

A name often has several addresses, an IPv6 one first, and one may swallow what is sent to it (a tunnel that is down, a node
of three that is off). The event loop tries them one after the other, and its time is up with the first that is silent, each
time anew. So the next is begun when the one before failed, or was silent for `STAGGER_S` (RFC 8305); the first that answers
wins.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable, Sequence

# RFC 8305 says 0.25 s. A second: over a modem an honest answer takes most of one, and each attempt costs bytes.
STAGGER_S = 1.0

Place = tuple[int, int, int, str, tuple[object, ...]]  # as getaddrinfo tells it
Resolve = Callable[[str, int], Awaitable[Sequence[Place]]]


async def resolve(host: str, port: int) -> Sequence[Place]:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def reach(
    host: str, port: int, *, ask: Resolve = resolve, stagger_s: float = STAGGER_S
) -> socket.socket:
    """Connected, and the caller's to close. Raises OSError: what the first address said."""
    waiting = _alternating(await ask(host, port))
    if not waiting:
        raise OSError(f"{host} has no address")
    attempts: set[asyncio.Task[socket.socket]] = set()
    failed: list[OSError] = []
    try:
        while attempts or waiting:
            if waiting:
                attempts.add(asyncio.create_task(_connect(waiting.pop(0))))
            done, attempts = await asyncio.wait(
                attempts,
                timeout=stagger_s if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if (found := _first(done, attempts, failed)) is not None:
                return found
        raise failed[0]
    finally:
        for attempt in attempts:
            attempt.cancel()
        for ended in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(ended, socket.socket):
                ended.close()


def _first(
    done: set[asyncio.Task[socket.socket]],
    attempts: set[asyncio.Task[socket.socket]],
    failed: list[OSError],
) -> socket.socket | None:
    """One that connected; others that did at the same moment are left in `attempts`, to be closed."""
    found: socket.socket | None = None
    for attempt in done:
        error = attempt.exception()
        if isinstance(error, OSError):
            failed.append(error)
        elif error is not None:
            raise error
        elif found is None:
            found = attempt.result()
        else:
            attempts.add(attempt)
    return found


def _alternating(places: Sequence[Place]) -> list[Place]:
    """The families by turns, beginning with the one that the resolver puts first."""
    families: dict[int, list[Place]] = {}
    for place in places:
        families.setdefault(place[0], []).append(place)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*families.values()))
    return [place for place in turns if place is not None]


async def _connect(place: Place) -> socket.socket:
    family, kind, protocol, _, address = place
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
