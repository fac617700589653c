"""The broker upstream after the cut: where it was, with what it knows the edge has not acknowledged."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.bench import wire

from .promises import Returned, to_repeat
from .publishers import Message
from .story import happened
from .upstream import ACCEPTED, ACCEPTED_PRESENT, SUBSCRIBE, sent, suback

if TYPE_CHECKING:
    from .resuming import World

ACCEPT_SECONDS = 30.0


class Bridge:
    """In a thread of its own, for the edge comes when it likes."""

    def __init__(self, listener: socket.socket, world: World, met: Returned) -> None:
        self._listener = listener
        self._met = met
        names = {each.client for each in world.messages.values() if each.is_bridged}
        story, cut = world.story, world.cut
        self._present = any(happened(story.sessions.get(name, -1), cut) for name in names)
        self._waiting: dict[int, Message] = {}
        for name in names:
            for each in to_repeat(world.messages, name, cut):
                met.repeated.append(each.name)
                self._waiting[each.packet_id] = each
        self._answered = threading.Event()
        self._connection: socket.socket | None = None

    def wait(self, seconds: float) -> None:
        """Until all that was sent again is acknowledged."""
        if self._waiting:
            self._answered.wait(seconds)

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connection, _ = self._listener.accept()
                self._serve(self._connection)

    def _serve(self, connection: socket.socket) -> None:
        reader = wire.PacketReader()
        with connection, contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                for packet in reader.feed(data):
                    if packet.kind == wire.CONNECT:
                        connection.sendall(ACCEPTED_PRESENT if self._present else ACCEPTED)
                        self._present = True
                    elif packet.kind == SUBSCRIBE:
                        connection.sendall(suback(packet))
                        for packet_id, each in self._waiting.items():
                            connection.sendall(sent(each, packet_id, dup=True))
                    elif packet.kind == wire.PUBACK:
                        message = self._waiting.pop(packet.packet_id, None)
                        if message is not None:
                            self._met.acknowledged[message.name] = ""
                        if not self._waiting:
                            self._answered.set()

    def close(self) -> None:
        for each in (self._listener, self._connection):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()


@contextlib.contextmanager
def returning(world: World, port: int, met: Returned) -> Iterator[Bridge]:
    """Before the edge starts. Where the recording had no broker upstream, nothing waits."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    bridge = Bridge(listener, world, met)
    thread = threading.Thread(target=bridge.serve, daemon=True)
    thread.start()
    try:
        yield bridge
    finally:
        bridge.close()
        thread.join()
