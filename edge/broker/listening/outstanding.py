"""What of the bytes written to a connection its peer's TCP has not acknowledged: a small capability beside the transport.

Linux counts it (SIOCOUTQ, tcp(7)): write_seq − snd_una, sent or not. Zero means that everything has arrived at the other
machine's kernel; whether the program there has read it, nothing on this side can know.
"""

from __future__ import annotations

import fcntl
import termios
from collections.abc import Callable
from typing import Any, Protocol


class Connected(Protocol):
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
    def get_write_buffer_size(self) -> int: ...


def unacknowledged(transport: Connected) -> Callable[[], int | None]:
    """Asks when called: bytes, or None where it cannot be told (the socket is closed, or is no socket)."""

    def ask() -> int | None:
        sock = transport.get_extra_info("socket")
        if sock is None or (descriptor := sock.fileno()) < 0:
            return None
        try:
            answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return None
        return transport.get_write_buffer_size() + int.from_bytes(answer, "little")

    return ask
