"""The HTTP/1.1 request that asks for a WebSocket (RFC 6455, section 4.2): bytes in, an answer out. Owns no socket.

What is not such a request gets an HTTP error and a closed connection; the head is bounded. The subprotocol must be
`mqtt` ([MQTT-6.0.0-3]; clients of before 2014 say `mqttv3.1`). A browser says from which page it comes: another
site's page must not reach a broker on its reader's machine, so unless the listener names its origins, only pages of
the host connected to are taken, and on loopback only by its own names, since a site's DNS may point there (rebinding).
Clients that are no browsers send no Origin.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

HEAD_BYTES_MAX = 8192
SUBPROTOCOLS = ("mqtt", "mqttv3.1")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(\d)\.(\d)\Z")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*\Z")

_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}\Z")

_PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    505: "HTTP Version Not Supported",
}


class BadHandshake(Exception):
    """Answered with an HTTP error; nothing more is read."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        extra = "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n" if status == 426 else ""
        extra += "Allow: GET\r\n" if status == 405 else ""
        body = f"{why}\n"
        self.answer = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n{extra}Connection: close\r\n\r\n{body}"
        ).encode("ascii", "replace")


class Upgrade:
    """Feed it until it answers: (bytes to write, bytes of frames that came with the request)."""

    __slots__ = ("_head", "_is_local", "_origins", "_path")

    def __init__(self, path: str, origins: Sequence[str], *, is_local: bool = False) -> None:
        self._is_local = is_local
        self._path = path
        self._origins = origins
        self._head = b""

    @property
    def held_bytes(self) -> int:
        return len(self._head)

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """None: the request is not whole. Raises BadHandshake."""
        self._head += data
        end = self._head.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            if len(self._head) >= HEAD_BYTES_MAX:
                raise BadHandshake(431, f"a request head above {HEAD_BYTES_MAX} bytes")
            if self._head[:1] and not self._head[:1].isalpha():
                raise BadHandshake(400, "not HTTP")
            return None
        head, rest = self._head[:end], self._head[end + 4 :]
        self._head = b""
        return self._judge(head), rest

    def _judge(self, head: bytes) -> bytes:
        lines = head.decode("latin-1").split("\r\n")
        request = _REQUEST.match(lines[0])
        if request is None:
            raise BadHandshake(400, "not an HTTP request line")
        if request[3] != "1" or request[4] == "0":
            raise BadHandshake(505, "HTTP/1.1 is needed")
        if request[1] != "GET":
            raise BadHandshake(405, "a WebSocket begins with GET")
        # clients that were given no path, as Mosquitto needs none, ask for the root
        if request[2].partition("?")[0] not in {self._path, "/"}:
            raise BadHandshake(404, "there is no such path")
        fields = _fields(lines[1:])
        if "websocket" not in _tokens(fields, "upgrade") or "upgrade" not in _tokens(
            fields, "connection"
        ):
            raise BadHandshake(426, "this is a WebSocket, for MQTT")
        if fields.get("sec-websocket-version") != "13":
            raise BadHandshake(426, "WebSocket version 13 is needed")
        if "host" not in fields:
            raise BadHandshake(400, "no Host")
        self._check_origin(fields)
        offered = [each.strip() for each in fields.get("sec-websocket-protocol", "").split(",")]
        # `mqtt` wherever it stands in the client's list ([MQTT-6.0.0-4])
        chosen = next((each for each in SUBPROTOCOLS if each in offered), None)
        if chosen is None:
            raise BadHandshake(400, "the subprotocol mqtt is needed")
        key = fields.get("sec-websocket-key", "")
        if not _is_key(key):
            raise BadHandshake(400, "Sec-WebSocket-Key must be 16 bytes in Base64")
        accept = base64.b64encode(
            hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
        ).decode()
        return (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n"
        ).encode()

    def _check_origin(self, fields: dict[str, str]) -> None:
        origin = fields.get("origin")
        if origin is None or "*" in self._origins or origin in self._origins:
            return
        if not self._origins:
            try:
                host = urlsplit(f"//{fields['host']}").hostname
                if host and urlsplit(origin).hostname == host and self._may_be_called(host):
                    return
            except ValueError:
                pass
        raise BadHandshake(403, "pages of this origin may not connect")

    def _may_be_called(self, host: str) -> bool:
        """A name that another site's DNS made point to this machine's loopback is not this machine's."""
        return (
            not self._is_local or host in ("localhost", "::1") or _LOOPBACK.match(host) is not None
        )


def _fields(lines: Sequence[str]) -> dict[str, str]:
    """Names in lower case; repeated ones joined, as lists are (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for line in lines:
        field = _FIELD.match(line)
        if field is None:
            raise BadHandshake(400, "not an HTTP header line")
        name = field[1].lower()
        if name in ("host", "sec-websocket-key", "sec-websocket-version") and name in found:
            raise BadHandshake(400, "a header that must stand once stands twice")
        found[name] = f"{found[name]}, {field[2]}" if name in found else field[2]
    return found


def _tokens(fields: dict[str, str], name: str) -> list[str]:
    return [each.strip().lower() for each in fields.get(name, "").split(",")]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except ValueError:  # binascii.Error, or a character that is not ASCII at all
        return False
