"""An address to listen on, as a user writes it: HOST:PORT or [IPv6]:PORT."""

from __future__ import annotations

import re

from .errors import Misconfigured

_PORT = re.compile(r"\d{1,5}")
# Where to ask what listens on every address of its machine.
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def split_address(text: str, *, key: str) -> tuple[str, int]:
    """Host and port. Raises Misconfigured naming the setting."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not _PORT.fullmatch(port) or int(port) > 0xFFFF:
        raise Misconfigured(f"{key} must be HOST:PORT, not {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def optional_address(text: str, *, key: str) -> tuple[str, int] | None:
    """The same, or None for "none" and for nothing at all. Raises Misconfigured."""
    return None if text in {"", "none"} else split_address(text, key=key)


def url_of(address: tuple[str, int]) -> str:
    """Where a program of the same machine asks what listens there over HTTP."""
    host, port = address
    host = _ANY_HOST.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
