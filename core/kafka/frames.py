"""From bytes to frames and back: the length prefix, and the header before each request and response. Sans-I/O.

    frame     int32 length, then that many bytes
    request   api key int16, version int16, correlation id int32, client id (nullable string, never compact), and in
              flexible versions a tag buffer; then the message
    response  correlation id int32, in flexible versions a tag buffer; then the message

The one exception: the response to ApiVersions never has the tag buffer, since the asker may not know flexible versions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from ..errors import Refused
from .messages import REQUESTS, ApiVersionsRequest
from .primitives import Buffer, decode_uvarint
from .schema import Message, Request

_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">ihhih")  # length, key, version, correlation id, length of the client id
_REQUEST_HEAD = struct.Struct(">hhih")
_RESPONSE = struct.Struct(">ii")

R = TypeVar("R", bound=Message)


class FrameReader:
    """Bytes in as they arrive, whole frames out. Raises Refused at a length that is negative or above the limit."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._held = bytearray()
        self._wanted = _LENGTH.size  # bytes that must be there before looking again is worth while

    @property
    def held(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._held)

    def receive(self, data: Buffer) -> Iterator[bytes]:
        """Frames, without their length, that `data` completes. To be exhausted before the next call."""
        self._held += data
        while len(self._held) >= self._wanted:
            (size,) = _LENGTH.unpack_from(self._held)
            if not 0 <= size <= self._frame_bytes_max:
                raise Refused(f"a frame of {size} bytes; the limit is {self._frame_bytes_max}")
            stop = _LENGTH.size + size
            if len(self._held) < stop:
                self._wanted = stop
                return
            with memoryview(self._held) as view:
                frame = bytes(view[_LENGTH.size : stop])
            del self._held[:stop]
            self._wanted = _LENGTH.size
            yield frame


class RequestHeader(NamedTuple):
    """What stands before every request."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None = None

    @classmethod
    def decode(cls, frame: Buffer) -> tuple[RequestHeader, int]:
        """The header and the position of the message. An API that is not known is taken for one without a tag buffer."""
        try:
            key, version, correlation_id, size = _REQUEST_HEAD.unpack_from(frame)
            position = _REQUEST_HEAD.size
            client_id = None
            if size >= 0:
                if size > len(frame) - position:
                    raise Refused(f"a client id of {size} bytes reaches past the frame's end")
                client_id = str(frame[position : position + size], "utf-8")
                position += size
            elif size != -1:
                raise Refused(f"a client id of {size} bytes")
            if (api := REQUESTS.get(key)) and api.is_flexible(version):
                position = _skip_tags(frame, position)
        except (struct.error, IndexError) as error:
            raise Refused(f"a request header is cut short at {len(frame)} bytes") from error
        except UnicodeDecodeError as error:
            raise Refused("a client id is not UTF-8") from error
        return cls(key, version, correlation_id, client_id), position


def _skip_tags(frame: Buffer, position: int) -> int:
    count, position = decode_uvarint(frame, position)
    for _ in range(count):
        _, position = decode_uvarint(frame, position)
        size, position = decode_uvarint(frame, position)
        position += size
        if position > len(frame):
            raise Refused(f"a tagged field of {size} bytes reaches past the frame's end")
    return position


def is_response_header_flexible(request: type[Request[Message]], version: int) -> bool:
    return request.KEY != ApiVersionsRequest.KEY and request.is_flexible(version)


def encode_request(
    message: Request[Message], version: int, *, correlation_id: int, client_id: str
) -> bytes:
    """The whole frame, its length included."""
    name = client_id.encode()
    body = message.parts(version)
    tags = b"\0" if message.is_flexible(version) else b""
    size = _REQUEST_HEAD.size + len(name) + len(tags) + sum(map(len, body))
    try:
        head = _REQUEST.pack(size, message.KEY, version, correlation_id, len(name))
    except struct.error as error:
        raise Refused(f"a request of {size} bytes cannot be framed: {error}") from error
    return b"".join((head, name, tags, *body))


def encode_response(message: Message, version: int, *, correlation_id: int) -> bytes:
    """The whole frame, its length included. One copy of the record batches in it."""
    return b"".join(response_parts(message, version, correlation_id=correlation_id))


def response_parts(message: Message, version: int, *, correlation_id: int) -> list[Buffer]:
    """The same in pieces, for `transport.writelines`: record batches are not copied."""
    body = message.parts(version)
    flexible = message.KEY != ApiVersionsRequest.KEY and message.is_flexible(version)
    size = _LENGTH.size + flexible + sum(map(len, body))
    try:
        head = _RESPONSE.pack(size, correlation_id)
    except struct.error as error:
        raise Refused(f"a response of {size} bytes cannot be framed: {error}") from error
    return [head + b"\0" if flexible else head, *body]


def correlation_id(frame: Buffer) -> int:
    """Whose answer a response frame is."""
    try:
        (number,) = _LENGTH.unpack_from(frame)
    except struct.error as error:
        raise Refused(f"a response header is cut short at {len(frame)} bytes") from error
    return int(number)


def response_position(request: type[Request[Message]], version: int, frame: Buffer) -> int:
    """Where the message begins in a response frame."""
    position = _LENGTH.size
    if not is_response_header_flexible(request, version):
        return position
    try:
        return _skip_tags(frame, position)
    except IndexError as error:
        raise Refused(f"a response header is cut short at {len(frame)} bytes") from error


def decode_response(request: type[Request[R]], version: int, frame: Buffer) -> R:
    """The message in a response frame."""
    position = response_position(request, version, frame)
    return request.decode_response(frame, version, position=position)


def decode_request(frame: Buffer) -> tuple[RequestHeader, Request[Message]]:
    """Header and message of a request frame; raises Refused, `UnsupportedVersion` where the header alone could be read."""
    header, position = RequestHeader.decode(frame)
    api = REQUESTS.get(header.api_key)
    if api is None:
        raise UnsupportedVersion(header, f"api {header.api_key} is not implemented")
    oldest, newest = api.VERSIONS
    if not oldest <= header.api_version <= newest:
        raise UnsupportedVersion(
            header,
            f"{api.__name__} v{header.api_version} is not implemented, only {oldest} to {newest}",
        )
    # a tail is let pass, as Kafka does: librdkafka's Metadata for all topics carries three bytes too many
    return header, api.decode(frame, header.api_version, position=position, tail_allowed=True)


class UnsupportedVersion(Refused):
    """The request's API or version is not implemented; `header` says what was asked, so that it can be answered."""

    def __init__(self, header: RequestHeader, message: str) -> None:
        super().__init__(message)
        self.header = header
