"""The broker on one address, with nobody asked who they are: what tests and benchmarks use; the log of connections.

The daemon's listeners are in `listening/listeners.py`.
"""

from __future__ import annotations

import structlog

from ...core.record import TopicPartition
from ..mqtt.packets import Connect
from .broker import Broker
from .client import Client
from .listening.listeners import Listeners
from .listening.settings import ListenerSettings
from .peer import Peer


class LogObserver:
    """Connections in the log: one line for each coming and going."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("edge.mqtt")

    def connected(self, client: Client, packet: Connect) -> None:
        self._log.debug("client connected", client=client.client_id, version=int(packet.version))

    def disconnected(self, client: Peer, why: str) -> None:
        self._log.debug("client gone", client=client.client_id, why=why)

    def missed(self, who: str, tp: TopicPartition, count: int) -> None:
        self._log.warning(
            "messages were gone from the log before their subscriber came for them",
            subscriber=who,
            partition=str(tp),
            messages_at_most=count,
        )

    def crashed(self, client: Client, error: Exception) -> None:
        self._log.error(
            "client closed for an internal error", client=client.client_id, exc_info=error
        )


class MqttListener(Listeners):
    def __init__(self, broker: Broker, *, host: str, port: int) -> None:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__(broker, (ListenerSettings(address=where, anonymous=True),))
