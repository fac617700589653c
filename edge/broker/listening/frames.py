"""WebSocket frames (RFC 6455) as the server of MQTT sees them: bytes in, MQTT's bytes and answers out. Owns no socket.

    0               1               2 …
    FIN 000 opcode  MASK length(7)  [length(16 or 64)] [mask(4)] payload

Rules: every frame of a client is masked (section 5.1); no extension was agreed on, so RSV is 0 (5.2); control frames have
at most 125 bytes and are not fragmented (5.5); lengths are in their shortest form (5.2). MQTT travels in binary messages
([MQTT-6.0.0-1]: a text frame closes the connection); frames need not align with packets ([MQTT-6.0.0-2]), so payload
is handed on as it comes and a frame of any size costs no memory. A ping is answered, a close frame is answered
with its code.
"""

from __future__ import annotations

import enum

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
CONTROL_BYTES_MAX = 125
# A frame longer than any packet is nonsense, and the sum of frames is bounded by what MQTT itself allows.
FRAME_BYTES_MAX = 1 << 30


class CloseCode(enum.IntEnum):
    """Section 7.4.1."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    TOO_BIG = 1009


# What a peer may say (section 7.4): 1004 to 1006 and 1015 are never sent, 3000 to 4999 are anybody's.
_SAYABLE = {1000, 1001, 1002, 1003, *range(1007, 1015)}


class Violated(Exception):
    """The peer broke the framing: it is told `code` and cut off."""

    def __init__(self, code: CloseCode, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.answer = close_frame(code)


class Closed(Exception):
    """The peer said goodbye; `answer` is ours."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("closed by the client")
        self.answer = answer


def frame(payload: bytes, opcode: int = _BINARY) -> bytes:
    """A whole unmasked frame, as servers send them."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 0x10000:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big") + payload


def close_frame(code: int) -> bytes:
    return frame(code.to_bytes(2, "big"), _CLOSE)


def unmask(data: bytes, mask: bytes) -> bytes:
    """XOR with the four bytes, repeated: as one large number, which is the fastest that Python has."""
    length = len(data)
    repeated = (mask * (length // 4 + 1))[:length]
    number = int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")
    return number.to_bytes(length, "little")


class Unframer:
    """Feed it what arrives; it gives MQTT's bytes. `answers` gathers what must be written (pongs)."""

    __slots__ = ("_data", "_in_message", "_left", "_mask", "_opcode", "answers", "end")

    def __init__(self) -> None:
        self._data = b""  # a header or a control frame that is not whole
        self._left = 0  # of the present frame's payload
        self._mask = b"\0\0\0\0"  # turned so that it begins with the next byte's
        self._opcode = _BINARY
        self._in_message = False  # a fragmented message is not finished
        self.answers: list[bytes] = []
        self.end: Violated | Closed | None = None

    @property
    def held_bytes(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> bytes:
        """The payload that arrived. When `end` is set the WebSocket is over, and this was the last of it."""
        if self.end is not None:
            return b""
        payloads: list[bytes] = []
        try:
            self._cut(data, payloads)
        except (Violated, Closed) as end:
            self.end = end
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    def _cut(self, data: bytes, payloads: list[bytes]) -> None:
        if self._data:
            data = self._data + data
            self._data = b""
        position = 0
        while position < len(data):
            if not self._left:
                start = self._header(data, position)
                if start < 0:
                    self._data = data[position:]
                    break
                position = start
            if self._opcode >= _CLOSE:
                if len(data) - position < self._left:
                    # at most 125 bytes: its header is read again with the rest
                    self._data = bytes((0x80 | self._opcode, 0x80 | self._left)) + self._mask
                    self._data += data[position:]
                    self._left = 0
                    break
                body = unmask(data[position : position + self._left], self._mask)
                position += self._left
                self._left = 0
                self._take_control(body)
                continue
            taken = data[position : position + self._left]
            if taken:
                payloads.append(unmask(taken, self._mask))
                position += len(taken)
                self._left -= len(taken)
                turn = len(taken) % 4
                self._mask = self._mask[turn:] + self._mask[:turn]

    def _header(self, data: bytes, position: int) -> int:
        """Reads one; where its payload begins, or -1 where it is not whole."""
        available = len(data) - position
        if available < 2:
            return -1
        first, second = data[position], data[position + 1]
        opcode, length = first & 0x0F, second & 0x7F
        self._check(first, opcode, second)
        at = position + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if available < 2 + size:
                return -1
            length = int.from_bytes(data[at : at + size], "big")
            at += size
            if length < (126 if size == 2 else 0x10000):
                raise Violated(CloseCode.PROTOCOL_ERROR, "a length not in its shortest form")
            if length > FRAME_BYTES_MAX:
                raise Violated(CloseCode.TOO_BIG, f"a frame of {length} bytes")
        if len(data) - at < 4:
            return -1
        self._mask = data[at : at + 4]
        self._opcode = opcode
        self._left = length
        if opcode < _CLOSE:
            self._in_message = not first & 0x80
        return at + 4

    def _check(self, first: int, opcode: int, second: int) -> None:
        if first & 0x70:
            raise Violated(CloseCode.PROTOCOL_ERROR, "a reserved bit is set")
        if not second & 0x80:
            raise Violated(CloseCode.PROTOCOL_ERROR, "a frame that is not masked")
        if opcode >= _CLOSE:
            if opcode > _PONG:
                raise Violated(CloseCode.PROTOCOL_ERROR, f"opcode {opcode:#x}")
            if not first & 0x80 or second & 0x7F > CONTROL_BYTES_MAX:
                raise Violated(CloseCode.PROTOCOL_ERROR, "a control frame in parts or too long")
        elif opcode == _TEXT:
            raise Violated(CloseCode.UNSUPPORTED_DATA, "a text frame: MQTT is binary")
        elif opcode not in (_BINARY, _CONTINUATION):
            raise Violated(CloseCode.PROTOCOL_ERROR, f"opcode {opcode:#x}")
        elif (opcode == _CONTINUATION) != self._in_message:
            raise Violated(CloseCode.PROTOCOL_ERROR, "a continuation of nothing, or none where due")

    def _take_control(self, body: bytes) -> None:
        if self._opcode == _PING:
            self.answers.append(frame(body, _PONG))
        elif self._opcode == _CLOSE:
            if len(body) == 1:
                raise Violated(CloseCode.PROTOCOL_ERROR, "half a close code")
            code = int.from_bytes(body[:2], "big") if body else CloseCode.NORMAL
            if code not in _SAYABLE and not 3000 <= code < 5000:
                raise Violated(CloseCode.PROTOCOL_ERROR, f"close code {code}")
            raise Closed(close_frame(code))
