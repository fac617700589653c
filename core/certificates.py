"""What a person asks of an X.509 certificate: whose it is, who says so, and from when until when.

A reader of just enough DER (X.690) and RFC 5280 for that; whether it is to be believed is OpenSSL's business. Needed because
Python's ssl shows neither our own certificate's dates nor, before 3.13, those of a peer's chain.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import re
from collections.abc import Iterator
from typing import NamedTuple

from .errors import Refused

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _SET, _OID, _UTC_TIME, _GENERALIZED_TIME, _CONTEXT_0 = 0x30, 0x31, 0x06, 0x17, 0x18, 0xA0
_COMMON_NAME = bytes((0x55, 0x04, 0x03))  # 2.5.4.3
_TIME = re.compile(r"(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z")


class Certificate(NamedTuple):
    """Times in milliseconds since the epoch; names are the common names, empty where there is none."""

    subject: str
    issuer: str
    not_before_ms: int
    not_after_ms: int

    def __str__(self) -> str:
        return f"{self.subject!r} of {self.issuer!r}, valid {day_of(self.not_before_ms)} to {day_of(self.not_after_ms)}"


def from_pem(data: bytes) -> list[Certificate]:
    """All certificates of a file, in its order. Raises Refused where one cannot be read, or there is none."""
    try:
        found = [from_der(base64.b64decode(b"".join(body.split()))) for body in _PEM.findall(data)]
    except binascii.Error as error:
        raise Refused(f"not a PEM certificate: {error}") from None
    if not found:
        raise Refused("there is no PEM certificate in it")
    return found


def from_der(data: bytes) -> Certificate:
    """Raises Refused."""
    try:
        fields = list(_children(_one(_one(data, _SEQUENCE), _SEQUENCE)))
        if fields[0][0] == _CONTEXT_0:  # the version
            del fields[0]
        _, _, (_, issuer), (kind, validity), (_, subject) = fields[:5]
        if kind != _SEQUENCE:
            raise Refused("not an X.509 certificate")
        before, after = (_time(kind, text) for kind, text in _children(validity))
    except (IndexError, ValueError) as error:
        raise Refused(f"not an X.509 certificate: {error}") from None
    return Certificate(_common_name(subject), _common_name(issuer), before, after)


def day_of(wall_ms: int) -> str:
    """As 2031-07-04."""
    days = (
        wall_ms // 86_400_000 + 719_468
    )  # civil from days (H. Hinnant), the era beginning in March of year 0
    era, of_era = divmod(days, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return f"{era * 400 + year + (month <= 2):04d}-{month:02d}-{day:02d}"


def _children(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each element. Raises IndexError, ValueError."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size >= 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4:
                raise ValueError("a length that DER does not have")
            size, at = int.from_bytes(data[at : at + count]), at + count
        if at + size > len(data):
            raise ValueError("cut short")
        yield tag, data[at : at + size]
        at += size


def _one(data: bytes, tag: int) -> bytes:
    found, content = next(_children(data), (0, b""))
    if found != tag:
        raise ValueError(f"an element {found:#x} where {tag:#x} belongs")
    return content


def _common_name(name: bytes) -> str:
    for _, part in _children(name):
        for _, pair in _children(part):
            values = list(_children(pair))
            if len(values) == 2 and values[0] == (_OID, _COMMON_NAME):
                return values[1][1].decode("utf-8", "replace")
    return ""


def _time(kind: int, text: bytes) -> int:
    """RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime after, both in Z with seconds."""
    match = _TIME.fullmatch(text.decode("ascii", "replace"))
    if match is None or kind not in {_UTC_TIME, _GENERALIZED_TIME}:
        raise ValueError(f"a time {text!r}")
    year, *rest = (int(number) for number in match.groups())
    if kind == _UTC_TIME:
        year += 2000 if year < 50 else 1900
    return calendar.timegm((year, *rest)) * 1000
