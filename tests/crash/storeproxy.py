"""A store that answers errors: an HTTP proxy before a real S3 server that misbehaves as networks and servers do.

Rule: each request meets at most one fault, drawn from a seeded generator; what the fault means for the data is its name.

    REFUSED      503 at once: nothing happened
    LOST         the connection breaks before anything was forwarded: nothing happened
    UNANSWERED   forwarded, applied, and the connection breaks before the answer: it happened, and the caller cannot know
    FAILED       forwarded, applied, answered with 500: it happened, and the answer says otherwise
    LATE         applied a while later, then answered
    AFTERWARDS   the connection breaks at once; applied a while after: whoever repeated it may find it done twice

Bytes are passed as they are, so signatures stay valid; one request a connection. Runs on a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import re
import threading
from collections import Counter

HEAD_BYTES_MAX = 64 * 1024
LATE_SECONDS_MAX = 0.4

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[^\r]*", re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)


class Fault(enum.Enum):
    REFUSED = enum.auto()
    LOST = enum.auto()
    UNANSWERED = enum.auto()
    FAILED = enum.auto()
    LATE = enum.auto()
    AFTERWARDS = enum.auto()


FAULTS = tuple(Fault)


class StoreProxy:
    """`share` of the requests meet a fault; it may be changed at any time. `met` counts them."""

    def __init__(self, target_port: int, *, rng: random.Random, share: float = 0.0) -> None:
        self.share = share
        self.met: Counter[Fault] = Counter()
        self.passed = 0
        self._target_port = target_port
        self._rng = rng
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="store proxy")

    def start(self) -> int:
        """Returns the port."""
        self._thread.start()
        self._ready.wait()
        return self._port

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        self._port = int(server.sockets[0].getsockname()[1])
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._one(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the caller was killed, or gave up waiting: that is what this is for
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _request(reader, writer)
        fault = self._rng.choice(FAULTS) if self._rng.random() < self.share else None
        late = self._rng.uniform(0.05, LATE_SECONDS_MAX)
        if fault is None:
            self.passed += 1
            writer.write(await self._forward(request))
            return
        self.met[fault] += 1
        if fault is Fault.REFUSED:
            writer.write(_error(503, "Service Unavailable", "SlowDown"))
        elif fault is Fault.UNANSWERED:
            await self._forward(request)
        elif fault is Fault.FAILED:
            await self._forward(request)
            writer.write(_error(500, "Internal Server Error", "InternalError"))
        elif fault is Fault.LATE:
            await asyncio.sleep(late)
            writer.write(await self._forward(request))
        elif fault is Fault.AFTERWARDS:
            writer.close()
            await asyncio.sleep(late)
            await self._forward(request)

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        with contextlib.closing(writer):
            writer.write(request)
            return await reader.read(-1)


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """One whole request, made the last of its connection so that the answer ends with it."""
    head = await reader.readuntil(b"\r\n\r\n")
    if _EXPECT.search(head):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = _EXPECT.sub(b"", head)
    assert b"chunked" not in head.lower().split(b"\r\n\r\n")[0], "bodies come with their length"
    head = _CONNECTION.sub(b"", head)[:-4] + b"\r\nConnection: close\r\n\r\n"
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


def _error(status: int, phrase: str, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
