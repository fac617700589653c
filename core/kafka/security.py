"""How a client reaches a cluster safely: TLS and SASL as settings, and a `Dialer` and `Authenticator` made of them.

Certificates, keys, passwords and tokens are read again for each connection, so that one renewed on disk is used by the next
reconnect without a restart; a context is made anew only when the bytes changed. Passwords come from a file or a setting that
the environment may give, never from the command line, and print as stars.

Time. A board without a clock meets a certificate that is "not yet valid", and without a link it never learns the time. So
while the clock is not trusted OpenSSL checks the chain, the purpose and the name, but no dates (X509_V_FLAG_NO_CHECK_TIME);
then every certificate of the chain is held against the floor, a time that has certainly passed. What had expired before
it is refused. What is "not yet valid" is taken: it is the clock that is wrong. Once the clock is trusted the ordinary check
applies to each new connection.
*Against:* a certificate that expired between the floor and now is taken by a device that does not know the time. The floor
rises with every synchronised time that the log has seen, so that is the time since the device last knew it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

from ..certificates import Certificate, day_of, from_der, from_pem
from ..clock import KnownTime
from ..errors import Refused, Unavailable
from .credentials import SaslMechanism, SaslSettings, TlsSettings
from .keepalive import keep_alive
from .reaching import reach
from .sasl import MECHANISMS, Mechanism, OAuthBearer, Plain, SaltedPasswords, Scram

# openssl/x509_vfy.h; Python has no name for it, and hands the bits through.
X509_V_FLAG_NO_CHECK_TIME = 0x200000
_CERTIFICATE_NOT_YET_VALID, _CERTIFICATE_HAS_EXPIRED = 9, 10
# No certificate, key, password or token is larger.
_FILE_BYTES_MAX = 4 * 1024 * 1024


class TlsDialer:
    """Implements `connection.Dialer`. `known` is None where the clock is believed."""

    def __init__(
        self,
        tls: TlsSettings,
        *,
        known: KnownTime | None = None,
        keepalive_s: float = 60.0,
        timeout_s: float = 30.0,
    ) -> None:
        self._tls = tls
        self._known = known
        self._keepalive_s = keepalive_s
        self._timeout_s = timeout_s
        self._made: tuple[bytes, ssl.SSLContext] | None = None
        self.own: Certificate | None = None
        """What we showed last, for whoever explains a failure."""

    async def __call__(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> asyncio.Transport:
        """Raises OSError, Unavailable; every failure of TLS says what it was about."""
        is_dated = self._known is None or self._known.trusted
        try:
            context = await asyncio.to_thread(self._context, is_dated)
        except Refused as error:
            raise Unavailable(str(error)) from None
        sock = await reach(host, port)
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                factory,
                sock=sock,
                ssl=context,
                server_hostname=self._tls.server_name or host,
                ssl_handshake_timeout=self._timeout_s,
            )
        except ssl.SSLError as error:
            raise Unavailable(f"broker {host}:{port}: {self._explain(error)}") from error
        if not is_dated:
            try:
                self._check_dates(transport.get_extra_info("ssl_object"))
            except Refused as error:
                transport.abort()
                raise Unavailable(f"broker {host}:{port}: {error}") from None
        keep_alive(transport, idle_s=self._keepalive_s, timeout_s=self._timeout_s)
        return transport

    def context(self) -> ssl.SSLContext:
        """For a connection that somebody else makes; `check` afterwards. Reads files. Raises Refused."""
        return self._context(self._known is None or self._known.trusted)

    def check(self, connection: object) -> None:
        """After the handshake: the dates, where OpenSSL did not look at them. Raises Refused."""
        if self._known is not None and not self._known.trusted:
            self._check_dates(connection)

    # -- files -------------------------------------------------------------------------------------------------------

    def _context(self, is_dated: bool) -> ssl.SSLContext:
        tls = self._tls
        files = [tls.ca, tls.certificate, tls.key, tls.key_password_file]
        contents = [_read(name) if name else b"" for name in files]
        print_ = hashlib.sha256(b"".join(b"%d:%b" % (len(c), c) for c in contents)).digest()
        if self._made is None or self._made[0] != print_:
            self._made = (print_, self._make(contents))
        context = self._made[1]
        if is_dated:
            context.verify_flags = ssl.VerifyFlags(
                context.verify_flags & ~X509_V_FLAG_NO_CHECK_TIME
            )
        else:
            context.verify_flags = ssl.VerifyFlags(context.verify_flags | X509_V_FLAG_NO_CHECK_TIME)
        return context

    def _make(self, contents: list[bytes]) -> ssl.SSLContext:
        tls, (ca, certificate, _, password) = self._tls, contents
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not tls.ca:
            context.load_default_certs()
        else:
            try:
                context.load_verify_locations(cadata=ca.decode("ascii"))
            except (ssl.SSLError, ValueError):
                raise Refused(f"CA file {tls.ca} holds no certificate in PEM") from None
        if not tls.certificate:
            return context
        try:
            self.own = from_pem(certificate)[0]
        except Refused as error:
            raise Refused(f"certificate {tls.certificate}: {error}") from None
        try:
            context.load_cert_chain(
                tls.certificate,
                tls.key or None,
                # never asked for on a terminal: without the right one it is an error
                password=password.decode().rstrip("\r\n") if password else "",
            )
        except ssl.SSLError as error:
            reason = (error.reason or "not PEM").lower().replace("_", " ")
            files = " and key ".join(filter(None, (tls.certificate, tls.key)))
            raise Refused(f"certificate {files}: {reason}") from None
        return context

    # -- dates -------------------------------------------------------------------------------------------------------

    def _check_dates(self, connection: object) -> None:
        """Raises Refused where something of the peer's chain had expired before the floor."""
        assert self._known is not None, "else OpenSSL looked at the dates"
        floor_ms = self._known.floor_ms
        for certificate in verified_chain(connection):
            if certificate.not_after_ms < floor_ms:
                raise Refused(
                    f"certificate {certificate} expired before {day_of(floor_ms)}, "
                    "which is certainly past"
                )

    def _explain(self, error: ssl.SSLError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            said = error.verify_message.rstrip(".")
            said = said[:1].lower() + said[1:]
            if error.verify_code in {_CERTIFICATE_NOT_YET_VALID, _CERTIFICATE_HAS_EXPIRED}:
                today = "" if self._known is None else f"; today is {day_of(self._known.wall_ms())}"
                return f"its certificate is not accepted: {said}{today}"
            where = self._tls.ca or "the system's"
            return f"its certificate is not accepted: {said} (authorities: {where})"
        reason = error.reason or str(error)
        if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
            return "what answers does not speak TLS: a listener without it, or a captive portal"
        return f"TLS failed: {reason.lower().replace('_', ' ')}"

    def explain_refusal(self, reason: str) -> str:
        """After the handshake: in TLS 1.3 a server ends the connection only then where it does not like our certificate,
        and the alert that says so does not always reach us."""
        if "alert" not in reason.lower() and "closed the connection" not in reason:
            return reason
        if self.own is None:
            return f"{reason}, after TLS: it may want a client certificate, and none is set"
        return f"{reason}, after TLS: it may not accept {self._tls.certificate}, {self.own}"


def verified_chain(connection: object) -> list[Certificate]:
    """The peer's chain as OpenSSL verified it, leaf first."""
    # public from Python 3.13 on; until then one level down, where it has been since 3.10
    inner = getattr(connection, "_sslobj", None)
    for holder in (connection, inner):
        chain = getattr(holder, "get_verified_chain", None)
        if chain is not None:
            return [from_der(_der(certificate)) for certificate in chain()]
    assert isinstance(connection, (ssl.SSLObject, ssl.SSLSocket))
    leaf = connection.getpeercert(binary_form=True)
    return [from_der(leaf)] if leaf else []


def _der(certificate: object) -> bytes:
    if isinstance(certificate, bytes):
        return certificate
    pem: str = certificate.public_bytes()  # type: ignore[attr-defined]  # _ssl.Certificate
    return ssl.PEM_cert_to_DER_cert(pem)


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Refused(f"{name}: {error.strerror}") from None
    if len(data) > _FILE_BYTES_MAX:
        raise Refused(f"{name} is larger than a certificate, a key or a password")
    return data


class Credentials:
    """Implements `connection.Authenticator`: a fresh mechanism for each connection."""

    def __init__(
        self, sasl: SaslSettings, *, nonce: Callable[[], bytes] = lambda: secrets.token_bytes(24)
    ) -> None:
        assert sasl.mechanism.value in MECHANISMS, "one that there is"
        self._sasl = sasl
        self._nonce = nonce
        self._known: SaltedPasswords = {}
        self._known_for = ""

    async def mechanism(self) -> Mechanism:
        """Raises Unavailable where the file cannot be read."""
        secret = self._sasl.password.reveal()
        if self._sasl.password_file:
            try:
                data = await asyncio.to_thread(_read, self._sasl.password_file)
                secret = data.decode().rstrip("\r\n")
            except (Refused, UnicodeDecodeError) as error:
                raise Unavailable(f"SASL password file {error}") from None
        if secret != self._known_for:
            self._known, self._known_for = {}, secret
        name, username = self._sasl.mechanism.value, self._sasl.username
        match self._sasl.mechanism:
            case SaslMechanism.PLAIN:
                return Plain(username, secret)
            case SaslMechanism.OAUTHBEARER:
                return OAuthBearer(secret.strip())
            case _:
                return Scram(name, username, secret, nonce=self._nonce(), known=self._known)
