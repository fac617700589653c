"""TLS for a listener: a context from files, and the user that a client certificate names.

A context is made whole before it is used: reloading makes another one, which the next handshake takes, and a file that
is wrong leaves the old one in force. OpenSSL's defaults are kept but for the version: its cipher list is better
maintained than one of ours would be. Session tickets stay on, so that a device's reconnect costs no signature.
`ssl` is imported with this file, by listeners that have TLS and nobody else.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from ....core.errors import Misconfigured
from .door import Visitor
from .settings import TlsSettings

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def make_context(tls: TlsSettings, *, key: str) -> ssl.SSLContext:
    """Raises Misconfigured naming the file. `key`: whose settings these are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.minimum_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        # never asked for on a terminal: an encrypted key is an error
        context.load_cert_chain(tls.certificate, tls.key or None, password=lambda: "")
    except OSError as error:
        files = " and ".join(filter(None, (tls.certificate, tls.key)))
        raise Misconfigured(f"{key}: certificate {files}: {_said(error)}") from None
    if tls.client_ca:
        for name in filter(None, (tls.client_ca, tls.crl)):
            try:
                context.load_verify_locations(name)
            except OSError as error:
                raise Misconfigured(f"{key}: {name}: {_said(error)}") from None
        if tls.crl:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.verify_mode = (
            ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_OPTIONAL
        )
    return context


def _said(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "not PEM").lower().replace("_", " ")
        if "bad password" in reason or "bad decrypt" in reason:
            return "the key is encrypted, and nobody is here to type its password"
        return reason
    return error.strerror or str(error)


def learn_subject(transport: asyncio.Transport, visitor: Visitor) -> None:
    """After the handshake: whose certificate it was, if one was shown and the listener goes by it."""
    tls = visitor.door.settings.tls
    if tls is not None:
        visitor.subject = subject_of(transport.get_extra_info("peercert"), tls.user_from)


def subject_of(certificate: dict[str, object] | None, user_from: str) -> str | None:
    """The user name in a verified certificate, as `SSLObject.getpeercert()` shows it; an empty one names nobody."""
    if not certificate or user_from == "none":
        return None
    if user_from == "dns":
        names = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
        return next((value for kind, value in names if kind == "DNS"), None) or None
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
    return (
        next((value for rdn in subject for name, value in rdn if name == "commonName"), None)
        or None
    )
