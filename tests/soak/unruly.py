"""Those who misbehave: garbage, half a CONNECT, a byte now and then, an oversized packet, silence, a broken handshake.

Each is cut off by the edge sooner or later, or cuts itself off; none is a mishap.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import Connect, Publish, Version
from headwater.edge.mqtt.properties import Properties

from .client import HOST, Place

PATIENCE_S = 30.0


class Unruly:
    def __init__(self, plain: Place, tls: Place, web: Place, rng: random.Random) -> None:
        self._ports = (plain.port, tls.port, web.port)
        self._plain = plain.port
        self._rng = rng
        self.turns = 0

    async def live(self) -> None:
        """One misdeed, at one of the listeners."""
        self.turns += 1
        deed: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
        deed = self._rng.choice(
            (self.garbage, self.half_open, self.loris, self.oversized, self.confused, self.torn)
        )
        port = self._rng.choice(self._ports)
        if deed in (self.oversized, self.confused, self.torn):
            port = self._plain
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            await deed(reader, writer)
        finally:
            writer.transport.abort()
        await asyncio.sleep(self._rng.uniform(0, 0.3))

    async def _until_cut_off(self, reader: asyncio.StreamReader, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while await reader.read(65_536):
                    pass
        except (TimeoutError, ConnectionError):
            return

    async def garbage(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._rng.randbytes(self._rng.randrange(1, 5000)))
        await self._until_cut_off(reader, 2)

    async def half_open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._until_cut_off(reader, PATIENCE_S)

    async def loris(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = encode_packet(Connect(version=Version.V5, client_id="l" * 200), Version.V5)
        for byte in connect:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.3)
            if reader.at_eof():
                return

    async def oversized(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_packet(self._hello(), Version.V5))
        writer.write(b"\x30\xff\xff\xff\x7f" + bytes(100_000))
        await self._until_cut_off(reader, 2)

    async def confused(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A second CONNECT, an alias never set, a packet identifier of 0: one of them."""
        wrong = self._rng.choice(
            (
                encode_packet(self._hello(), Version.V5),
                encode_packet(
                    Publish(topic="", payload=b"", properties=Properties(topic_alias=9)), Version.V5
                ),
                b"\x32\x06\x00\x01a\x00\x00\x00",
                b"\x62\x02\x00\x07",
                b"\xf0\x01\x00",
            )
        )
        writer.write(encode_packet(self._hello(), Version.V5) + wrong)
        await self._until_cut_off(reader, 2)

    async def torn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Goes in the middle of a large PUBLISH."""
        large = encode_packet(
            Publish(topic="machine/torn", payload=bytes(300_000), qos=1, packet_id=1), Version.V5
        )
        writer.write(encode_packet(self._hello(), Version.V5) + large[:200_000])
        await asyncio.sleep(0.2)

    def _hello(self) -> Connect:
        return Connect(version=Version.V5, client_id=f"unruly-{self._rng.randrange(100)}")
