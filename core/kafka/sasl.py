"""SASL, the client's side: PLAIN (RFC 4616), SCRAM-SHA-256 and -512 (RFC 5802, 7677), OAUTHBEARER (RFC 7628).

Sans-I/O: a mechanism makes its first token, then one for each challenge; `done` says that the server has proven itself too
where the mechanism lets it. Kafka applies no SASLprep, so names and passwords are UTF-8 as they stand.

A SCRAM server chooses how often a password is hashed. Fewer than RFC 7677's 4,096 times is refused (cheap to
guess), and so is more than would hold a small board for seconds. The result is kept for the salt: only the first connection
pays. It lets whoever reads our memory log in, as the password itself would.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Protocol

from ..errors import Refused

ITERATIONS_MIN = 4_096
ITERATIONS_MAX = 200_000
_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
MECHANISMS = ("PLAIN", *_HASHES, "OAUTHBEARER")


class Mechanism(Protocol):
    name: str

    @property
    def is_proven(self) -> bool:
        """The server has shown that it may be trusted, as far as the mechanism can."""

    def first(self) -> bytes:
        """The first token."""

    def next(self, challenge: bytes) -> bytes | None:
        """The answer to the server's token; None where there is nothing more to say. Raises Refused."""


class Plain:
    is_proven = True  # TLS has
    name = "PLAIN"

    def __init__(self, username: str, password: str) -> None:
        if "\0" in username + password:
            raise Refused("SASL PLAIN has no way to send a NUL character")
        self._token = f"\0{username}\0{password}".encode()

    def first(self) -> bytes:
        return self._token

    def next(self, challenge: bytes) -> None:
        return None


class OAuthBearer:
    is_proven = True  # TLS has
    name = "OAUTHBEARER"

    def __init__(self, token: str) -> None:
        self._token = token

    def first(self) -> bytes:
        return b"n,,\x01auth=Bearer " + self._token.encode() + b"\x01\x01"

    def next(self, challenge: bytes) -> bytes | None:
        return (
            b"\x01" if challenge else None
        )  # a challenge is the reason of a failure, and wants this answer


SaltedPasswords = dict[tuple[str, bytes, int], bytes]


class Scram:
    """`nonce`: 18 random bytes or more. `known`: salted passwords of earlier connections, by (hash, salt, iterations)."""

    def __init__(
        self, name: str, username: str, password: str, *, nonce: bytes, known: SaltedPasswords
    ) -> None:
        self.name = name
        self._hash = _HASHES[name]
        self._password = password.encode()
        self._known = known
        self._nonce = base64.b64encode(nonce).decode().rstrip("=")
        escaped = username.replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={escaped},r={self._nonce}"
        self._signature: bytes | None = None
        self._done = False

    def first(self) -> bytes:
        return f"n,,{self._first_bare}".encode()

    def next(self, challenge: bytes) -> bytes | None:
        if self._signature is None:
            return self._prove(challenge)
        if self._done:
            return None
        self._verify(challenge)
        self._done = True
        return None

    def _prove(self, challenge: bytes) -> bytes:
        fields = _fields(challenge)
        nonce, iterations = fields.get("r", ""), fields.get("i", "")
        salt = _decoded(fields.get("s", ""))
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not salt:
            raise Refused("the broker's SCRAM challenge does not continue ours")
        if (
            not iterations.isdecimal()
            or len(iterations) > 7
            or not (ITERATIONS_MIN <= int(iterations) <= ITERATIONS_MAX)
        ):
            raise Refused(
                f"the broker wants {iterations[:10]!r} SCRAM iterations, not {ITERATIONS_MIN} to {ITERATIONS_MAX}"
            )
        salted = self._salted(salt, int(iterations))
        final = f"c=biws,r={nonce}"
        message = f"{self._first_bare},{challenge.decode()},{final}".encode()
        client_key = self._mac(salted, b"Client Key")
        stored_key = hashlib.new(self._hash, client_key).digest()
        signature = self._mac(stored_key, message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._signature = self._mac(self._mac(salted, b"Server Key"), message)
        return f"{final},p={base64.b64encode(proof).decode()}".encode()

    def _verify(self, challenge: bytes) -> None:
        fields = _fields(challenge)
        if "e" in fields:
            raise Refused(f"the broker refuses: {fields['e'][:100]}")
        assert self._signature is not None, "proven before"
        if not hmac.compare_digest(_decoded(fields.get("v", "")), self._signature):
            raise Refused("whoever answers as the broker does not know the password")

    @property
    def is_proven(self) -> bool:
        """The server has shown that it knows the password."""
        return self._done

    def _salted(self, salt: bytes, iterations: int) -> bytes:
        key = (self._hash, salt, iterations)
        if key not in self._known:
            self._known.clear()  # a new salt: the old one is of no use any more
            self._known[key] = hashlib.pbkdf2_hmac(self._hash, self._password, salt, iterations)
        return self._known[key]

    def _mac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._hash).digest()


def _fields(token: bytes) -> dict[str, str]:
    try:
        parts = [part.partition("=") for part in token.decode().split(",")]
    except UnicodeDecodeError:
        raise Refused("the broker's SCRAM token is not UTF-8") from None
    return {name: value for name, _, value in parts}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Refused("the broker's SCRAM token is not base64") from None
