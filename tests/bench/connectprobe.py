"""One CONNECT answered: the moment a broker that starts can be used."""

from __future__ import annotations

import socket
import time

from . import wire

TIMEOUT_SECONDS = 60.0
PAUSE_SECONDS = 0.005


def wait(port: int, timeout: float = TIMEOUT_SECONDS) -> float:
    """Seconds until a CONNACK came. Raises TimeoutError."""
    began = time.monotonic()
    while time.monotonic() - began < timeout:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
                sock.sendall(wire.connect("probe"))
                if sock.recv(4)[:1] == b"\x20":
                    return time.monotonic() - began
        except OSError:
            pass
        time.sleep(PAUSE_SECONDS)
    raise TimeoutError(f"no CONNACK in {timeout} s")
