"""Broken twins of the daemon: each breaks one promise, and a judge that does not condemn it judges nothing.

    python -m tests.powercut.defects NAME edge …       the daemon, with that defect

Each is as small as a slip of the pen would be, and only promises beyond the records' own: for those a device that lies
about flushes is the defect (`--lying`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from headwater.cli import main
from headwater.core.journal.files.early import EarlyWriter
from headwater.core.journal.files.reservations import Reserved
from headwater.core.record import TopicPartition
from headwater.edge.broker.book import DURABLE, Book
from headwater.edge.broker.doubts import Doubts
from headwater.edge.broker.intake import Intake
from headwater.edge.broker.sessions import Session
from headwater.edge.mqtt.packets import Publish


class Defect(NamedTuple):
    """`caught`: how an accusation begins that condemns it."""

    says: str
    caught: tuple[str, ...]
    plant: Callable[[], None]


def _forget_sessions() -> None:
    Book._note = lambda book, session, kind, note: DURABLE  # type: ignore[assignment]


def _forget_subscriptions() -> None:
    Book.subscribed = lambda book, session, made: DURABLE  # type: ignore[assignment]


def _forget_unsubscriptions() -> None:
    Book.unsubscribed = lambda book, session, filters: DURABLE  # type: ignore[assignment]


def _forget_retained() -> None:
    Book.retained = lambda book, tp, offset: None  # type: ignore[assignment]


def _store_repeats() -> None:
    def repeated(doubts: Doubts, packet: Publish) -> int | None:
        del doubts, packet
        return None

    Doubts.repeated = repeated  # type: ignore[assignment]


def _forget_identifiers() -> None:
    Book.received2 = lambda book, session, packet_id: DURABLE  # type: ignore[assignment]


def _forget_deliveries() -> None:
    def outbound(book: Book, session: Session) -> int:
        del book, session
        return DURABLE

    Book.outbound = outbound  # type: ignore[assignment]


def _wrong_receipts() -> None:
    told = Intake._with_receipt

    def late(intake: Intake, plain: bytes, tp: TopicPartition, offset: int) -> bytes:
        return told(intake, plain, tp, offset + 1)

    Intake._with_receipt = late  # type: ignore[assignment]


def _reserve_nothing() -> None:
    def unfounded(writer: EarlyWriter, records: int) -> Reserved | None:
        del records
        writer.reserved = 1 << 62
        writer._held = False
        return None

    EarlyWriter.reservation = unfounded  # type: ignore[assignment]


DEFECTS = {
    "sessions": Defect("changes of sessions are not noted", ("forgotten",), _forget_sessions),
    "subscriptions": Defect("SUBACK without a note", ("undelivered",), _forget_subscriptions),
    "unsubscriptions": Defect("UNSUBACK without a note", ("unasked",), _forget_unsubscriptions),
    "retained": Defect("retained messages are not noted", ("retained",), _forget_retained),
    "repeats": Defect("a repeated publish is stored again", ("twice",), _store_repeats),
    "identifiers": Defect("QoS 2 identifiers are not noted", ("twice",), _forget_identifiers),
    "deliveries": Defect(
        "what is under way to subscribers is not noted",
        ("delivered twice", "identifier", "undelivered"),
        _forget_deliveries,
    ),
    "receipts": Defect("a receipt names the next offset", ("receipt",), _wrong_receipts),
    "reservations": Defect(
        "early offsets are not reserved", ("lost", "offset reused", "hole"), _reserve_nothing
    ),
}


def command(defect: str) -> Callable[..., list[str]]:
    return lambda *arguments: [sys.executable, "-m", "tests.powercut.defects", defect, *arguments]


if __name__ == "__main__":
    name = sys.argv.pop(1)
    DEFECTS[name].plant()
    raise SystemExit(main())
