"""Settings of a safe connection to a cluster: whom we believe (TLS) and who we are (a certificate, SASL). Values only.

Apart from security.py, which acts on them, so that a daemon without a cluster does not load the Kafka protocol.
"""

from __future__ import annotations

import enum

import msgspec

from ..errors import Misconfigured
from ..secret import Secret


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ca: str = ""
    """PEM file of the authorities that may vouch for a broker; empty: those that the system trusts."""
    certificate: str = ""
    """PEM file of our own certificate, with its intermediates; empty: we show none."""
    key: str = ""
    """PEM file of its private key; empty: it is in the same file."""
    key_password_file: str = ""
    """File with the key's password. A key that only the daemon may read needs none."""
    server_name: str = ""
    """The name that brokers' certificates must carry, where it is not the one we dial (a tunnel, an address)."""


class SaslMechanism(enum.StrEnum):
    NONE = "none"
    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"


class SaslSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mechanism: SaslMechanism = SaslMechanism.NONE
    """none, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER: what the cluster asks of its clients."""
    username: str = ""
    password: Secret = Secret("")
    """Best given as an environment variable or in `password_file`. Never shown again."""
    password_file: str = ""
    """File with the password, or OAUTHBEARER's token; read for each connection, so it may be renewed."""

    def check(self, key: str, *, is_tls: bool) -> None:
        """Raises Misconfigured. `key`: whose settings these are."""
        mechanism = self.mechanism
        if mechanism is SaslMechanism.NONE:
            return
        if len(self.password) == 0 and not self.password_file:
            raise Misconfigured(f"{key}.password_file is needed for {mechanism.value}")
        if not self.username and mechanism is not SaslMechanism.OAUTHBEARER:
            raise Misconfigured(f"{key}.username is needed for {mechanism.value}")
        if not is_tls and mechanism in {SaslMechanism.PLAIN, SaslMechanism.OAUTHBEARER}:
            raise Misconfigured(
                f"{key}.mechanism {mechanism.value} would send the secret in the clear over kafka://",
                hint="kafkas://HOST:PORT, or SCRAM-SHA-512",
            )
