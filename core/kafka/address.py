"""A cluster as a user writes it: `kafka://HOST:PORT[,HOST:PORT…]`, or `kafkas://…` over TLS."""

from __future__ import annotations

from ..errors import Refused

SCHEME = "kafka://"
TLS_SCHEME = "kafkas://"


def is_tls(url: str) -> bool:
    return url.startswith(TLS_SCHEME)


def bootstrap_of(url: str) -> list[str]:
    """The `host:port` list of a cluster's address. Raises Refused with an example."""
    text = url.removeprefix(SCHEME).removeprefix(TLS_SCHEME)
    brokers = [broker.strip() for broker in text.split(",") if broker.strip()]
    if not brokers or "/" in text or not all(":" in broker for broker in brokers):
        raise Refused(f"{url!r} is not a cluster's address", hint="kafka://HOST:PORT[,HOST:PORT]")
    return brokers
