"""MQTT's data representation (3.1.1 section 1.5, 5.0 section 1.5): integers, strings, binary, variable byte integers.

`Reader` walks one packet's body and raises `Violation` (malformed packet) at the first byte that is not there or not
allowed; it never reads beyond the body. It knows nothing of packet types. The write functions return bytes and take
only what fits: a value too long is our own mistake (AssertionError), since all input was checked at the door.
"""

from __future__ import annotations

from .reasons import malformed

# Remaining Length and every other variable byte integer: four bytes of seven bits ([MQTT-1.5.5-1]).
VARINT_MAX = 268_435_455


class Reader:
    """A cursor over `data[position:end]`."""

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self._data = data
        self.position = position
        self._end = len(data) if end is None else end

    @property
    def remaining(self) -> int:
        return self._end - self.position

    def take(self, count: int) -> bytes:
        start = self.position
        if count > self._end - start:
            raise malformed(f"{count} bytes expected, {self._end - start} left")
        self.position = start + count
        return self._data[start : self.position]

    def uint8(self) -> int:
        if self.position >= self._end:
            raise malformed("a byte expected, none left")
        self.position += 1
        return self._data[self.position - 1]

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.uint8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    # [MQTT-1.5.5-1]: the minimum number of bytes
                    raise malformed("variable byte integer is not in its shortest form")
                return value
        raise malformed("variable byte integer of more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.uint16())

    def text(self) -> str:
        return decode_text(self.binary())

    def rest(self) -> bytes:
        return self.take(self._end - self.position)

    def sub_reader(self, count: int) -> Reader:
        """A reader over the next `count` bytes, which this one skips."""
        start = self.position
        if count > self._end - start:
            raise malformed(f"{count} bytes expected, {self._end - start} left")
        self.position = start + count
        return Reader(self._data, start, self.position)

    def finish(self) -> None:
        if self.position != self._end:
            raise malformed(f"{self.remaining} bytes too many")


def decode_text(raw: bytes) -> str:
    """A UTF-8 string: no surrogates, no overlong forms ([MQTT-1.5.4-1]), no U+0000 ([MQTT-1.5.4-2]).

    Python's strict decoder refuses the first two and keeps a byte order mark ([MQTT-1.5.4-3]).
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"not UTF-8: {error.reason} at byte {error.start}") from None
    if "\0" in text:
        raise malformed("a string must not hold U+0000")
    return text


def encode_varint(value: int) -> bytes:
    assert 0 <= value <= VARINT_MAX
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:  # nearly every packet there is
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_binary(data: bytes) -> bytes:
    assert len(data) <= 0xFFFF
    return len(data).to_bytes(2, "big") + data


def encode_text(text: str) -> bytes:
    return encode_binary(text.encode())
