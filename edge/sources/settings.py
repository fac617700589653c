"""A broker to subscribe to: the section [[edge.sources.mqtt]]. Values only."""

from __future__ import annotations

import enum

import msgspec

from ...core.address import split_address
from ...core.errors import Misconfigured, Refused
from ...core.kafka.credentials import TlsSettings
from ...core.record import check_name
from ...core.units import Duration
from ..mqtt.reasons import Violation
from ..mqtt.topics import SHARED_PREFIX, check_topic_filter


class Protocol(enum.Enum):
    V5 = "5"
    V311 = "3.1.1"


class MqttSourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    """For logs and metrics, and part of the identifiers: it must stay the same for what is unfinished to be finished."""
    address: str
    """HOST:PORT of the broker that has the messages."""
    filters: tuple[str, ...]
    """MQTT topic filters to subscribe to; `$share/GROUP/FILTER` shares the work with other edges."""
    qos: int = 1
    """0 or 1. At 1 the upstream keeps what we have not acknowledged; 2 cannot wait for our disk, see edge/README.md."""
    protocol: Protocol = Protocol.V5
    """3.1.1 for brokers that know no other; 5 bounds what is in flight and does not repeat what is retained."""
    client_id: str = ""
    """Ours at the upstream, which keeps our session by it. Empty: headwater-EDGE-NAME."""
    user_name: str = ""
    """Empty: none is given."""
    password_file: str = ""
    """Its first line is the password; a file, so that no listing of processes or settings shows it."""
    topic_prefix: str = ""
    """Put before each topic, such as `plant-2/`: two upstreams may use the same topics."""
    keep_alive: Duration = Duration(60)
    """Below the few minutes after which mobile networks forget a silent connection."""
    session_expiry: Duration = Duration(7 * 86_400)
    """How long the upstream keeps messages for us while we are away (MQTT 5; 3.1.1 brokers have their own limit)."""
    receive_maximum: int = 100
    """Delivered and not yet on our disk, at most: two syncs' worth on a card, and what may come again after a crash."""
    connect_timeout: Duration = Duration(10)
    """From TCP to CONNACK."""
    retry_max: Duration = Duration(60)
    """The longest pause between attempts; each is random below a ceiling that doubles."""
    tls: TlsSettings | None = None
    """TLS to the upstream; an empty table means: with the system's certificate authorities."""

    def check(self) -> None:
        """Raises Misconfigured."""
        key = f"edge.sources.mqtt {self.name!r}"
        try:
            check_name(self.name, what="source")
            for each in self.filters:
                check_topic_filter(_unshared(each))
        except (Refused, Violation) as error:
            raise Misconfigured(f"{key}: {error}") from None
        split_address(self.address, key=f"{key}: address")
        if not self.filters:
            raise Misconfigured(f"{key}: filters are needed; # takes everything")
        if self.qos not in {0, 1}:
            raise Misconfigured(f"{key}: qos must be 0 or 1, not {self.qos}")
        if not 1 <= self.receive_maximum <= 0xFFFF:
            raise Misconfigured(f"{key}: receive_maximum must be 1 to 65535")
        if self.keep_alive > 0xFFFF:
            raise Misconfigured(f"{key}: keep_alive must be at most 65535s: MQTT has no more")
        if self.connect_timeout <= 0 or self.retry_max <= 0:
            raise Misconfigured(f"{key}: connect_timeout and retry_max must be above 0s")
        if any(character in self.topic_prefix for character in "+#\0"):
            raise Misconfigured(f"{key}: topic_prefix may not contain wildcards")
        if self.tls is not None and self.tls.server_name:
            raise Misconfigured(f"{key}: tls.server_name cannot be set here; dial the name itself")
        if self.password_file and not self.user_name:
            raise Misconfigured(f"{key}: password_file without user_name")


class SourcesSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mqtt: tuple[MqttSourceSettings, ...] = ()
    """[[edge.sources.mqtt]]: other MQTT brokers, subscribed to; needs paho-mqtt (pip install 'headwater[bridge]')."""

    def check(self) -> None:
        """Raises Misconfigured."""
        for source in self.mqtt:
            source.check()
        names = [source.name for source in self.mqtt]
        if len(set(names)) < len(names):
            raise Misconfigured("edge.sources.mqtt: two sources have the same name")


def _unshared(topic_filter: str) -> str:
    if not topic_filter.startswith(SHARED_PREFIX):
        return topic_filter
    return topic_filter.removeprefix(SHARED_PREFIX).partition("/")[2]
