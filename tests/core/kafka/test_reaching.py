"""A name with several addresses: one that is silent or refuses holds up none of the others."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest

from headwater.core.kafka.connection import dial_tcp
from headwater.core.kafka.reaching import Place, reach
from tests.cloud.broker.running import run

STAGGER_S = 0.01


def _place(address: str, port: int) -> Place:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port))


def _names(*places: Place) -> Callable[[str, int], Awaitable[Sequence[Place]]]:
    async def ask(host: str, port: int) -> Sequence[Place]:
        return places

    return ask


@pytest.fixture
def alive() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[int]:
    """Nobody accepts and the queue is full: the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(2):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filling.connect(listening.getsockname())
        yield int(listening.getsockname()[1])


def test_a_silent_address_does_not_hold_up_the_next(alive: int, silent: int) -> None:
    async def body() -> None:
        ask = _names(_place("127.0.0.1", silent), _place("127.0.0.1", alive))
        with await reach("cloud.example", 1, ask=ask, stagger_s=STAGGER_S) as sock:
            assert sock.getpeername()[1] == alive

    run(body())


def test_one_that_refuses_is_followed_at_once(alive: int) -> None:
    async def body() -> None:
        ask = _names(_place("127.0.0.1", 1), _place("127.0.0.1", alive))
        async with asyncio.timeout(5):
            with await reach("cloud.example", 1, ask=ask, stagger_s=3600) as sock:
                assert sock.getpeername()[1] == alive

    run(body())


def test_the_error_is_that_of_the_first_address() -> None:
    async def body() -> None:
        ask = _names(_place("127.0.0.1", 1), _place("256.0.0.1", 1))
        with pytest.raises(OSError) as caught:
            await reach("cloud.example", 1, ask=ask, stagger_s=STAGGER_S)
        assert caught.value.errno == errno.ECONNREFUSED

    run(body())


def test_families_take_turns_beginning_with_the_resolvers_first(alive: int) -> None:
    six: Place = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 1))

    async def body() -> None:
        ask = _names(six, six, six, _place("127.0.0.1", alive))
        async with asyncio.timeout(5):
            with await reach("cloud.example", 1, ask=ask, stagger_s=3600) as sock:
                assert sock.getpeername()[1] == alive

    run(body())


def test_a_connection_made_so_sends_small_writes_at_once(alive: int) -> None:
    async def body() -> None:
        transport = await dial_tcp(asyncio.Protocol, "127.0.0.1", alive)
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.abort()

    run(body())
