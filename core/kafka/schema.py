"""What a Kafka message is: a frozen struct whose annotations describe the wire in every version it implements.

A field that a version does not have is left out on writing and takes its default on reading, so one class serves all
versions. Defaults are those of Kafka's own message definitions. `Message.decode` and `.encode` are the whole
interface; `codegen.py` makes the function for each (class, version) at first use.

What decoding hands out: str, int, bool, tuples, structs; `bytes` for small blobs (a copy); record batches as a
`memoryview` of the frame they came in, without a copy, which keeps that frame alive. Errors: whatever does not
decode, and bytes that follow a message, raise `Refused`; so does a value that does not fit its field.
"""

from __future__ import annotations

import struct
from typing import ClassVar, Generic, Self, TypeVar, cast

import msgspec

from ..errors import Refused
from .codegen import Reader, Writer, reader, writer
from .primitives import Buffer


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A request or a response. `VERSIONS` are the oldest and the newest that are implemented."""

    KEY: ClassVar[int]
    VERSIONS: ClassVar[tuple[int, int]]
    FLEXIBLE: ClassVar[int]  # the first version with compact lengths and tag buffers (KIP-482)

    @classmethod
    def is_flexible(cls, version: int) -> bool:
        return version >= cls.FLEXIBLE

    @classmethod
    def decode(
        cls, buffer: Buffer, version: int, *, position: int = 0, tail_allowed: bool = False
    ) -> Self:
        """The message that fills `buffer` from `position` to its end."""
        read = _READERS.get((cls, version)) or _prepare(cls, version)[0]
        try:
            message, stop = read(buffer, position, len(buffer))
        except (struct.error, IndexError) as error:
            raise Refused(f"{cls.__name__} v{version} is cut short: {error}") from error
        except UnicodeDecodeError as error:
            raise Refused(
                f"{cls.__name__} v{version} has text that is not UTF-8: {error}"
            ) from error
        except Refused as error:
            raise Refused(f"{cls.__name__} v{version}: {error}") from error
        if stop != len(buffer) and not tail_allowed:
            raise Refused(f"{cls.__name__} v{version} is followed by {len(buffer) - stop} bytes")
        return cast("Self", message)

    def encode(self, version: int) -> bytes:
        return b"".join(self.parts(version))

    def parts(self, version: int) -> list[Buffer]:
        """The encoded message in pieces, record batches uncopied: for a frame that is joined, or written, once."""
        kind = type(self)
        write = _WRITERS.get((kind, version)) or _prepare(kind, version)[1]
        out: list[Buffer] = []
        try:
            write(self, out.append)
        except (struct.error, ValueError) as error:
            raise Refused(
                f"{kind.__name__} v{version} has a value that does not fit: {error}"
            ) from error
        return out


Response = Message
R_co = TypeVar("R_co", bound=Message, covariant=True)


class Request(Message, Generic[R_co], frozen=True, kw_only=True):
    """A request knows the class of its response: `response = await connection.request(request)` is typed."""

    RESPONSE: ClassVar[type[Message]]

    @classmethod
    def decode_response(cls, buffer: Buffer, version: int, *, position: int = 0) -> R_co:
        """Bytes after it are let pass, as all clients do: some broker adds one now and then (librdkafka's mock does)."""
        response = cls.RESPONSE.decode(buffer, version, position=position, tail_allowed=True)
        return cast("R_co", response)


_READERS: dict[tuple[type[Message], int], Reader] = {}
_WRITERS: dict[tuple[type[Message], int], Writer] = {}


def _prepare(kind: type[Message], version: int) -> tuple[Reader, Writer]:
    oldest, newest = kind.VERSIONS
    if not oldest <= version <= newest:
        raise Refused(f"{kind.__name__} v{version} is not implemented, only {oldest} to {newest}")
    pair = (
        reader(kind, version, flexible=kind.is_flexible(version)),
        writer(kind, version, flexible=kind.is_flexible(version)),
    )
    _READERS[kind, version], _WRITERS[kind, version] = pair
    return pair
