"""TLS for the node's second door: its own certificate, and perhaps an authority that clients' certificates must come from.

The files are looked at again at each turn of the housekeeping (`reload`), and what is new holds for the next handshake;
connections that are open keep what they have. New files are tried in a context of their own first: a wrong or half-written
one leaves the old in force and is said once. An authority that was taken out of the file is trusted until the node starts
anew.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
import structlog

from ...core.certificates import from_pem
from ...core.errors import Misconfigured, Refused

_log = structlog.get_logger()


class ServerTlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[cloud.tls]"""

    certificate: str = ""
    """PEM file of the node's certificate, with its intermediates. Needed for `kafka_tls`."""

    key: str = ""
    """PEM file of its private key; empty: it is in the same file."""

    client_ca: str = ""
    """PEM file of the authorities of clients' certificates. With it a client without one is turned away; empty: anybody."""


class ServerTls:
    """`context` stays the same object for the listener's life."""

    def __init__(self, settings: ServerTlsSettings) -> None:
        self._settings = settings
        self._refused = ""
        self._seen = self._contents()
        self.context = self._make()

    def reload(self) -> bool:
        """True where new files are in force. A wrong one is logged, once."""
        try:
            found = self._contents()
            if found == self._seen:
                return False
            self._make()
            self._load(self.context)
        except Refused as error:
            if str(error) != self._refused:
                _log.error("new certificate files are not used", reason=str(error))
            self._refused = str(error)
            return False
        self._seen, self._refused = found, ""
        _log.info("certificate files read again", certificate=str(from_pem(found[0])[0]))
        return True

    def _contents(self) -> list[bytes]:
        """Raises Misconfigured."""
        settings = self._settings
        if not settings.certificate:
            raise Misconfigured("cloud.tls.certificate is needed where cloud.kafka_tls is set")
        return [
            _read(name) if name else b""
            for name in (settings.certificate, settings.key, settings.client_ca)
        ]

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        settings = self._settings
        try:
            context.load_cert_chain(settings.certificate, settings.key or None, password=lambda: "")
        except ssl.SSLError as error:
            files = " and key ".join(filter(None, (settings.certificate, settings.key)))
            reason = (error.reason or "not PEM").lower().replace("_", " ")
            raise Misconfigured(f"certificate {files}: {reason}") from None
        if settings.client_ca:
            try:
                context.load_verify_locations(settings.client_ca)
            except ssl.SSLError:
                raise Misconfigured(
                    f"CA file {settings.client_ca} holds no certificate in PEM"
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Misconfigured(f"{name}: {error.strerror}") from None
