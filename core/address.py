"""An address to listen on, as a user writes it: HOST:PORT or [IPv6]:PORT."""

from __future__ import annotations

import re

from .errors import Misconfigured

_PORT = re.compile(r"\d{1,5}")


def split_address(text: str, *, key: str) -> tuple[str, int]:
    """Host and port. Raises Misconfigured naming the setting."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not _PORT.fullmatch(port) or int(port) > 0xFFFF:
        raise Misconfigured(f"{key} must be HOST:PORT, not {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def optional_address(text: str, *, key: str) -> tuple[str, int] | None:
    """The same, or None for "none" and for nothing at all. Raises Misconfigured."""
    return None if text in {"", "none"} else split_address(text, key=key)
