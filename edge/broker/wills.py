"""Wills: what a client leaves to be said when it goes without a word (section 3.1.2.5).

A will is a message like any other: a record first, delivered and retained when its commit is durable.
"""

from __future__ import annotations

import msgspec

from ...core.clock import Clock
from ..mqtt.properties import NO_PROPERTIES
from .book import Book
from .gate import Gate
from .messages import Message
from .routing import Router
from .sessions import Session
from .stored import headers_of, marked_with_client
from .tally import Tally


class Wills:
    __slots__ = ("_book", "_clock", "_gate", "_router", "_tally")

    def __init__(self, gate: Gate, router: Router, book: Book, clock: Clock, tally: Tally) -> None:
        self._book = book
        self._gate = gate
        self._router = router
        self._clock = clock
        self._tally = tally

    def publish(self, session: Session, now: float, generation: int) -> None:
        """Append and forget it: a will is published once. Raises what the journal raises."""
        will = session.will
        assert will is not None
        session.will = None
        # judged again: rights may have changed while it waited
        route = self._router.routes(session.client_id, session.rights).find(will.topic.encode())
        headers = headers_of(route.headers, will)
        headers = marked_with_client(headers, will.topic, session.client_id, session.no_local)
        offset = route.append(self._clock.wall_ms(), route.key, will.payload, headers)
        properties = msgspec.structs.replace(will.properties, will_delay_interval=None)
        if properties == NO_PROPERTIES:
            properties = NO_PROPERTIES
        message = Message(
            will.topic,
            will.payload,
            qos=will.qos,
            retain=will.retain,
            properties=properties,
            publisher=session.client_id,
            now=now,
            generation=generation,
            tp=route.tp,
            offset=offset,
        )
        if will.retain:
            self._book.retained(route.tp, offset)
        self._gate.wait_message(message)
        self._tally.wills += 1
