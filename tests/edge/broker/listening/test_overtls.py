"""What TLS connections hold unsent: counted, shared out, and given back at once where somebody is cut off."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import cast

from headwater.core.units import KIB, MIB, ByteSize
from headwater.edge.broker.listening.overtls import (
    ENCRYPTED_BYTES,
    PART_BYTES_MIN,
    TlsWire,
    TlsWires,
)
from headwater.edge.broker.listening.settings import ListenerSettings, TlsSettings
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.broker.unsent import GATHERED_BYTES
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Connect,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    SubscriptionOptions,
    Version,
)

from .entry import ANY, Authority, Bare, run, serving, until

ROOM = 8 * MIB
LIMIT = 256 * KIB


class Pipe:
    """An asyncio transport that sends nothing by itself."""

    def __init__(self) -> None:
        self.size = self.high = 0
        self.marks: list[int] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.size += len(data)

    def get_write_buffer_size(self) -> int:
        return self.size

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high
        self.marks.append(high)

    def abort(self) -> None:
        self.aborted = True

    close = pause_reading = resume_reading = get_extra_info = abort


def wire_of(wires: TlsWires, pipe: Pipe) -> TlsWire:
    return TlsWire(wires, cast("asyncio.Transport", pipe), LIMIT)


def test_each_is_told_its_part_as_more_come_and_everything_as_they_go() -> None:
    wires = TlsWires()
    wires.share = 1 * MIB
    pipes = [Pipe() for _ in range(100)]
    held = [wire_of(wires, pipe) for pipe in pipes]
    for wire in held:
        wire.write(bytes(1000))
    assert wires.unsent == 100 * (1000 + ENCRYPTED_BYTES)
    assert pipes[0].high == LIMIT, "it has written nothing since"
    assert pipes[7].high < LIMIT
    assert pipes[-1].high == PART_BYTES_MIN, "a hundredth would be less than a record"
    for pipe in pipes[1:]:
        pipe.size = 0  # its peer has read
    wires.look()
    assert wires.laden == {held[0]}
    assert wires.unsent == 1000 + ENCRYPTED_BYTES
    held[-1].write(bytes(5))
    assert pipes[-1].high == LIMIT
    assert max(len(pipe.marks) for pipe in pipes) < 4, "a mark is not set with every packet"


def test_what_is_aborted_or_gone_is_no_longer_counted() -> None:
    wires = TlsWires()
    pipes = [Pipe(), Pipe()]
    first, second = (wire_of(wires, pipe) for pipe in pipes)
    for wire in (first, second):
        wire.write(bytes(10))
    first.abort()
    assert pipes[0].aborted
    second.gone()
    assert (wires.unsent, wires.laden) == (0, set())
    first.write(b"too late")
    first.gone()
    wires.look()
    assert (wires.unsent, first.get_write_buffer_size()) == (0, 0)


def deaf(port: int, context: ssl.SSLContext, number: int) -> ssl.SSLSocket:
    """A subscriber that reads nothing from now on."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    over = context.wrap_socket(sock, server_hostname="127.0.0.1")
    subscribe = Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("t", number % 2),))
    for packet in (Connect(version=Version.V5, client_id=f"deaf{number}"), subscribe):
        over.sendall(encode_packet(packet, Version.V5))
    return over


def is_reset(over: ssl.SSLSocket) -> bool:
    """Having read what was sent; below TLS, which takes a reset for an end."""
    with socket.socket(fileno=over.detach()) as sock:
        sock.settimeout(5)
        try:
            while sock.recv(65_536):
                pass
        except ConnectionResetError:
            return True
        return False


def test_those_that_read_nothing_share_the_memory_of_all_and_are_reset(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = ListenerSettings(
        address=ANY, name="tls", tls=TlsSettings(certificate=authority.server_file)
    )
    plain = ListenerSettings(address=ANY, name="plain")
    limits = MqttSettings(unsent_memory_max=ByteSize(ROOM))
    count, size = 60, 200_000

    async def scenario() -> None:
        async with serving(plain, tls, limits=limits) as served:
            broker, peak = served.broker, 0
            publisher, _ = await Bare.connect(served.port(), "publisher")
            context = authority.client(None)
            socks = [
                await asyncio.to_thread(deaf, served.port(1), context, number)
                for number in range(count)
            ]
            await until(lambda: len(broker.subscriptions.targets("t")) == count)
            for _ in range(10):
                await publisher.ask(Publish(topic="t", payload=bytes(size), qos=1, packet_id=1))
                peak = max(peak, broker.unsent.bytes)
            assert ROOM // 4 < peak <= ROOM + GATHERED_BYTES + size
            assert broker.unsent.cut > 0
            await until(lambda: len(broker.clients) == 1 + count - broker.unsent.cut)
            assert isinstance(await publisher.ask(Pingreq()), Pingresp)
            left = {client.client_id for client in broker.clients}
            cut = [sock for n, sock in enumerate(socks) if f"deaf{n}" not in left]
            resets = [await asyncio.to_thread(is_reset, sock) for sock in cut]
            for sock in socks:
                sock.close()
            await until(lambda: len(broker.clients) == 1)
            assert broker.unsent.bytes == 0
            assert broker.tally.crashes == 0
            publisher.close()
            assert all(resets), "what the kernel held for them is given back, too"

    run(scenario)
