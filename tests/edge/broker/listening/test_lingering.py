"""Whoever is told why its connection ends gets to read it, also in the middle of sending: after a reset its library says
"connection lost" and nothing else. What it sends meanwhile is thrown away, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from pathlib import Path

import pytest

from headwater.edge.broker.listening.settings import Kind, ListenerSettings, TlsSettings
from headwater.edge.mqtt.decoding import decode_packet
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import Connect, Disconnect, Publish, Version
from headwater.edge.sockets import lingering

from .entry import ANY, Authority, Served, run, serving, until

LOCAL = ListenerSettings(address=ANY, anonymous=True)
PIECE = bytes(64 * 1024)
CONNECT = encode_packet(Connect(version=Version.V5, client_id="c"), Version.V5)
# PUBLISH, QoS 1, of 200 MiB: above any listener's limit, which the first five bytes tell
TOO_LARGE = b"\x32\x80\x80\x80\x64"
# a topic with a wildcard, and then whatever else it has
NO_TOPIC = encode_packet(Publish(topic="a", payload=b"", qos=1, packet_id=1), Version.V5)
NO_TOPIC = NO_TOPIC.replace(b"\x00\x01a", b"\x00\x01#")


def told(sock: socket.socket, wrong: bytes, pieces: int) -> bytes:
    """What a client reads that first sends all it wants to. Raises OSError where its connection is reset meanwhile."""
    sock.sendall(CONNECT)
    sock.recv(4096)
    sock.sendall(wrong)
    for _ in range(pieces):
        sock.sendall(PIECE)
        time.sleep(0.001)
    sock.settimeout(10)
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while some := sock.recv(4096):
            said += some
    return said


def connected(port: int, context: ssl.SSLContext | None = None) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    if context is None:
        return sock
    return context.wrap_socket(sock, server_hostname="127.0.0.1")


@pytest.mark.parametrize("wrong", [TOO_LARGE, NO_TOPIC], ids=["too large", "no topic"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_client_in_the_middle_of_sending_reads_why(
    tmp_path: Path, wrong: bytes, tls: bool
) -> None:
    authority = Authority(tmp_path) if tls else None
    secured = (
        None
        if authority is None
        else TlsSettings(certificate=authority.server_file, key=authority.server_file)
    )

    async def scenario() -> None:
        listener = ListenerSettings(address=ANY, anonymous=True, tls=secured)
        async with serving(listener) as served:
            context = None if authority is None else authority.client(None)
            for _ in range(5):
                sock = await asyncio.to_thread(connected, served.port(), context)
                with sock:
                    said = await asyncio.to_thread(told, sock, wrong, 32)
                goodbye = decode_packet(said[0], said[2:], Version.V5)
                assert isinstance(goodbye, Disconnect)
                assert goodbye.reason == (0x95 if wrong is TOO_LARGE else 0x82)

    run(scenario)


def test_what_is_no_websocket_reads_that_too() -> None:
    def post(port: int) -> bytes:
        with connected(port) as sock:
            sock.sendall(b"POST /mqtt HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n")
            for _ in range(32):
                sock.sendall(PIECE)
                time.sleep(0.001)
            return sock.recv(4096)

    async def scenario() -> None:
        web = ListenerSettings(address=ANY, anonymous=True, kind=Kind.WEBSOCKET)
        async with serving(web) as served:
            assert (await asyncio.to_thread(post, served.port())).startswith(b"HTTP/1.1 4")

    run(scenario)


def held(served: Served) -> int:
    assert served.listeners.sockets is not None
    return len(served.listeners.sockets.lingering)


def test_who_sends_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_BYTES", len(PIECE))

    async def scenario() -> None:
        async with serving(LOCAL) as served:
            sock = await asyncio.to_thread(connected, served.port())
            with sock, pytest.raises(OSError, match=r"reset|pipe"):
                await asyncio.to_thread(told, sock, TOO_LARGE, 1000)
            assert not held(served)

    run(scenario)


def test_who_stays_without_a_word_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.1)

    async def scenario() -> None:
        async with serving(LOCAL) as served:
            with await asyncio.to_thread(connected, served.port()) as sock:
                assert await asyncio.to_thread(told, sock, TOO_LARGE, 0)
                assert held(served) == 1
                await until(lambda: not held(served))

    run(scenario)


def test_so_many_linger_and_the_others_are_just_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "HELD_MAX", 2)

    async def scenario() -> None:
        async with serving(LOCAL) as served:
            socks = [await asyncio.to_thread(connected, served.port()) for _ in range(4)]
            for sock in socks:
                assert await asyncio.to_thread(told, sock, TOO_LARGE, 0)
            assert held(served) == 2
            for sock in socks:
                sock.close()
            await until(lambda: not held(served))

    run(scenario)
