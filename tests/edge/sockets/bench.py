"""Connections of ours over real sockets, and their other ends."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType

from headwater.edge.sockets import _epoll_py

HIGH = 100_000


class Heard:
    """A protocol that remembers, and calls `on_data` while it is being called."""

    def __init__(self) -> None:
        self.data = b""
        self.reads = 0
        self.eof = 0
        self.paused: list[bool] = []
        self.lost: list[Exception | None] = []
        self.on_data: Callable[[], None] = lambda: None

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.reads += 1
        self.on_data()

    def eof_received(self) -> bool:
        self.eof += 1
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)

    def pause_writing(self) -> None:
        self.paused.append(True)

    def resume_writing(self) -> None:
        self.paused.append(False)


class Bench:
    def __init__(self, owner: _epoll_py.Sockets) -> None:
        self.owner = owner
        self.peers: list[socket.socket] = []

    def connect(self) -> tuple[_epoll_py.Connection, Heard, socket.socket]:
        """(our connection, its protocol, the other end) over TCP, so that a reset is a reset."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        peer.setblocking(False)
        self.peers.append(peer)
        heard = Heard()
        return self.owner.adopt(ours, heard, write_buffer_max=HIGH), heard, peer


@asynccontextmanager
async def bench(
    twin: ModuleType,
    on_round: Callable[[], None] | None = None,
    patient: Callable[[], bool] | None = None,
) -> AsyncIterator[Bench]:
    made = Bench(twin.Sockets(asyncio.get_running_loop(), on_round, patient))
    try:
        yield made
    finally:
        made.owner.close()
        for peer in made.peers:
            peer.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is in the kernel
            await asyncio.sleep(0.001)


def drain(peer: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            more = peer.recv(65536)
        except BlockingIOError:
            return data
        if not more:
            return data
        data += more


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
