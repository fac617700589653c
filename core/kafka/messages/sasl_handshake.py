"""SaslHandshake (17): which mechanism the client will use. Versions: 1 means SaslAuthenticate carries the tokens."""

from __future__ import annotations

from collections.abc import Sequence

from ..primitives import int16, string
from ..schema import Request, Response


class SaslHandshakeResponse(Response, frozen=True, kw_only=True):
    KEY = 17
    VERSIONS = (1, 1)
    FLEXIBLE = 2  # no version is

    error_code: int16 = 0
    mechanisms: Sequence[string] = ()


class SaslHandshakeRequest(Request[SaslHandshakeResponse], frozen=True, kw_only=True):
    KEY = 17
    VERSIONS = (1, 1)
    FLEXIBLE = 2
    RESPONSE = SaslHandshakeResponse

    mechanism: string = ""
