"""Broken twins of the daemon: each breaks one promise, and a judge that does not condemn it judges nothing.

    python -m tests.powercut.defects NAME edge …       the daemon, with that defect

Each is as small as a slip of the pen would be, and only promises beyond the records' own: for those a device that lies
about flushes is the defect (`--lying`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from headwater.cli import main
from headwater.core.journal.files.early import EarlyWriter
from headwater.core.journal.files.reservations import Reserved
from headwater.core.record import TopicPartition
from headwater.edge.broker.book import DURABLE, Book
from headwater.edge.broker.doubts import Doubts
from headwater.edge.broker.groups import Group
from headwater.edge.broker.intake import Intake
from headwater.edge.broker.moments import Moments
from headwater.edge.broker.outbound import Outbound
from headwater.edge.broker.outboundstate import OutboundState
from headwater.edge.broker.sessions import Session
from headwater.edge.mqtt.connection import ServerConnection
from headwater.edge.mqtt.packets import Publish, Will
from headwater.edge.sources.inlet import Inlet


class Defect(NamedTuple):
    """`caught`: how an accusation begins that condemns it. `scenario`: in whose recording it shows."""

    says: str
    caught: tuple[str, ...]
    plant: Callable[[], None]
    scenario: str = "sessions"


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


def _forget_wills() -> None:
    opened = Book.opened

    def without(book: Book, session: Session, *, fresh: bool, will: Will | None) -> int:
        del will
        return opened(book, session, fresh=fresh, will=None)

    Book.opened = without  # type: ignore[assignment]


def _say_wills_again() -> None:
    left = Book.left

    def unless_said(book: Book, session: Session) -> int:
        return DURABLE if session.will is None else left(book, session)

    Book.left = unless_said  # type: ignore[assignment]


def _say_withdrawn_wills() -> None:
    opened = Book.opened

    def only_fresh(book: Book, session: Session, *, fresh: bool, will: Will | None) -> int:
        return opened(book, session, fresh=fresh, will=will) if fresh else DURABLE

    Book.opened = only_fresh  # type: ignore[assignment]


def _forget_shares() -> None:
    state = Outbound.state

    def without(outbound: Outbound) -> OutboundState:
        return msgspec.structs.replace(state(outbound), shares=[])

    Outbound.state = without  # type: ignore[assignment]


def _hand_out_again() -> None:
    def reconcile(group: Group) -> None:
        group._restored = False
        for tp, offset in group._out:
            group.backlog.put_back(tp, offset)

    Group._reconcile = reconcile  # type: ignore[assignment]


def _begin_lives_again() -> None:
    Moments.age_ms = lambda moments, timestamp, stamp: 0  # type: ignore[assignment]


def _mix_aliases() -> None:
    resolve = ServerConnection._resolve

    def first(connection: ServerConnection, packet: Publish, alias: int) -> Publish:
        made: Publish = resolve(connection, packet, alias if packet.topic else 1)
        return made

    ServerConnection._resolve = first  # type: ignore[method-assign,assignment]


def _forget_upstream() -> None:
    connect = Inlet.connect

    def anew(inlet: Inlet, *, resumed: bool) -> None:
        del resumed
        connect(inlet, resumed=False)

    Inlet.connect = anew  # type: ignore[assignment]


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
    "wills": Defect("a will is not noted", ("unsaid",), _forget_wills, "company"),
    "wills-again": Defect(
        "that a will was said is not noted", ("twice",), _say_wills_again, "company"
    ),
    "wills-withdrawn": Defect(
        "that a client came back is not noted",
        ("withdrawn", "unsaid"),
        _say_withdrawn_wills,
        "company",
    ),
    "shares": Defect(
        "what waits for a shared subscription is not noted",
        ("unshared", "shared twice"),
        _forget_shares,
        "company",
    ),
    "shares-again": Defect(
        "what was handed out to a member is handed out again after a start",
        ("shared twice", "delivered twice"),
        _hand_out_again,
        "company",
    ),
    "expiry": Defect(
        "a message's life begins again with a start",
        ("expired", "expiry"),
        _begin_lives_again,
        "company",
    ),
    "aliases": Defect(
        "an alias stands for the first topic",
        ("misplaced", "misdirected"),
        _mix_aliases,
        "company",
    ),
    "bridge": Defect(
        "an upstream's session is not resumed", ("twice",), _forget_upstream, "company"
    ),
}


def command(defect: str) -> Callable[..., list[str]]:
    return lambda *arguments: [sys.executable, "-m", "tests.powercut.defects", defect, *arguments]


if __name__ == "__main__":
    name = sys.argv.pop(1)
    DEFECTS[name].plant()
    raise SystemExit(main())
