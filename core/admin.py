"""The small HTTP door beside each daemon: GET /healthz, /readyz, /metrics, /status.

  /healthz  200 while the event loop turns
  /readyz   200 when `readiness()` gives no reason against, else 503 with the reasons, one per line
  /metrics  Prometheus text
  /status   JSON for people's tools, where the daemon has it

Knows nothing else of HTTP: one request a connection, GET and HEAD only, a bounded head, a deadline for all of it, and few
connections at once: the daemon's descriptors and memory are for its work. Loopback by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from .errors import Refused

# A probe's request is a few hundred bytes; browsers send up to about 4 KiB of cookies and hints.
HEAD_BYTES_MAX = 8192
REQUEST_SECONDS_MAX = 10.0
# A scraper, a probe, a person and their retries; beyond it a connection is closed unread.
CONNECTIONS_MAX = 32
_TEXT = "text/plain; charset=utf-8"

Readiness = Callable[[], list[str]]
# JSON, made when asked.
Status = Callable[[], bytes]


class AdminServer:
    """Serves until closed. `readiness` returns the reasons why the daemon cannot serve; none means ready."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        readiness: Readiness,
        status: Status | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._readiness = readiness
        self._status = status
        self._server: asyncio.Server | None = None
        self.connections = 0

    @property
    def port(self) -> int:
        """The port listened on, also where 0 was asked for."""
        assert self._server is not None, "started"
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises Refused when the address cannot be listened on."""
        # a second line for each counter that nobody reads
        disable_created_metrics()  # type: ignore[no-untyped-call]
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self._port, limit=HEAD_BYTES_MAX
            )
        except OSError as error:
            raise Refused(
                f"http address {self._host}:{self._port} cannot be listened on: {error.strerror}",
                hint="--http HOST:PORT with a free port",
            ) from error

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.connections >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                writer.close()
                await writer.wait_closed()  # when the peer has taken it
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a probe that went away, or not a probe at all: its connection is all that ends
        finally:
            self.connections -= 1
            writer.transport.abort()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response(405, "only GET\n", method)
        if path == b"/healthz":
            return _response(200, "ok\n", method)
        if path == b"/readyz":
            reasons = self._readiness()
            return _response(
                503 if reasons else 200, "\n".join(reasons or ["ready"]) + "\n", method
            )
        if path == b"/metrics":
            return _response(200, generate_latest(self._registry), method, CONTENT_TYPE_LATEST)
        if path == b"/status" and self._status is not None:
            return _response(200, self._status(), method, "application/json")
        return _response(404, "try /healthz, /readyz or /metrics\n", method)


_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def _response(status: int, body: str | bytes, method: bytes, kind: str = _TEXT) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else content)
