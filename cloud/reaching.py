"""From settings to a client of the cluster: in the clear or over TLS, with a name and password or without.

For whoever reads a cluster as the sink does: the sink itself, and `headwater streams`. Knows settings and makes one client;
files are read again for each connection (core/kafka/security.py).
"""

from __future__ import annotations

from ..core.kafka.address import bootstrap_of, is_tls
from ..core.kafka.client import KafkaClient
from ..core.kafka.connection import dial_tcp
from ..core.kafka.credentials import SaslMechanism
from ..core.kafka.security import Credentials, TlsDialer
from .sink.settings import SinkSettings


def client_of(settings: SinkSettings, *, client_id: str) -> KafkaClient:
    """Not connected yet. Raises Refused, Misconfigured."""
    bootstrap, over_tls = bootstrap_of(settings.bootstrap), is_tls(settings.bootstrap)
    settings.sasl.check("sink.sasl", is_tls=over_tls)
    has_sasl = settings.sasl.mechanism is not SaslMechanism.NONE
    return KafkaClient(
        bootstrap,
        client_id=client_id,
        dialer=TlsDialer(settings.tls) if over_tls else dial_tcp,
        authenticator=Credentials(settings.sasl) if has_sasl else None,
    )
