"""The inlet: a client of our broker without a socket. Publishes go in as packets, acknowledgements come out by identifier.

It is MQTT 5 towards the broker, so that a refusal has a reason:

    PUBACK, success          the commit is durable: acknowledge upstream
    PUBACK, quota exceeded   the log is full: *not* acknowledged; the upstream keeps it, and delivers it again when we
                             connect again, so the connection ends and is tried again after a pause
    PUBACK, other refusal    it can never be stored (too large, a topic of `$…`): acknowledged, counted, and the first of
                             its kind logged, else it would stand before all others for ever

The session is a kept one under an identifier that no local client can guess (it has the log's identity in it), resumed
exactly when the upstream says that it has kept ours: then what is delivered again has the identifiers of then, and what
was stored already is told by them (broker/doubts.py). `drained` is the evidence that it needs.

Access rules are for those who come through a door; a source is what the edge's own settings name, and takes what they say.

Knows nothing of sockets, threads, nor of who calls it.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import structlog

from ..broker.broker import Broker
from ..broker.client import Client
from ..mqtt.decoding import decode_packet
from ..mqtt.encoding import encode_packet
from ..mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    PacketType,
    Publish,
    Version,
)
from ..mqtt.properties import Properties
from ..mqtt.reasons import Reason

_log = structlog.get_logger("edge.sources")
_FOR_EVER = 0xFFFF_FFFF  # the broker grants as much as it allows
_PINGREQ = b"\xc0\x00"


class Outlet(Protocol):
    """What is done upstream."""

    def acknowledge(self, packet_id: int) -> None: ...
    def pause(self) -> None:
        """Read nothing more for now."""

    def resume(self) -> None: ...
    def give_up(self, why: str) -> None:
        """End the connection without acknowledging what is open; try again after a pause."""

    def drained(self) -> bool:
        """The upstream's TCP has all that we wrote."""


class Inlet:
    """One connection's worth: made when the upstream accepted us, `close`d when it is gone."""

    def __init__(
        self, broker: Broker, outlet: Outlet, client_id: str, refused: Counter[str]
    ) -> None:
        self._broker = broker
        self._outlet = outlet
        self._refused = refused
        self._largest = broker.settings.packet_bytes_max
        self._client: Client | None = None
        self._waiting: list[bytes] = []
        self._client_id = client_id
        self._pings = False
        self.open = 0  # fed at QoS 1 and not answered

    def connect(self, *, resumed: bool) -> None:
        client = self._client = self._broker.client()
        client.unacknowledged = self._unacknowledged
        client.connection_made(_Wire(self, self._outlet))
        packet = Connect(
            version=Version.V5,
            client_id=self._client_id,
            clean_start=not resumed,
            properties=Properties(session_expiry_interval=_FOR_EVER),
        )
        client.data_received(encode_packet(packet, Version.V5))

    def publish(self, packet: Publish) -> None:
        """Gathered until `flush`."""
        data = encode_packet(packet, Version.V5)
        if len(data) > self._largest or packet.topic.startswith("$"):
            self._drop(packet.qos and packet.packet_id, "never to be stored")
            return
        self.open += packet.qos
        self._waiting.append(data)

    def flush(self) -> None:
        """What one read of the upstream brought, to the broker in one piece."""
        if self._waiting and self._client is not None:
            data, self._waiting = b"".join(self._waiting), []
            self._client.data_received(data)

    def tick(self) -> None:
        """Now and then: the broker may want to hear us."""
        if self._pings and self._client is not None:
            self._client.data_received(_PINGREQ)

    def close(self) -> None:
        client, self._client = self._client, None
        self._waiting.clear()
        if client is not None:
            client.connection_lost(None)

    def _drop(self, packet_id: int, why: str) -> None:
        if not self._refused[why]:  # the rest is counted
            _log.warning(
                "a message of an upstream was given up", client=self._client_id, reason=why
            )
        self._refused[why] += 1
        if packet_id:
            self._outlet.acknowledge(packet_id)

    def _unacknowledged(self) -> int | None:
        return 0 if self._outlet.drained() else None

    def heard(self, data: bytes) -> None:
        """What our broker says to us."""
        position = 0
        while position < len(data):
            first_byte, (length, start) = data[position], _length(data, position + 1)
            position = start + length
            if first_byte == PacketType.PUBACK << 4 and length == 2:  # nearly always
                self._answered(int.from_bytes(data[start:position], "big"), Reason.SUCCESS)
                continue
            packet = decode_packet(first_byte, data[start:position], Version.V5)
            if isinstance(packet, Acknowledgement):
                self._answered(packet.packet_id, packet.reason)
            elif isinstance(packet, Connack):
                self._pings = packet.properties.server_keep_alive is not None
                if packet.reason is not Reason.SUCCESS:
                    self._outlet.give_up(f"our own broker refused: {packet.reason.name.lower()}")
            elif isinstance(packet, Disconnect):
                self._outlet.give_up(f"our own broker ended it: {packet.reason.name.lower()}")

    def _answered(self, packet_id: int, reason: Reason) -> None:
        self.open -= 1
        if reason is Reason.QUOTA_EXCEEDED:
            self._refused["log full"] += 1
            self._outlet.give_up("the log is full")
        elif reason >= Reason.UNSPECIFIED_ERROR:
            self._drop(packet_id, reason.name.lower().replace("_", " "))
        else:
            self._outlet.acknowledge(packet_id)


class _Wire:
    """The transport under our client: `broker/transport.py`."""

    def __init__(self, inlet: Inlet, outlet: Outlet) -> None:
        self._outlet = outlet
        self.write = inlet.heard
        self.pause_reading = outlet.pause
        self.resume_reading = outlet.resume

    def close(self) -> None:
        self._outlet.give_up("our own broker ended it")

    abort = reset = close

    def get_write_buffer_size(self) -> int:
        return 0


def _length(data: bytes, position: int) -> tuple[int, int]:
    """MQTT's variable byte integer, and where what follows begins. Our own broker's bytes: whole and well formed."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
