"""The transport under a client, as far as it is used, and the reasons for not reading from it."""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """asyncio.Transport, as far as it is used."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def reset(self) -> None:
        """Abort, and have the kernel forget what it could not send (SO_LINGER of zero, socket(7)). For a peer that reads
        nothing it would keep that for a quarter of an hour, and the socket with it (tcp_orphan_retries, tcp(7))."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...


class Pause:
    """Why a client is not read; bits of a plain int, because an enum's `&` costs as much as a parsed packet."""

    DISK = 1  # the journal has enough to do, or the disk refuses, and enough is held of it
    WINDOW = 2  # too many of its own publishes are unacknowledged
    WRITE = 4  # it does not read what we write
    RATE = 8  # it publishes faster than its listener allows
    ACCESS = 16  # its password is being verified
    CONNECT = 32  # its CONNACK waits for the disk
    TURN = 512  # it has had its turn, and others have theirs
    KNOCK = 256  # its CONNECT waits until the disk has room for what it asks
    WORK = 128  # what it subscribed to cost more than its share
    GATHERING = 64  # there is no room now for a packet as large as the one it has begun
