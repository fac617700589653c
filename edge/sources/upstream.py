"""The rim towards another MQTT broker: paho-mqtt with manual acknowledgement, driven by the edge's own event loop.

On the loop and not in paho's thread, for then a message is in our log when `on_message` returns, nothing is queued between
threads, and *not reading* is all the flow control there is to do: the upstream's TCP stops, and so does the upstream. Only
the dialling (name, TCP, TLS) blocks, and is done in a thread.

A paho client serves one connection; what must outlive it is in the upstream's session, in ours (inlet.py) and here. Ends of
a connection, whatever the reason, lead to one place: a pause with full jitter, then the next one.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import termios
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from ...core.address import split_address
from ...core.backoff import Backoff
from ...core.clock import KnownTime
from ...core.errors import HeadwaterError, Misconfigured, Refused, Unavailable
from ..broker.broker import Broker
from ..mqtt.packets import Publish
from ..mqtt.properties import NO_PROPERTIES, Properties
from .inlet import Inlet
from .settings import MqttSourceSettings, Protocol

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

    from ...core.kafka.security import TlsDialer

_log = structlog.get_logger("edge.sources")

# Packets taken in one turn of the loop, so that one full upstream does not keep our clients waiting.
_PACKETS_PER_TURN = 64
# paho looks at its keep-alive so often.
_MISC_S = 1.0
# A connection that held so long, or that acknowledged something, was a good one: pauses begin small again.
_STABLE_S = 60.0
_DISK, _WINDOW = "disk", "window"


class MqttSource:
    """One upstream. Implements `inlet.Outlet`. `run` until cancelled."""

    def __init__(
        self,
        settings: MqttSourceSettings,
        broker: Broker,
        *,
        edge: str,
        log_id: str,
        rng: random.Random,
        known: KnownTime,
    ) -> None:
        self.settings = settings
        self.connected = False
        self.messages = 0
        self.bytes = 0
        self.acknowledged = 0
        self.connections = 0
        self.refused: Counter[str] = Counter()
        self.last_error = ""
        self._broker = broker
        self._client_id = settings.client_id or f"headwater-{edge}-{settings.name}"
        self._inner_id = f"source-{settings.name}@{log_id}"
        self._window = min(settings.receive_maximum, broker.settings.receive_maximum)
        self._backoff = Backoff(rng, first_s=0.5, cap_s=float(settings.retry_max))
        self._dialer = _dialer(settings, known)
        self._client: Client | None = None
        self._inlet: Inlet | None = None
        self._fd = -1
        self._pauses: set[str] = set()
        self._accepted = asyncio.Event()
        self._ended = asyncio.Event()
        self._subscribed = False

    async def run(self) -> None:
        while True:
            try:
                await self._connection()
            except TimeoutError:
                self.last_error = "no answer in time"
            except (OSError, HeadwaterError) as error:
                self.last_error = str(error)
            pause = self._backoff.next()
            _log.warning(
                "source disconnected",
                source=self.settings.name,
                reason=self.last_error,
                retry_s=round(pause, 1),
            )
            await asyncio.sleep(pause)

    async def _connection(self) -> None:
        """From dialling to the end of one connection. Raises OSError, TimeoutError, Unavailable."""
        self._accepted.clear()
        self._ended.clear()
        self._pauses.clear()
        self.last_error = ""
        client = await asyncio.to_thread(self._dial)
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._client = client
        try:
            self._attach(client)
            async with asyncio.timeout(float(self.settings.connect_timeout)):
                await _first(self._accepted, self._ended)
            while not self._ended.is_set():
                await _first(self._ended, within_s=_MISC_S)
                client.loop_misc()
                if self._inlet is not None:
                    self._inlet.tick()
                if loop.time() - started >= _STABLE_S:
                    self._backoff.reset()
        finally:
            self._detach(client)

    # --- dialling, in a thread -----------------------------------------------------------------------------------

    def _dial(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        settings = self.settings
        host, port = split_address(settings.address, key="address")
        is_v5 = settings.protocol is Protocol.V5
        client = Client(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if is_v5 else False,
            manual_ack=True,
        )
        client.connect_timeout = float(settings.connect_timeout)
        if settings.user_name:
            client.username_pw_set(settings.user_name, _password(settings.password_file))
        if self._dialer is not None:
            client.tls_set_context(self._dialer.context())
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # with these paho never writes by itself; while not attached they do nothing
        client.on_socket_register_write = self._on_writable_wanted
        client.on_socket_unregister_write = self._on_writable_unwanted
        client.on_socket_close = self._on_socket_close
        keep_alive = max(1, int(settings.keep_alive))
        if is_v5:
            properties = _connect_properties(settings, self._window)
            client.connect_async(host, port, keep_alive, clean_start=False, properties=properties)
        else:
            client.connect_async(host, port, keep_alive)
        client.reconnect()
        sock = client.socket()
        if self._dialer is not None and sock is not None:
            try:
                self._dialer.check(sock)  # CONNECT, with the password, is not written yet
            except Refused:
                sock.close()
                raise
        return client

    # --- the socket and the loop ---------------------------------------------------------------------------------

    def _attach(self, client: Client) -> None:
        sock = client.socket()
        if sock is None:
            raise Unavailable("the connection ended at once")
        self._fd = sock.fileno()
        asyncio.get_running_loop().add_reader(self._fd, self._readable)
        if client.want_write():
            self._on_writable_wanted()

    def _detach(self, client: Client) -> None:
        inlet, self._inlet = self._inlet, None
        if inlet is not None:
            inlet.close()
        self.connected = False
        if not self._ended.is_set():  # our wish: say goodbye, the session stays
            client.disconnect()
            client.loop_write()
        self._forget_socket()
        self._client = None
        sock = client.socket()
        if sock is not None:
            sock.close()

    def _forget_socket(self) -> None:
        if self._fd >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            loop.remove_writer(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        client = self._client
        if client is None or self._fd < 0:
            return
        for _ in range(_PACKETS_PER_TURN):
            before = self.messages
            if client.loop_read():
                self._end(self.last_error or "connection lost")
                break
            if self._inlet is not None and self._inlet.open >= self._window:
                self._pause(_WINDOW)
            if self._pauses or (self.messages == before and not self._is_buffered()):
                break
        if self._inlet is not None:
            self._inlet.flush()
        if self._fd >= 0 and not self._pauses and self._is_buffered():
            asyncio.get_running_loop().call_soon(self._readable)

    def _is_buffered(self) -> bool:
        """TLS has read more than was asked for: no event will tell."""
        sock = None if self._client is None else self._client.socket()
        pending = getattr(sock, "pending", None)
        return pending is not None and pending() > 0

    def _writable(self) -> None:
        if self._client is not None and self._client.loop_write():
            self._end("connection lost")

    def _on_writable_wanted(self, *_: object) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().add_writer(self._fd, self._writable)

    def _on_writable_unwanted(self, *_: object) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_writer(self._fd)

    def _on_socket_close(self, *_: object) -> None:
        if self._fd >= 0:
            self._forget_socket()

    def _pause(self, why: str) -> None:
        if not self._pauses and self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
        self._pauses.add(why)

    def _resume(self, why: str) -> None:
        if why not in self._pauses:
            return
        self._pauses.discard(why)
        if not self._pauses and self._fd >= 0:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._fd, self._readable)
            if self._is_buffered():
                loop.call_soon(self._readable)

    # --- what paho calls: on the loop ----------------------------------------------------------------------------

    def _on_connect(self, client: Client, _: object, flags: Any, reason: Any, *__: object) -> None:
        if reason.is_failure:
            self._end(f"refused: {reason}")
            return
        self.connected = True
        self.connections += 1
        self._accepted.set()
        inlet = self._inlet = Inlet(self._broker, self, self._inner_id, self.refused)
        inlet.connect(resumed=flags.session_present)
        _log.info(
            "source connected", source=self.settings.name, resumed=bool(flags.session_present)
        )
        if self.settings.protocol is Protocol.V5:
            from paho.mqtt.subscribeoptions import SubscribeOptions

            options = SubscribeOptions(
                qos=self.settings.qos,
                retainAsPublished=True,
                retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,
            )
            client.subscribe([(each, options) for each in self.settings.filters])
        elif not (flags.session_present and self._subscribed):
            # 3.1.1 sends what is retained at each SUBSCRIBE: once in the life of this process
            client.subscribe([(each, self.settings.qos) for each in self.settings.filters])

    def _on_subscribe(self, _: Client, __: object, ___: int, reasons: Any, *____: object) -> None:
        refused = [
            f"{topic_filter}: {reason}"
            for topic_filter, reason in zip(self.settings.filters, reasons, strict=False)
            if reason.is_failure
        ]
        self._subscribed = not refused
        if refused:
            self._end(f"subscription refused: {', '.join(refused)}")

    def _on_disconnect(
        self, _: Client, __: object, ___: object, reason: Any, *____: object
    ) -> None:
        self._end(self.last_error or f"disconnected: {reason}")

    def _on_message(self, _: Client, __: object, message: MQTTMessage) -> None:
        self.messages += 1
        self.bytes += len(message.payload)
        inlet = self._inlet
        if inlet is None:
            return
        try:
            topic = self.settings.topic_prefix + message.topic
        except UnicodeDecodeError:
            topic = "$"  # no topic that is stored
        inlet.publish(
            Publish(
                topic=topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retain=message.retain,
                dup=message.dup,
                packet_id=message.mid,
                properties=_properties(message),
            )
        )

    # --- what the inlet calls ------------------------------------------------------------------------------------

    def acknowledge(self, packet_id: int) -> None:
        if self._client is None:
            return
        self._client.ack(packet_id, 1)
        if not self.acknowledged % 1000:
            self._backoff.reset()
        self.acknowledged += 1
        if self._inlet is not None and self._inlet.open <= self._window // 2:
            self._resume(_WINDOW)

    def pause(self) -> None:
        self._pause(_DISK)

    def resume(self) -> None:
        self._resume(_DISK)

    def give_up(self, why: str) -> None:
        self._end(why)

    def drained(self) -> bool:
        client = self._client
        if client is None or self._fd < 0 or client.want_write():
            return False
        waiting = fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0\0\0\0")
        return waiting == b"\0\0\0\0"

    def _end(self, why: str) -> None:
        if not self._ended.is_set():
            self.last_error = why
            self._ended.set()


def _dialer(settings: MqttSourceSettings, known: KnownTime) -> TlsDialer | None:
    if settings.tls is None:
        return None
    from ...core.kafka.security import TlsDialer

    return TlsDialer(settings.tls, known=known)


def _password(name: str) -> str | None:
    """Raises OSError: tried again, for the file may come."""
    return Path(name).read_text(encoding="utf-8").split("\n", 1)[0] if name else None


def _connect_properties(settings: MqttSourceSettings, window: int) -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties as PahoProperties

    properties = PahoProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = min(int(settings.session_expiry), 0xFFFF_FFFF)
    properties.ReceiveMaximum = window
    return properties


# paho's attribute, ours
_CARRIED = (
    ("PayloadFormatIndicator", "payload_format_indicator"),
    ("MessageExpiryInterval", "message_expiry_interval"),
    ("ContentType", "content_type"),
    ("ResponseTopic", "response_topic"),
    ("CorrelationData", "correlation_data"),
)


def _properties(message: MQTTMessage) -> Properties:
    """What a message carries beyond the hop."""
    theirs = message.properties
    if theirs is None or theirs.isEmpty():  # type: ignore[no-untyped-call]
        return NO_PROPERTIES
    found = {
        ours: value for name, ours in _CARRIED if (value := getattr(theirs, name, None)) is not None
    }
    pairs = tuple((str(name), str(value)) for name, value in getattr(theirs, "UserProperty", ()))
    properties = msgspec.structs.replace(NO_PROPERTIES, user_properties=pairs, **found)
    return NO_PROPERTIES if properties == NO_PROPERTIES else properties


async def _first(*events: asyncio.Event, within_s: float | None = None) -> None:
    """Until one of them is set, or so long."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def check_installed() -> None:
    """Raises Misconfigured where paho-mqtt is missing."""
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError:
        raise Misconfigured(
            "edge.sources.mqtt needs paho-mqtt", hint="pip install 'headwater[bridge]'"
        ) from None
