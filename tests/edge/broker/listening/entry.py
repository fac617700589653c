"""A broker with listeners on loopback, certificates made on the fly, and a bare MQTT client over any transport."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trustme
import uvloop

from headwater.core.clock import SystemClock
from headwater.edge.broker.access.access import Access
from headwater.edge.broker.access.checking import Checker
from headwater.edge.broker.access.settings import AccessSettings
from headwater.edge.broker.broker import Broker
from headwater.edge.broker.listening.listeners import Listeners
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.decoding import decode_packet
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import Connect, Packet, Version
from headwater.edge.streams import StreamTable
from headwater.edge.visits import Visits, VisitSettings

from ..harness import MemorySource
from ..loopback import LoopJournal

ANY = "127.0.0.1:0"
TIMEOUT_S = 30


class Served:
    def __init__(self, broker: Broker, listeners: Listeners, visits: Visits) -> None:
        self.broker = broker
        self.listeners = listeners
        self.visits = visits
        self.refused: list[tuple[str, str]] = []

    def port(self, index: int = 0) -> int:
        return self.listeners.all[index].address[1]


@asynccontextmanager
async def serving(
    *settings: ListenerSettings,
    access: AccessSettings | None = None,
    limits: MqttSettings | None = None,
) -> AsyncIterator[Served]:
    journal = LoopJournal()
    visits = Visits(VisitSettings())
    broker = Broker(
        journal,
        journal,
        source=MemorySource(journal),
        streams=StreamTable(()),
        settings=limits or MqttSettings(),
        clock=SystemClock(),
        rng=random.Random(1),
        observer=visits,
    )
    visits.attach(broker, journal)
    guard = Access(
        access or AccessSettings(),
        Checker(
            threads=1,
            waiting_max=100,
            remember_s=60,
            clock=broker.clock,
            key=bytes(32),
            post=asyncio.get_running_loop().call_soon_threadsafe,
        ),
    )
    broker.guard(guard)
    listeners = Listeners(broker, settings, turned_away=visits.turned_away)
    await listeners.start()
    try:
        yield Served(broker, listeners, visits)
    finally:
        await listeners.stop_accepting()
        broker.stop_reading()
        broker.close()
        await listeners.close()
        guard.close()


async def until(condition: Callable[[], object]) -> None:
    """The loop turns until it holds; the scenario's time-out is the end of patience."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


async def shakes_hands(port: int, context: ssl.SSLContext) -> bool:
    """Whether a blocking client gets through the handshake, and is not cut off right after it."""

    def attempt() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            try:
                with context.wrap_socket(sock, server_hostname="127.0.0.1") as wrapped:
                    wrapped.sendall(b"\xc0\x00")
                    # a plain end is the broker's, which wants CONNECT first; a refused certificate is an alert
                    return wrapped.recv(1) == b""
            except OSError:
                return False

    return await asyncio.to_thread(attempt)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """On uvloop, as the daemon has it."""

    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await scenario()

    uvloop.run(main())


class Authority:
    """A certificate authority in a folder: the server's certificate and those of clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.server_file = str(folder / "server.pem")
        self.renew()

    def renew(self, name: str = "127.0.0.1") -> None:
        """Another certificate in the same file, with its key."""
        self.ca.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(self.server_file)

    def client(self, name: str | None) -> ssl.SSLContext:
        """A client's context: believes this authority, shows a certificate if it has a name."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.check_hostname = False
        if name is not None:
            self.ca.issue_cert(f"{name}.example", common_name=name).configure_cert(context)
        return context


class Bare:
    """A client that speaks with the codec over a stream."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: Version
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.version = version

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        version: Version = Version.V5,
        host: str = "127.0.0.1",
    ) -> Bare:
        return cls(*await asyncio.open_connection(host, port, ssl=tls), version)

    @classmethod
    async def connect(
        cls,
        port: int,
        client_id: str = "c",
        *,
        tls: ssl.SSLContext | None = None,
        user: str | None = None,
        password: bytes | None = None,
        version: Version = Version.V5,
    ) -> tuple[Bare, int]:
        """The client and the reason in its CONNACK."""
        bare = await cls.open(port, tls=tls, version=version)
        connack = await bare.ask(
            Connect(version=version, client_id=client_id, user_name=user, password=password)
        )
        return bare, int(connack.reason)  # type: ignore[union-attr]

    def send(self, *packets: Packet) -> None:
        self.writer.write(b"".join(encode_packet(each, self.version) for each in packets))

    async def ask(self, packet: Packet) -> Packet:
        self.send(packet)
        return await self.take()

    async def take(self) -> Packet:
        """The next packet. Raises IncompleteReadError where the connection ended."""
        first = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return decode_packet(first, await self.reader.readexactly(length), self.version)

    async def ended(self) -> bool:
        """Nothing more came, and the connection is over."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.close()
