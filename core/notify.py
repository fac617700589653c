"""What systemd is told (sd_notify(3)): READY, STOPPING, and WATCHDOG while a daemon is alive. Silent without systemd."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


class ServiceManager:
    """`watchdog_s` is how often `alive` wants to be called; None: nobody watches."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the abstract namespace
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog_us = environ.get("WATCHDOG_USEC", "")
        wanted = self._address and watchdog_us.isdigit() and int(watchdog_us) > 0
        # a third of the limit: one late call is forgiven
        self.watchdog_s = int(watchdog_us) / 3e6 if wanted else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # a service manager that is not there is no reason to fail
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            sender.sendto(text.encode(), self._address)
