"""SASL mechanisms against the examples of their RFCs, and against servers that lie."""

from __future__ import annotations

import base64

import pytest

from headwater.core.errors import Refused
from headwater.core.kafka.sasl import OAuthBearer, Plain, Scram

# RFC 7677, section 3
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def _scram(name: str = "SCRAM-SHA-256", username: str = "user") -> Scram:
    return Scram(name, username, "pencil", nonce=base64.b64decode(NONCE), known={})


def test_scram_sha_256_as_in_rfc_7677() -> None:
    scram = _scram()
    assert scram.first() == b"n,,n=user,r=" + NONCE.encode()
    assert scram.next(SERVER_FIRST) == CLIENT_FINAL
    assert not scram.is_proven
    assert scram.next(SERVER_FINAL) is None
    assert scram.is_proven


def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    scram = _scram()
    scram.next(SERVER_FIRST)
    with pytest.raises(Refused, match="does not know"):
        scram.next(b"v=" + base64.b64encode(bytes(32)))
    assert not scram.is_proven


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"\xff",
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER_FIRST.replace(b"i=4096", b"i=1"),
        SERVER_FIRST.replace(b"i=4096", b"i=100000000"),
        SERVER_FIRST.replace(b"i=4096", b"i=-1"),
        SERVER_FIRST.replace(b"s=W22", b"s=%%%"),
        b"r=" + NONCE.encode() + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    ],
)
def test_a_challenge_that_is_wrong_or_weak_is_refused(challenge: bytes) -> None:
    with pytest.raises(Refused):
        _scram().next(challenge)


def test_the_salted_password_is_kept_for_its_salt_alone() -> None:
    known: dict[tuple[str, bytes, int], bytes] = {}
    for salt in (b"W22ZaJ0SNY7soEsUEjb6gQ==", b"AAAA"):
        scram = Scram("SCRAM-SHA-256", "user", "pencil", nonce=base64.b64decode(NONCE), known=known)
        scram.next(SERVER_FIRST.replace(b"W22ZaJ0SNY7soEsUEjb6gQ==", salt))
        assert [key[1] for key in known] == [base64.b64decode(salt)]


def test_names_are_escaped() -> None:
    assert b"n=a=3Db=2Cc," in _scram(username="a=b,c").first()


def test_plain_and_bearer_tokens() -> None:
    assert Plain("tim", "tanstaaftanstaaf").first() == b"\0tim\0tanstaaftanstaaf"  # RFC 4616
    with pytest.raises(Refused):
        Plain("a\0b", "c")
    bearer = OAuthBearer("vF9dft4qmT")
    assert bearer.first() == b"n,,\x01auth=Bearer vF9dft4qmT\x01\x01"
    assert bearer.next(b"") is None
    assert bearer.next(b'{"status":"invalid_token"}') == b"\x01"
