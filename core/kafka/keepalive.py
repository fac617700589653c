"""A TCP connection that notices that the other end is gone, and that a carrier's NAT does not forget. Rim.

Probes after a silence keep the NAT's entry (mobile carriers drop idle ones after minutes) and find a peer that vanished.
What was sent and is not acknowledged for `timeout_s` ends the connection, rather than the kernel's quarter of an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

_PROBES = 4
_PROBE_EVERY_S = 10


def keep_alive(transport: asyncio.BaseTransport, *, idle_s: float, timeout_s: float) -> None:
    """`idle_s` of 0: no probes. A socket that is none (tests) is left alone."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    options = [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))]
    if idle_s > 0:
        options += [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(idle_s))),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
        ]
    with contextlib.suppress(OSError):  # a connection that has just ended
        for level, option, value in options:
            sock.setsockopt(level, option, value)
