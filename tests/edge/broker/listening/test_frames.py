"""WebSocket frames and the request before them: vectors, byte by byte, and everything that must be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.edge.broker.listening.frames import (
    CloseCode,
    Closed,
    Unframer,
    Violated,
    close_frame,
    frame,
    unmask,
)
from headwater.edge.broker.listening.upgrade import BadHandshake, Upgrade

MASK = b"\x37\xfa\x21\x3d"


def masked(payload: bytes, first: int = 0x82, mask: bytes = MASK) -> bytes:
    """A client's frame: FIN and binary, if nothing else is said."""
    plain = frame(payload)
    head = bytes((first, plain[1] | 0x80)) + plain[2 : len(plain) - len(payload)]
    return head + mask + unmask(payload, mask)


def test_the_specifications_own_example_is_unmasked() -> None:
    """RFC 6455, section 5.7: a masked text frame "Hello"."""
    assert unmask(bytes.fromhex("7f9f4d5158"), MASK) == b"Hello"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_001])
def test_a_payload_of_any_length_comes_out_as_it_went_in(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    assert Unframer().feed(masked(payload)) == payload
    assert frame(payload).endswith(payload)


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_frames_may_be_cut_anywhere(payloads: list[bytes], cuts: list[int]) -> None:
    """[MQTT-6.0.0-2]: nothing is aligned with anything."""
    stream = b"".join(masked(each, mask=bytes((i, 7, 255, 0))) for i, each in enumerate(payloads))
    stream += masked(b"ping", 0x89)
    unframer = Unframer()
    out, position, turn = b"", 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        out += unframer.feed(stream[position : position + step])
        position += step
        turn += 1
    assert out == b"".join(payloads)
    assert unframer.answers == [frame(b"ping", 0xA)]


def test_a_message_in_fragments_with_a_ping_between() -> None:
    unframer = Unframer()
    out = unframer.feed(masked(b"ab", 0x02) + masked(b"!", 0x89) + masked(b"cd", 0x00))
    out += unframer.feed(masked(b"ef", 0x80))
    assert out == b"abcdef"
    assert unframer.answers == [frame(b"!", 0xA)]
    assert unframer.feed(masked(b"x", 0x8A) + masked(b"gh")) == b"gh"  # a pong is nobody's business


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(b"text", 0x81), CloseCode.UNSUPPORTED_DATA),  # [MQTT-6.0.0-1]
        (frame(b"not masked"), CloseCode.PROTOCOL_ERROR),
        (masked(b"", 0xC2), CloseCode.PROTOCOL_ERROR),  # RSV1
        (masked(b"", 0x83), CloseCode.PROTOCOL_ERROR),  # an opcode that is none
        (masked(b"", 0x8B), CloseCode.PROTOCOL_ERROR),
        (masked(b"", 0x80), CloseCode.PROTOCOL_ERROR),  # a continuation of nothing
        (masked(b"a", 0x02) + masked(b"b", 0x82), CloseCode.PROTOCOL_ERROR),
        (masked(b"", 0x09), CloseCode.PROTOCOL_ERROR),  # a ping in parts
        (masked(bytes(126), 0x89), CloseCode.PROTOCOL_ERROR),  # a ping too long
        (b"\x82\xfe\x00\x05" + MASK, CloseCode.PROTOCOL_ERROR),  # a length not in its shortest form
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + MASK, CloseCode.TOO_BIG),
        (b"\x82\xff" + (1 << 63).to_bytes(8, "big") + MASK, CloseCode.TOO_BIG),
        (masked(b"x", 0x88), CloseCode.PROTOCOL_ERROR),  # half a close code
        (masked((1005).to_bytes(2, "big"), 0x88), CloseCode.PROTOCOL_ERROR),
        (masked((999).to_bytes(2, "big"), 0x88), CloseCode.PROTOCOL_ERROR),
    ],
)
def test_what_breaks_the_framing_is_refused_whole_and_byte_by_byte(
    data: bytes, code: CloseCode
) -> None:
    unframer = Unframer()
    unframer.feed(masked(b"before") + data)
    assert isinstance(unframer.end, Violated)
    assert unframer.end.code is code
    unframer = Unframer()
    for byte in data:
        unframer.feed(bytes((byte,)))
    assert isinstance(unframer.end, Violated)
    assert unframer.end.code is code


@pytest.mark.parametrize(
    ("body", "code"), [(b"", 1000), (b"\x03\xe9bye", 1001), (b"\x0f\xa0", 4000)]
)
def test_a_goodbye_is_answered_with_its_code(body: bytes, code: int) -> None:
    unframer = Unframer()
    last = unframer.feed(masked(b"last words") + masked(body, 0x88) + masked(b"too late"))
    assert last == b"last words"
    assert isinstance(unframer.end, Closed)
    assert unframer.end.answer == close_frame(code)
    assert unframer.feed(masked(b"too late")) == b""


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything(data: bytes) -> None:
    unframer = Unframer()
    out = unframer.feed(data)
    assert len(out) <= len(data)


REQUEST = (
    "GET /mqtt HTTP/1.1\r\nHost: edge.example:8083\r\nUpgrade: WebSocket\r\n"
    "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: other, mqtt\r\n\r\n"
)


def upgrade(text: str = REQUEST, *, origins: tuple[str, ...] = ()) -> tuple[bytes, bytes] | None:
    return Upgrade("/mqtt", origins).feed(text.encode())


@pytest.mark.mqtt(v4="6.0.0-4", v5="6.0.0-4")
def test_the_request_is_answered_as_the_specifications_example() -> None:
    done = upgrade(REQUEST + "frames")
    assert done is not None
    answer, rest = done
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"Sec-WebSocket-Protocol: mqtt\r\n" in answer  # [MQTT-6.0.0-4]
    assert rest == b"frames"


@pytest.mark.mqtt(v4="6.0.0-4", v5="6.0.0-4")
@pytest.mark.parametrize("offer", ["mqttv3.1, mqtt", "other,mqtt , mqttv3.1"])
def test_of_several_subprotocols_it_is_mqtt(offer: str) -> None:
    done = upgrade(REQUEST.replace("other, mqtt", offer))
    assert done is not None
    assert b"Sec-WebSocket-Protocol: mqtt\r\n" in done[0]


def test_a_client_that_was_given_no_path_asks_for_the_root() -> None:
    assert upgrade(REQUEST.replace("/mqtt", "/")) == upgrade()


def test_the_request_may_come_byte_by_byte() -> None:
    upgrading = Upgrade("/mqtt", ())
    results = [upgrading.feed(bytes((byte,))) for byte in REQUEST.encode()]
    assert results[-1] == upgrade()
    assert not any(results[:-1])


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("GET /mqtt HTTP/1.1", "\x16\x03\x01", 400),
        ("GET /mqtt HTTP/1.1", "GET /mqtt", 400),
        ("GET /mqtt HTTP/1.1", "GET /mqtt HTTP/1.0", 505),
        ("GET", "POST", 405),
        ("/mqtt", "/other", 404),
        ("Upgrade: WebSocket", "X: y", 426),
        ("keep-alive, Upgrade", "close", 426),
        ("Version: 13", "Version: 8", 426),
        pytest.param(
            "other, mqtt", "other", 400, marks=pytest.mark.mqtt(v4="6.0.0-3", v5="6.0.0-3")
        ),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "!", 400),
        ("Host: edge.example:8083\r\n", "", 400),
        ("Host:", "Host: a\r\nHost:", 400),
        ("Host:", "no colon\r\nHost:", 400),
        ("Host:", "Origin: https://evil.example\r\nHost:", 403),
        ("Host:", "Origin: null\r\nHost:", 403),
        ("Host:", f"X: {'y' * 9000}\r\nHost:", 431),
    ],
)
def test_a_bad_handshake_is_answered_with_an_http_error(old: str, new: str, status: int) -> None:
    with pytest.raises(BadHandshake) as caught:
        upgrade(REQUEST.replace(old, new, 1))
    assert caught.value.answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in caught.value.answer


def test_a_page_may_connect_from_its_own_host_or_where_the_listener_says_so() -> None:
    own = REQUEST.replace("Host:", "Origin: http://edge.example:3000\r\nHost:")
    assert upgrade(own)
    other = REQUEST.replace("Host:", "Origin: https://panel.example\r\nHost:")
    assert upgrade(other, origins=("https://panel.example",))
    assert upgrade(other, origins=("*",))
    with pytest.raises(BadHandshake):
        upgrade(own, origins=("https://panel.example",))


@pytest.mark.parametrize("host", ["127.0.0.1:8083", "localhost", "[::1]:8083"])
def test_on_loopback_a_page_of_this_machine_may_connect(host: str) -> None:
    assert Upgrade("/mqtt", (), is_local=True).feed(_of_page(host))


@pytest.mark.parametrize("host", ["evil.example:8083", "127.0.0.1.evil.example", "[::2]"])
def test_on_loopback_a_name_that_points_here_is_not_ours(host: str) -> None:
    """DNS rebinding: origin and host agree, and both are another site's."""
    with pytest.raises(BadHandshake):
        Upgrade("/mqtt", (), is_local=True).feed(_of_page(host))


def _of_page(host: str) -> bytes:
    new = f"Origin: http://{host}\r\nHost: {host}"
    return REQUEST.replace("Host: edge.example:8083", new).encode()


def test_a_request_that_never_ends_is_bounded() -> None:
    upgrading = Upgrade("/mqtt", ())
    for _ in range(8):
        assert upgrading.feed(b"GET /mqtt HTTP/1.1\r\n" + b"x" * 1000) is None
    with pytest.raises(BadHandshake):
        upgrading.feed(b"x" * 1000)
