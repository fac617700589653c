"""An MQTT message as a record of the journal, and back: nothing that a publisher said is lost on the way.

The record's timestamp is the arrival by the wall clock, its value the payload, its key what the stream says (by default
the topic). The rest are headers:

| header | value | absent |
|---|---|---|
| `mqtt.topic` | the topic | the key is the topic |
| `mqtt.qos` | `0` or `2` | QoS 1 |
| `mqtt.retain` | `1` | not to be retained |
| `mqtt.payload-format` | `0` or `1` | not said |
| `mqtt.message-expiry` | seconds from the record's timestamp | never |
| `mqtt.content-type`, `mqtt.response-topic` | text | not said |
| `mqtt.correlation-data` | bytes | not said |
| `mqtt.client` | the publisher's client identifier | nobody asked not to hear itself |
| any other | one user property, in order, repeats kept | |

Numbers are decimal ASCII. User properties come after ours. One whose name begins with `hw.`, `mqtt.` or `user.` gets the
prefix `user.` and loses it on the way back: whatever a client sends, it cannot write a header of ours, and
`property_name(header_name(x)) == x` for every x.

What concerned only the hop is not kept: packet identifier, DUP, topic alias, subscription identifiers. The will delay is
over when a will becomes a message.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...core.record import TOPIC_HEADER, Headers, StoredRecord, TopicPartition
from ..mqtt.packets import Publish, Will
from ..mqtt.properties import NO_PROPERTIES, Properties
from ..mqtt.topics import matches
from .messages import Message

QOS_HEADER = "mqtt.qos"
RETAIN_HEADER = "mqtt.retain"
PAYLOAD_FORMAT_HEADER = "mqtt.payload-format"
MESSAGE_EXPIRY_HEADER = "mqtt.message-expiry"
CONTENT_TYPE_HEADER = "mqtt.content-type"
RESPONSE_TOPIC_HEADER = "mqtt.response-topic"
CORRELATION_DATA_HEADER = "mqtt.correlation-data"
CLIENT_HEADER = "mqtt.client"

_ESCAPE = "user."
_RESERVED = ("hw.", "mqtt.", _ESCAPE)
_RETAIN = (RETAIN_HEADER, b"1")
_QOS_MARK: tuple[Headers, Headers, Headers] = (((QOS_HEADER, b"0"),), (), ((QOS_HEADER, b"2"),))


def header_name(property_name: str) -> str:
    """The record header of a user property."""
    return _ESCAPE + property_name if property_name.startswith(_RESERVED) else property_name


def property_name(header_name: str) -> str | None:
    """The user property of a record header; None: the header is ours."""
    if header_name.startswith(_ESCAPE):
        return header_name[len(_ESCAPE) :]
    return None if header_name.startswith(_RESERVED) else header_name


def marked_with_qos(route_headers: Headers, qos: int) -> Headers:
    """A route's headers for a message of this QoS that says nothing else: made once, shared by all its records."""
    return route_headers + _QOS_MARK[qos]


def marked_with_client(
    headers: Headers, topic: str, client_id: str, no_local: Iterable[str]
) -> Headers:
    """The same with the publisher, where one of its own `no_local` filters would else bring it back to it."""
    if any(matches(topic_filter, topic) for topic_filter in no_local):
        return (*headers, (CLIENT_HEADER, client_id.encode()))
    return headers


def headers_of(route_headers: Headers, packet: Publish | Will) -> Headers:
    """The headers of any message. `route_headers`: those of its route (the topic, where the key is another)."""
    headers = route_headers + _QOS_MARK[packet.qos]
    if packet.retain:
        headers = (*headers, _RETAIN)
    if packet.properties is NO_PROPERTIES:
        return headers
    properties = packet.properties
    more: list[tuple[str, bytes | None]] = []
    if properties.payload_format_indicator is not None:
        more.append((PAYLOAD_FORMAT_HEADER, b"%d" % properties.payload_format_indicator))
    if properties.message_expiry_interval is not None:
        more.append((MESSAGE_EXPIRY_HEADER, b"%d" % properties.message_expiry_interval))
    if properties.content_type is not None:
        more.append((CONTENT_TYPE_HEADER, properties.content_type.encode()))
    if properties.response_topic is not None:
        more.append((RESPONSE_TOPIC_HEADER, properties.response_topic.encode()))
    if properties.correlation_data is not None:
        more.append((CORRELATION_DATA_HEADER, properties.correlation_data))
    more += [(header_name(name), text.encode()) for name, text in properties.user_properties]
    return (*headers, *more)


def topic_of(record: StoredRecord) -> str:
    """The MQTT topic a record was published to. Only for records that a broker wrote."""
    for name, value in record.headers:
        if name == TOPIC_HEADER and value is not None:
            return value.decode()
    return (record.key or b"").decode()


def expires(record: StoredRecord) -> bool:
    return any(name == MESSAGE_EXPIRY_HEADER for name, _ in record.headers)


def message_of(record: StoredRecord, tp: TopicPartition, *, now: float, wall_ms: int) -> Message:
    """The message that a record of `tp` holds. `now` is monotonic, `wall_ms` the wall clock at the same moment.

    A clock that was set back does not make a message younger than it was when it came.
    """
    topic = (record.key or b"").decode() if not record.headers else topic_of(record)
    qos, retain, publisher, properties = 1, False, "", NO_PROPERTIES
    if record.headers:
        found = {name: value or b"" for name, value in reversed(record.headers)}
        qos = int(found.get(QOS_HEADER, b"1"))
        retain = RETAIN_HEADER in found
        publisher = found.get(CLIENT_HEADER, b"").decode()
        properties = _properties_of(found, record.headers)
    age_s = max(0, wall_ms - record.timestamp) / 1000
    return Message(
        topic,
        record.value or b"",
        qos=qos,
        retain=retain,
        properties=properties,
        publisher=publisher,
        now=now - age_s,
        tp=tp,
        offset=record.offset,
    )


def _properties_of(found: dict[str, bytes], headers: Headers) -> Properties:
    payload_format = found.get(PAYLOAD_FORMAT_HEADER)
    expiry = found.get(MESSAGE_EXPIRY_HEADER)
    content_type = found.get(CONTENT_TYPE_HEADER)
    response_topic = found.get(RESPONSE_TOPIC_HEADER)
    pairs = tuple(
        (name, (value or b"").decode())
        for header, value in headers
        if (name := property_name(header)) is not None
    )
    properties = msgspec.structs.replace(
        NO_PROPERTIES,
        payload_format_indicator=None if payload_format is None else int(payload_format),
        message_expiry_interval=None if expiry is None else int(expiry),
        content_type=None if content_type is None else content_type.decode(),
        response_topic=None if response_topic is None else response_topic.decode(),
        correlation_data=found.get(CORRELATION_DATA_HEADER),
        user_properties=pairs,
    )
    return NO_PROPERTIES if properties == NO_PROPERTIES else properties
