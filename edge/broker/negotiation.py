"""What a CONNECT asks for and what its CONNACK grants: limits both ways, keep-alive, expiry, receipts.

Everything granted is bounded by a setting. What is not said in CONNACK was granted as asked (MQTT 5.0, section 3.2.2.3).

What was fixed when the connection was made is told as it was then: settings may change in between.

Receipts are ours: a client that sends the user property `hw.receipts` = `1` in CONNECT, and gets it back in CONNACK, finds
in each PUBACK and PUBREC the user property `hw.receipt` = `stream/partition/offset`, the record's address in this
edge's log. They are diagnostics by the protocol's rules: request problem information 0 forbids them ([MQTT-3.1.2-29]), and
a packet that would grow above the client's maximum goes without ([MQTT-3.4.2-3]). A repetition (DUP) is acknowledged without
one: where its first sending lies is not kept.
"""

from __future__ import annotations

from ..mqtt.aliases import OutboundAliases
from ..mqtt.packets import Connack, Connect, Version
from ..mqtt.properties import Properties
from .peer import Peer
from .sessions import Session
from .settings import MqttSettings

RECEIPTS_PROPERTY = ("hw.receipts", "1")
# In `response_information`: the client identifier.
_CLIENT = "{client}"


def negotiate(
    client: Peer, packet: Connect, session: Session, settings: MqttSettings, *, present: bool
) -> Connack:
    """Sets what was agreed on the client and its session; the CONNACK that says so."""
    wanted = packet.properties
    client.keep_alive_s = float(packet.keep_alive)
    if packet.version is Version.V311:
        session.expiry_s = 0.0 if packet.clean_start else float(settings.session_expiry_max)
        return Connack(session_present=present)
    client.window = min(client.window, wanted.receive_maximum or 0xFFFF)
    aliases = min(settings.topic_alias_out_max, wanted.topic_alias_maximum or 0)
    client.aliases = OutboundAliases(aliases) if aliases else None
    client.send_bytes_max = wanted.maximum_packet_size or 0
    client.receipts = (
        RECEIPTS_PROPERTY in wanted.user_properties and wanted.request_problem_information != 0
    )
    asked_s = wanted.session_expiry_interval or 0
    session.expiry_s = granted_expiry(asked_s, settings)
    keep_alive = None
    if 0 < settings.keep_alive_max < (packet.keep_alive or 0x10000):
        keep_alive = settings.keep_alive_max  # [MQTT-3.1.2-21]
        client.keep_alive_s = float(keep_alive)
    properties = Properties(
        session_expiry_interval=None if asked_s == session.expiry_s else int(session.expiry_s),
        receive_maximum=client.receive_maximum,
        maximum_packet_size=client.connection.packet_bytes_max,
        topic_alias_maximum=client.connection.topic_alias_max,
        shared_subscription_available=1,
        assigned_client_identifier=None if packet.client_id else session.client_id,
        server_keep_alive=keep_alive,
        response_information=_response_information(packet, session, settings),
        user_properties=(RECEIPTS_PROPERTY,) if client.receipts else (),
    )
    return Connack(session_present=present, properties=properties)


def granted_expiry(asked_s: int, settings: MqttSettings) -> float:
    """`0xFFFFFFFF` (never) is not granted: what is bounded by nothing fills the memory of something."""
    return min(float(asked_s), float(settings.session_expiry_max))


def _response_information(packet: Connect, session: Session, settings: MqttSettings) -> str | None:
    """Where this client may have answers sent to: only if asked ([MQTT-3.1.2-28]), and only what is a topic."""
    if packet.properties.request_response_information != 1 or not settings.response_information:
        return None
    text = settings.response_information.replace(_CLIENT, session.client_id)
    return None if "+" in text or "#" in text else text
