"""From the uplink's settings to a connection: in the clear or over TLS, with a name and password or without.

Rim. One dialer for the life of the uplink; the files behind it are read again for each connection (core/kafka/security.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...core.clock import KnownTime
from ...core.errors import HeadwaterError, Refused, Unavailable
from ...core.kafka.connection import KafkaConnection, dial_tcp
from ...core.kafka.credentials import SaslMechanism
from ...core.kafka.keepalive import keep_alive
from ...core.kafka.settings import ClientSettings
from .cluster import Dialer
from .settings import UplinkSettings


def dialer(
    edge: str, settings: UplinkSettings, *, is_tls: bool = False, known: KnownTime | None = None
) -> Dialer:
    """`known`: what the time is and whether to believe it, for certificates."""
    client = ClientSettings(request_timeout=settings.request_timeout)
    keepalive_s, timeout_s = float(settings.keepalive), float(settings.request_timeout)
    has_sasl = settings.sasl.mechanism is not SaslMechanism.NONE
    tls, credentials = None, None
    if is_tls or has_sasl:
        # only now: an edge that has neither does not carry it in its memory
        from ...core.kafka.security import Credentials, TlsDialer

        if is_tls:
            tls = TlsDialer(settings.tls, known=known, keepalive_s=keepalive_s, timeout_s=timeout_s)
        credentials = Credentials(settings.sasl) if has_sasl else None

    async def plain(factory: Callable[[], asyncio.Protocol], host: str, port: int) -> object:
        transport = await dial_tcp(factory, host, port)
        keep_alive(transport, idle_s=keepalive_s, timeout_s=timeout_s)
        return transport

    async def dial(host: str, port: int) -> KafkaConnection:
        try:
            return await KafkaConnection.dial(
                host,
                port,
                client_id=f"headwater-{edge}",
                settings=client,
                dialer=tls or plain,
                authenticator=credentials,
            )
        except Refused as error:
            # wrong today; somebody may set it right without telling us, so it is asked again like the rest
            raise Unavailable(str(error)) from error
        except HeadwaterError as error:
            if tls is not None and (said := tls.explain_refusal(str(error))) != str(error):
                raise Unavailable(said) from error
            raise

    return dial
