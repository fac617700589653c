"""What nobody reads: one memory for all, shared out, and the greatest holders go where it is used up."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from headwater.core.errors import Misconfigured
from headwater.core.units import KIB, MIB, ByteSize
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.broker.transport import Transport
from headwater.edge.broker.unsent import GATHERED_BYTES, Unsent
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connect,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    SubscriptionOptions,
    Version,
)

from .harness import Bench, MemoryTransport
from .listening.entry import ANY, Bare, Served, run, serving, until

LOCAL = ListenerSettings(address=ANY, name="l")
ROOM = 8 * MIB
LIMITS = MqttSettings(unsent_memory_max=ByteSize(ROOM))


class Heap:
    """`Wires` and the transports on them, moved by hand."""

    read_bytes = 1
    share = 0

    def __init__(self) -> None:
        self.sizes: Counter[object] = Counter()

    @property
    def unsent(self) -> int:
        return self.sizes.total()


class Stuck(MemoryTransport):
    def __init__(self, heap: Heap, size: int) -> None:
        super().__init__()
        self.heap = heap
        heap.sizes[self] = size

    def get_write_buffer_size(self) -> int:
        return self.heap.sizes[self]

    def abort(self) -> None:
        super().abort()
        del self.heap.sizes[self]


class Holder:
    def __init__(self, transport: Stuck) -> None:
        self.transport: Transport | None = transport

    def cut_off(self) -> None:
        assert self.transport is not None
        self.transport.abort()


def test_beyond_the_limit_who_leaves_goes_first_and_then_the_greatest_until_a_quarter_is_free() -> (
    None
):
    heap, unsent = Heap(), Unsent(100)
    unsent.attach(heap)
    assert heap.share == 50
    stuck = [Stuck(heap, size) for size in (5, 30, 10, 20, 0)]
    holders = [Holder(transport) for transport in stuck]
    leaving = Stuck(heap, 10)
    unsent.leaves(leaving)
    unsent.review(holders)
    assert heap.unsent == 75, "it fits"
    late = Stuck(heap, 26)
    unsent.review([*holders, Holder(late)])
    aborted = [transport.aborted for transport in stuck]
    assert leaving.aborted
    assert aborted == [False, True, False, False, False]
    assert not late.aborted
    assert heap.unsent == 61
    assert unsent.cut == 1


def test_the_limit_is_no_lower_than_one_connections() -> None:
    with pytest.raises(Misconfigured, match="unsent_memory_max"):
        MqttSettings(unsent_memory_max=ByteSize(KIB)).check()


def test_what_gathers_for_all_is_written_before_it_is_much() -> None:
    """A message that fits into everybody's buffer, for more than there is memory."""
    bench = Bench()
    subscribers = [bench.connect(f"s{number}") for number in range(40)]
    for each in subscribers:
        each.subscribe("t", qos=1)
    publisher = bench.connect("p")
    most = 0
    for peer in subscribers:
        write = peer.transport.write

        def watch(data: bytes, write: object = write) -> None:
            nonlocal most
            most = max(most, bench.broker.gathered)
            write(data)  # type: ignore[operator]

        peer.transport.write = watch  # type: ignore[method-assign]
    publisher.publish("t", bytes(200 * KIB))
    bench.sync()
    assert GATHERED_BYTES < most + 200 * KIB < GATHERED_BYTES + 201 * KIB
    assert all(len(peer.take()) == 1 for peer in subscribers)
    assert bench.broker.gathered == 0


async def deaf(served: Served, number: int, *, qos: int) -> socket.socket:
    """A subscriber that reads nothing from now on, with a small window, so that what it does not read is ours to hold."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", served.port()))
    options = SubscriptionOptions("t", qos)
    for packet in (
        Connect(version=Version.V5, client_id=f"deaf{number}"),
        Subscribe(packet_id=1, subscriptions=(options,)),
    ):
        sock.send(encode_packet(packet, Version.V5))
    return sock


def little_in_the_kernel(served: Served) -> None:
    """So that what is not read is in our memory and not in the kernel's."""
    for client in served.broker.clients:
        if client.client_id.startswith("deaf"):
            sock = client.transport.get_extra_info("socket")  # type: ignore[union-attr]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [1000, 100_000, 1_000_000])
def test_a_hundred_that_read_nothing_hold_no_more_than_the_limit_and_harm_nobody(
    qos: int, size: int
) -> None:
    """Without it they would hold a hundred times 256 KiB and a packet."""

    async def scenario() -> None:
        async with serving(LOCAL, limits=LIMITS) as served:
            broker, peak = served.broker, 0
            listener, _ = await Bare.connect(served.port(), "listener")
            await listener.ask(Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("t", 1),)))
            publisher, _ = await Bare.connect(served.port(), "publisher")
            sockets = [await deaf(served, number, qos=qos) for number in range(100)]
            await until(lambda: len(broker.subscriptions.targets("t")) == 101)
            little_in_the_kernel(served)
            for _ in range(max(3, 400_000 // size)):
                message = Publish(topic="t", payload=bytes(size), qos=1, packet_id=1)
                ack = await publisher.ask(message)
                assert isinstance(ack, Acknowledgement)
                heard = await listener.take()
                assert isinstance(heard, Publish)
                assert len(heard.payload) == size
                listener.send(Acknowledgement(kind=ack.kind, packet_id=heard.packet_id))
                peak = max(peak, broker.unsent.bytes)
            assert ROOM // 4 < peak <= ROOM + GATHERED_BYTES + size
            if size > 1000:
                assert broker.unsent.cut > 0, "one packet each is more than there is"
                await until(lambda: len(broker.clients) == 102 - broker.unsent.cut)
            else:
                assert broker.unsent.cut == 0, "each has its part, and that is enough"
            assert isinstance(await publisher.ask(Pingreq()), Pingresp)
            for sock in sockets:
                sock.close()
            await until(lambda: len(broker.clients) == 2)
            assert broker.unsent.bytes == 0
            assert broker.tally.crashes == 0
            listener.close()
            publisher.close()

    run(scenario)
