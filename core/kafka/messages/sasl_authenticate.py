"""SaslAuthenticate (36): one token of the mechanism each way. Versions: 1 session lifetime; 2 flexible."""

from __future__ import annotations

from typing import Annotated

from ..primitives import blob, int16, int64, since, string
from ..schema import Request, Response


class SaslAuthenticateResponse(Response, frozen=True, kw_only=True):
    KEY = 36
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    error_code: int16 = 0
    error_message: string | None = None
    auth_bytes: blob = b""
    session_lifetime_ms: Annotated[int64, since(1)] = 0


class SaslAuthenticateRequest(Request[SaslAuthenticateResponse], frozen=True, kw_only=True):
    KEY = 36
    VERSIONS = (0, 2)
    FLEXIBLE = 2
    RESPONSE = SaslAuthenticateResponse

    auth_bytes: blob = b""
