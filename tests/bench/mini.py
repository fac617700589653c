"""A small MQTT 3.1.1 connection for loads, on asyncio: connects, subscribes, hands on what comes, counts what was lost.

Trusts its broker. What a load does with thousands of packets a second it does on the raw bytes (`on_bytes`); what it does
rarely, by whole packets (`on_packet`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from . import wire

CONNECT_SECONDS_MAX = 60.0
SUBACK = 9


class Mini(asyncio.Protocol):
    def __init__(self, name: str, *, clean: bool = True) -> None:
        self._name = name
        self._clean = clean
        self._reader = wire.PacketReader()
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        self.subscribed: asyncio.Future[None] = loop.create_future()
        self.lost = False
        self.on_packet: Callable[[wire.Packet], None] = lambda packet: None
        self.on_bytes: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not asyncio's class
        self.transport = cast("asyncio.WriteTransport", transport)
        self.transport.write(wire.connect(self._name, clean=self._clean))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        if self.on_bytes is not None:
            self.on_bytes(data)
            return
        for packet in self._reader.feed(data):
            if packet.kind == wire.CONNACK:
                assert packet.body[1] == 0, f"the broker said {packet.body!r}"
                self.connected.set_result(None)
            elif packet.kind == SUBACK:
                assert packet.body[2] < 0x80, f"the broker said {packet.body!r}"
                self.subscribed.set_result(None)
            else:
                self.on_packet(packet)

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        self.write(subscribe(topic_filter, qos))
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await self.subscribed


def subscribe(topic_filter: str, qos: int, packet_id: int = 1) -> bytes:
    return wire.packet(0x82, packet_id.to_bytes(2, "big") + wire.text(topic_filter) + bytes([qos]))


async def connect(port: int, name: str, *, host: str = "127.0.0.1", clean: bool = True) -> Mini:
    loop = asyncio.get_running_loop()
    _, mini = await loop.create_connection(lambda: Mini(name, clean=clean), host, port)
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        await mini.connected
    return mini
