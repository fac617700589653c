"""A listener's settings, and what is nonsense among them.

Who is let in without a password is decided here, and errs on the safe side: anonymous clients are taken on loopback (and
unix sockets), elsewhere only where the user said `anonymous = true`; a listener that other machines can reach, without TLS,
on which passwords would travel in the clear, needs `plain_passwords = true`; one that nobody could ever use is refused.
"""

from __future__ import annotations

import enum
import ipaddress
import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from ....core.address import split_address
from ....core.errors import Misconfigured
from ....core.units import MIB, ByteSize, Duration

UNIX = "unix:"
# What the listener of edge.mqtt is called in metrics, logs and the journal of connections.
SIMPLE = "mqtt"


class Kind(enum.Enum):
    MQTT = "mqtt"
    WEBSOCKET = "websocket"


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    certificate: str
    """PEM file: the server's certificate, then the intermediate ones. Read again on SIGHUP, for new handshakes."""
    key: str = ""
    """PEM file of its private key, not encrypted; empty: it stands in the certificate's file."""
    client_ca: str = ""
    """PEM file of the authorities whose client certificates are believed; empty: none are asked for."""
    crl: str = ""
    """PEM file of revoked client certificates, one list for each authority in client_ca; empty: none is checked."""
    require_client_certificate: bool = False
    """No handshake without a valid one. Without this a client may still show one, or give a password."""
    user_from: Literal["none", "cn", "dns"] = "none"
    """The user name is the certificate's common name (cn) or first DNS name (dns), and no password is asked for."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """TLS 1.0 and 1.1 are not offered at all; 1.3 shuts out modules of before about 2020."""


class ListenerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    address: str
    """HOST:PORT or unix:/path/of/a/socket."""
    name: str = ""
    """In metrics, logs and the journal of connections; empty: the address."""
    kind: Kind = Kind.MQTT
    """mqtt, or websocket: MQTT in the binary frames of a WebSocket (subprotocol mqtt), as browsers speak it."""
    path: str = "/mqtt"
    """Of a WebSocket, beside `/`: any other path is answered with 404."""
    origins: tuple[str, ...] = ()
    """Web pages that may connect, as https://host[:port], or * for any. None: those of the host they connect to."""
    tls: TlsSettings | None = None
    """TLS; without it the listener is plain."""
    anonymous: bool | None = None
    """Whether clients without a user name are taken. Not said: on loopback and unix sockets only."""
    plain_passwords: bool = False
    """Passwords in the clear where other machines can reach it: an explicit choice, for a network that you trust."""
    user_as_client_id: bool = False
    """The client identifier is the user name, whatever CONNECT says: nobody takes over another user's session."""
    connections_max: int = 0
    """Connections of this listener; 0: only edge.mqtt_limits.connections_max."""
    connections_per_address_max: int = 0
    """Connections from one address; 0: any number, because a gateway or NAT puts a whole site behind one."""
    connection_rate: float = 0.0
    """New connections a second; more are closed before a byte is read or a handshake computed. 0: any number."""
    connection_burst: int = 100
    """As many at once before the rate counts: a site that comes back after a power cut."""
    publish_rate: float = 0.0
    """Messages a second of one client; a faster one is not read for a while, nothing is lost. 0: any number."""
    publish_bytes_rate: ByteSize = ByteSize(0)
    """The same in bytes a second as they come from the socket. 0: any number."""
    packet_bytes_max: ByteSize = ByteSize(0)
    """Announced in CONNACK, enforced on the header; 0: edge.mqtt_limits.packet_bytes_max, which it cannot exceed."""
    handshake_timeout: Duration = Duration(10)
    """For TLS and the WebSocket's HTTP, each; CONNECT has edge.mqtt_limits.connect_timeout after it."""

    @property
    def label(self) -> str:
        return self.name or self.address

    @property
    def is_local(self) -> bool:
        """No other machine can reach it."""
        if self.address.startswith(UNIX):
            return True
        host, _ = split_address(self.address, key="edge.listeners.address")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def takes_anonymous(self) -> bool:
        return self.is_local if self.anonymous is None else self.anonymous


def key_of(listener: ListenerSettings) -> str:
    """What an error calls it: what the user would look for in the file."""
    return "edge.mqtt" if listener.label == SIMPLE else f"edge.listeners {listener.label!r}"


def check_listeners(listeners: Sequence[ListenerSettings], *, has_passwords: bool) -> None:
    """Raises Misconfigured with the listener's name and what to do."""
    if not listeners:
        raise Misconfigured(
            "edge.mqtt is none and there are no [[edge.listeners]]: nobody could connect"
        )
    for number, listener in enumerate(listeners):
        key = key_of(listener)
        _check_limits(listener, key)
        if listener.kind is Kind.WEBSOCKET and not listener.path.startswith("/"):
            raise Misconfigured(f"{key}: path must begin with /")
        if listener.tls is not None:
            _check_tls(listener.tls, key)
        _check_who(listener, key, has_passwords=has_passwords)
        for other in listeners[:number]:
            if other.label == listener.label:
                raise Misconfigured(f"{key}: there are two of that name")
            if other.address == listener.address and not other.address.endswith(":0"):
                raise Misconfigured(f"{key}: {listener.address} is listened on by {other.label!r}")


def _check_limits(listener: ListenerSettings, key: str) -> None:
    if listener.address.startswith(UNIX):
        if len(listener.address.removeprefix(UNIX).encode()) not in range(1, 108):
            raise Misconfigured(f"{key}: the path of a unix socket has 1 to 107 bytes")
    else:
        split_address(listener.address, key=f"{key}: address")
    for name in (
        "connections_max",
        "connections_per_address_max",
        "connection_rate",
        "publish_rate",
        "publish_bytes_rate",
    ):
        if not 0 <= getattr(listener, name) < math.inf:  # NaN is not either
            raise Misconfigured(f"{key}: {name} must be a number and not negative; 0 is no limit")
    if listener.connection_burst < 1 or listener.handshake_timeout <= 0:
        raise Misconfigured(f"{key}: connection_burst and handshake_timeout must be above 0")
    if listener.packet_bytes_max and not 128 <= listener.packet_bytes_max <= 256 * MIB:
        raise Misconfigured(f"{key}: packet_bytes_max must be 128B to 256MiB")


def _check_tls(tls: TlsSettings, key: str) -> None:
    for name in ("require_client_certificate", "crl"):
        if getattr(tls, name) and not tls.client_ca:
            raise Misconfigured(
                f"{key}: tls.{name} needs tls.client_ca, the authorities to believe"
            )
    if tls.user_from != "none" and not tls.client_ca:
        raise Misconfigured(f"{key}: tls.user_from needs tls.client_ca, the authorities to believe")


def _check_who(listener: ListenerSettings, key: str, *, has_passwords: bool) -> None:
    # a certificate that names nobody opens the handshake and no more: who it was still has to be said
    by_certificate = listener.tls is not None and listener.tls.user_from != "none"
    if not has_passwords and not by_certificate and not listener.takes_anonymous:
        if listener.tls is not None and listener.tls.require_client_certificate:
            raise Misconfigured(
                f"{key}: nobody could connect: say tls.user_from, so that the certificate names the "
                "user, or anonymous = true for everybody who has one"
            )
        raise Misconfigured(
            f"{key} can be reached by other machines, and nobody could connect: set "
            "edge.access.password_file, or client certificates, or anonymous = true for anybody"
        )
    if (
        has_passwords
        and listener.tls is None
        and not listener.is_local
        and not listener.plain_passwords
    ):
        raise Misconfigured(
            f"{key} can be reached by other machines and has no TLS, so passwords would be sent in "
            "the clear: give it tls, or say plain_passwords = true"
        )
