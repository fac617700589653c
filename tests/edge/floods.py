"""Floods of an edge from outside, one a process: `python -m tests.edge.floods NAME PORT WEB_PORT`, until it is ended.

The standard library and bytes by hand: a flood must be cheaper to send than to take. Each says `flooding` when it has begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"
PING = b"\xc0\x00"


def text(data: str) -> bytes:
    return struct.pack(">H", len(data)) + data.encode()


def packet(first: int, body: bytes) -> bytes:
    length, data = len(body), bytes([first])
    while True:
        length, byte = length >> 7, length & 0x7F
        data += bytes([byte | 0x80 * bool(length)])
        if not length:
            return data + body


def connect(client_id: str, *, clean: bool = True) -> bytes:
    return packet(0x10, text("MQTT") + bytes([4, 2 * clean, 0, 0]) + text(client_id))


def publish(topic: str, payload: bytes, *, retain: bool = False) -> bytes:
    return packet(0x30 | retain, text(topic) + payload)


def subscribe(topic_filter: str, qos: int = 0) -> bytes:
    return packet(0x82, b"\0\1" + text(topic_filter) + bytes([qos]))


def unsubscribe(topic_filter: str) -> bytes:
    return packet(0xA2, b"\0\1" + text(topic_filter))


def framed(payload: bytes) -> bytes:
    """One WebSocket frame, masked with zeros."""
    return b"\x82\xfe" + struct.pack(">H", len(payload)) + bytes(4) + payload


async def opened(port: int, source: str = HOST, *, deaf: bool = False) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    if deaf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, (HOST, port))
    return sock


async def drained(sock: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(sock, 65_536):
        pass


async def again_and_again(port: int, first: bytes, data: bytes, *, deaf: bool = False) -> None:
    sock = await opened(port, deaf=deaf)
    await asyncio.get_running_loop().sock_sendall(sock, first)
    async with asyncio.TaskGroup() as group:
        if not deaf:
            group.create_task(drained(sock))
        while True:
            await asyncio.get_running_loop().sock_sendall(sock, data)


async def pings(port: int, _: int, number: int) -> None:
    await again_and_again(port, connect(f"ping{number}"), PING * 8000)


async def deaf_pings(port: int, _: int, number: int) -> None:
    await again_and_again(port, connect(f"deaf{number}"), PING * 8000, deaf=True)


async def subscriptions(port: int, _: int, number: int) -> None:
    filters = [f"s/{number}/{each}/+/#" for each in range(500)]
    data = b"".join(subscribe(each) + unsubscribe(each) for each in filters)
    await again_and_again(port, connect(f"subscriber{number}"), data)


async def web_pings(_: int, port: int, number: int) -> None:
    upgrade = (
        f"GET /mqtt HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    first = upgrade.encode() + framed(connect(f"web{number}") + bytes(0) + PING * 60)
    await again_and_again(port, first, framed(PING * 100) * 100)


async def takeovers(port: int, _: int, number: int) -> None:
    """All with one client identifier, each from another address."""
    while True:
        with await opened(port, f"127.0.0.{number + 2}") as sock, contextlib.suppress(OSError):
            sock.send(connect("same", clean=bool(number % 2)))
            await asyncio.get_running_loop().sock_recv(sock, 4)


async def comings_and_goings(port: int, _: int, number: int) -> None:
    at = 0
    while True:
        at += 1
        with await opened(port, f"127.0.1.{number + 2}") as sock, contextlib.suppress(OSError):
            sock.send(connect(f"c{number}-{at}"))
            await asyncio.get_running_loop().sock_recv(sock, 4)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def half_open(port: int, web: int, number: int) -> None:
    """A hundred each that say nothing, or a byte now and then of what they never finish."""
    large = connect("l") + publish("t", bytes(900_000))
    beginnings = (
        (port, b""),
        (port, connect("x" * 50)),
        (web, b"GET /mqtt HTTP/1.1\r\n"),
        (port, large),
    )
    open_to, beginning = beginnings[number % len(beginnings)]
    socks = [await opened(open_to, f"127.0.2.{number + 2}") for _ in range(100)]
    for at in range(len(beginning)):
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.send(beginning[at : at + 1])
        await asyncio.sleep(0.05)
    await asyncio.Event().wait()


async def greedy(port: int, _: int, number: int) -> None:
    await again_and_again(port, connect(f"greedy{number}"), publish("greedy", bytes(100)) * 1000)


async def deep(port: int, _: int, number: int) -> None:
    """Filters that branch at every level, topics of a hundred levels."""
    filters = ["/".join("+a"[each >> level & 1] for level in range(10)) for each in range(900)]
    data = publish("/".join("a" * 10), b"x") + publish("/".join("a" * 100), b"x")
    await again_and_again(
        port, connect(f"deep{number}") + b"".join(map(subscribe, filters)), data * 20
    )


async def deaf_subscribers(port: int, _: int, number: int) -> None:
    """Twenty each, and a publisher of 50 kB messages."""
    loop = asyncio.get_running_loop()
    for each in range(20):
        sock = await opened(port, deaf=True)
        await loop.sock_sendall(sock, connect(f"d{number}-{each}") + subscribe("deaf", each % 2))
        KEPT.append(sock)
    await asyncio.sleep(0.2)
    sock = await opened(port)
    await loop.sock_sendall(sock, connect(f"to-deaf{number}"))
    while True:
        await loop.sock_sendall(sock, publish("deaf", bytes(50_000)))
        await asyncio.sleep(0.01)


KEPT: list[socket.socket] = []
FLOODS: dict[str, tuple[int, Callable[[int, int, int], Awaitable[None]]]] = {
    "pings": (10, pings),
    "deaf pings": (100, deaf_pings),
    "subscriptions": (10, subscriptions),
    "web pings": (10, web_pings),
    "takeovers": (20, takeovers),
    "comings and goings": (20, comings_and_goings),
    "half open": (20, half_open),
    "greedy": (3, greedy),
    "deep": (5, deep),
    "deaf subscribers": (10, deaf_subscribers),
}


async def until_it_is_over(one: Awaitable[None]) -> None:
    with contextlib.suppress(OSError, ExceptionGroup):
        await one


async def main(name: str, port: int, web: int) -> None:
    count, flood = FLOODS[name]
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(until_it_is_over(flood(port, web, number)))
        await asyncio.sleep(0.3)
        sys.stdout.write("flooding\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
