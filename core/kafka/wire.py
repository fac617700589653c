"""What a connection cost on the wire, as the kernel counts it (TCP_INFO): retransmissions, TLS and headers included.

The kernel counts payload and packets of this socket alone, so other programs on the interface do not matter; headers of
IP and TCP are added per packet. Where the kernel cannot be asked the bytes that we wrote and read stand in.
Layout: struct tcp_info in linux/tcp.h, which only ever grows at its end; bytes_sent came with 4.19.
"""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple

_IPPROTO_TCP = 6
_TCP_INFO = 11
_INFO_BYTES = 256
# bytes acked, received @120; packets out, in @136; not sent @144 | bytes sent, of them again @200
_FIRST = struct.Struct("=QQIII")
_FIRST_AT = 120
_SECOND = struct.Struct("=QQ")
_SECOND_AT = 200
# TCP with timestamps; IP version 4 and 6.
_TCP_HEADER = 32
_IPV4_HEADER = 20
_IPV6_HEADER = 40


class WireCount(NamedTuple):
    """Bytes of one connection since it began. `sent`, `received`: on the wire, with headers; `acked`: payload that the
    peer's kernel has; `unacked`: payload handed over of which that is not known; `unsent`: the part of it still here."""

    sent: int = 0
    received: int = 0
    acked: int = 0
    unacked: int = 0
    unsent: int = 0


def wire_count(transport: asyncio.Transport, *, written: int, read: int) -> WireCount:
    """`written` and `read`: what we handed over and got, for where the kernel cannot be asked."""
    socket = transport.get_extra_info("socket")
    buffered = transport.get_write_buffer_size()
    try:
        info = socket.getsockopt(_IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
        acked, received, packets_out, packets_in, not_sent = _FIRST.unpack_from(info, _FIRST_AT)
        sent, again = _SECOND.unpack_from(info, _SECOND_AT)
    except (AttributeError, OSError, struct.error):  # no socket, a closed one, an old kernel
        return WireCount(written - buffered, read, written - buffered, buffered, buffered)
    peer = transport.get_extra_info("peername")
    header = _TCP_HEADER + (_IPV6_HEADER if peer and ":" in str(peer[0]) else _IPV4_HEADER)
    unsent = not_sent + buffered
    return WireCount(
        sent + packets_out * header,
        received + packets_in * header,
        acked,
        max(0, sent - again - acked) + unsent,
        unsent,
    )
