"""One MQTT connection over asyncio streams: packets in, packets out, nothing decided here.

It speaks with the project's own codec, because a soak looks for what grows and what gets lost; whether the codec is
right is tried with clients of others (`foreign.py`, tests/interop).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from headwater.edge.mqtt.decoding import decode_packet
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Publish,
    Version,
    Will,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties

READ_BYTES = 65_536
PATIENCE_S = 60.0
HOST = "127.0.0.1"


class Gone(Exception):
    """The connection is over; the message says what the broker said last, if anything."""


class Place(NamedTuple):
    """Where to connect."""

    port: int
    tls: ssl.SSLContext | None = None


class Client:
    """Use `open`. `session_present` is what CONNACK said."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: Version
    ) -> None:
        self._reader, self._writer = reader, writer
        self.version = version
        self.connack = Connack()
        self._buffer = bytearray()

    @classmethod
    async def open(
        cls,
        place: Place,
        client_id: str,
        *,
        version: Version = Version.V5,
        clean: bool = True,
        will: Will | None = None,
        keep_alive: int = 0,
        properties: Properties = NO_PROPERTIES,
    ) -> Client:
        """Raises Gone where it is refused, OSError where nobody listens."""
        reader, writer = await asyncio.open_connection(
            HOST, place.port, ssl=place.tls, server_hostname=HOST if place.tls else None
        )
        client = cls(reader, writer, version)
        try:
            client.send(
                Connect(
                    version=version,
                    client_id=client_id,
                    clean_start=clean,
                    keep_alive=keep_alive,
                    will=will,
                    properties=properties if version is Version.V5 else NO_PROPERTIES,
                )
            )
            (connack, *early) = await client.read()
            if not isinstance(connack, Connack) or connack.reason != 0:
                raise Gone(f"{client_id} was answered {connack}")
            client.connack = connack
            client._early = early
        except BaseException:
            client.abort()
            raise
        return client

    _early: list[Packet]

    def send(self, *packets: Packet) -> None:
        """Raises Gone where the connection is over already."""
        if self._writer.is_closing():
            raise Gone("lost")
        self._writer.write(b"".join(encode_packet(each, self.version) for each in packets))

    async def drain(self) -> None:
        await self._writer.drain()

    async def read(self) -> list[Packet]:
        """At least one packet. Raises Gone at the end; TimeoutError after PATIENCE_S of silence."""
        early = self.__dict__.pop("_early", None)
        if early:
            return list(early)
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    data = await self._reader.read(READ_BYTES)
            except ConnectionError as error:
                raise Gone(str(error)) from error
            if not data:
                raise Gone("closed by the broker")
            self._buffer += data
            packets = list(self._packets())
            for packet in packets:
                if isinstance(packet, Disconnect):
                    raise Gone(f"DISCONNECT {packet}")
            if packets:
                return packets

    def _packets(self) -> list[Packet]:
        buffer, found, start = self._buffer, [], 0
        while True:
            length = shift = 0
            position = start + 1
            while position < len(buffer):
                byte = buffer[position]
                length |= (byte & 0x7F) << shift
                shift += 7
                position += 1
                if byte < 0x80:
                    break
            else:
                break
            if position + length > len(buffer):
                break
            body = bytes(buffer[position : position + length])
            found.append(decode_packet(buffer[start], body, self.version))
            start = position + length
        del buffer[:start]
        return found

    def abort(self) -> None:
        """Cut: no DISCONNECT, what was not sent is not sent."""
        self._writer.transport.abort()

    async def leave(self) -> None:
        """DISCONNECT, in good order."""
        self.send(Disconnect())
        self._writer.close()


def answer_to(packet: Packet) -> Packet | None:
    """What a receiver owes for a PUBLISH or PUBREL."""
    if isinstance(packet, Publish):
        if packet.qos == 0:
            return None
        kind = PacketType.PUBACK if packet.qos == 1 else PacketType.PUBREC
        return Acknowledgement(kind, packet.packet_id)
    if isinstance(packet, Acknowledgement) and packet.kind is PacketType.PUBREL:
        return Acknowledgement(PacketType.PUBCOMP, packet.packet_id)
    return None
