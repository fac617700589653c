"""What a user may tune about a connection to a Kafka-protocol broker."""

from __future__ import annotations

import msgspec

from ..units import MIB, ByteSize, Duration


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    connect_timeout: Duration = Duration(10.0)
    """How long a connection may take, ApiVersions included: two round trips over the worst mobile link."""

    request_timeout: Duration = Duration(30.0)
    """How long an answer may take before the connection is given up; Kafka's own default. What was sent is then in doubt."""

    response_bytes_max: ByteSize = ByteSize(64 * MIB)
    """The largest response that is accepted: several times what a fetch asks for, and still bounded memory."""

    requests_in_flight_max: int = 1000
    """Requests without an answer on one connection; above it nothing is sent, since nobody is reading at the other end."""

    metadata_age_max: Duration = Duration(300.0)
    """After this a leader is asked for again even without an error, so that new partitions are seen; Kafka's own default."""
