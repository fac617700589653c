"""Which QoS 1 publishes of a session may come again although they are stored: those whose PUBACK may not have arrived.

A client that did not see its PUBACK sends the PUBLISH again on its next connection, with DUP and under the same packet
identifier; that one must not be stored twice. But once a PUBACK has arrived the identifier is free ([MQTT-4.3.2-5]),
and a client that always takes the lowest free one sends every reading under identifier 1, often with the same payload
("21.5"). If such a *new* message is lost on the way it, too, comes again with DUP, and it must not be swallowed. The two
look alike; what separates them is whether our PUBACK arrived. So only what is *in doubt* is compared:

  in doubt      stored, and its PUBACK not known to have arrived
  evidence      the peer's TCP acknowledged the bytes of the PUBACK (`Transport.unacknowledged`); or the identifier was used
                again without DUP; or, on the next connection, a publish without DUP was acknowledged and that arrived: the
                client resends first what it misses, and did not resend this
  a repetition  DUP, on a resumed session, an identifier in doubt, and the same content (topic, payload, properties, RETAIN)

TCP's word is not the client's: a proxy may have swallowed the PUBACK, or the client went without reading it. So it is asked
only where it is needed against swallowing, that is of a session that *stutters*: whose last publish under a low identifier
had the content of the one before it. Of all others the last `LATEST` publishes stay in doubt whatever TCP says, and the
last `entries_max`, which is all that a client may have unacknowledged, for `UNREAD_S`: a burst whose client ended before
it read any of its PUBACKs. Keeping so many for longer would only make each checkpoint larger.

What cannot be told apart, and what is then done: docs/adr/0006-durable-sessions.md.

An entry is ten bytes: packet identifier (big-endian) and eight of BLAKE2b over the content. Hashing waits for the seal of
the commit, so that a publish costs one list entry until then, and nothing in sessions that are not kept.

A note says what its commit stored, so it must not name what the commit does not hold: a record of a memory stream that was
acknowledged early is *fleeting*, in doubt in this process alone. Noted, it would outlive the record, and a client that
repeats after a power cut what the power took would be told that it is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from hashlib import blake2b

import msgspec

from ..mqtt.connection import Run
from ..mqtt.packets import Publish
from ..mqtt.properties import NO_PROPERTIES

Fresh = tuple[bytes, bytes, int, bool]
"""Just appended: topic, content, packet identifier, first time."""

ENTRY_BYTES = 10
# More than most clients have in flight; ten bytes each.
LATEST = 200
# Whoever has not read for so long what its kernel has is not going to; seconds.
UNREAD_S = 20.0
# Clients that take the lowest free identifier stay below; those that count upwards never meet an old one in time.
LOW_IDENTIFIER_MAX = 32
_HASH_BYTES = 8
_NONE: AbstractSet[tuple[int, int]] = frozenset()
_NO_PUBACKS: AbstractSet[bytes] = frozenset()


class _Stored:
    """What one commit stored. `position`: of the connection's bytes, after its last PUBACK; None: not written yet.
    `sealed_at`: seconds, monotonic. `noted`: of `packed` what outlives the process."""

    __slots__ = ("commit", "first_time", "noted", "packed", "position", "sealed_at")

    def __init__(self, commit: int, packed: bytes = b"", sealed_at: float = float("-inf")) -> None:
        self.commit = commit
        self.sealed_at = sealed_at
        self.packed = self.noted = packed
        self.position: int | None = None
        self.first_time = False  # holds a publish without DUP


class Doubts:
    """Of one kept session. Bounded: the oldest commit is no longer doubted where those after it stored `entries_max`.

    A client has at most its receive maximum of publishes unacknowledged, and those are its latest, because
    acknowledgements come in order: the bound costs a client nothing that keeps to it.
    """

    __slots__ = (
        "_answered",
        "_carried",
        "_carried_through",
        "_count",
        "_entries_max",
        "_fleeting",
        "_last",
        "_promised",
        "_proven",
        "_stored",
        "_stutters",
        "fresh",
        "settled",
    )

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._stored: list[_Stored] = []
        self._count = 0
        self._last: dict[int, bytes] = {}  # low packet identifier -> hash of its last content
        self._stutters = False
        # appended since the last seal; while nothing is carried the hot path (plain.py) adds to it
        self.fresh: list[Fresh] = []
        self._fleeting: set[int] = set()  # indexes of `fresh`
        # from earlier connections: packet identifier -> (hash, commit)
        self._carried: dict[int, tuple[bytes, int]] = {}
        self._carried_through = 0
        self._answered: list[tuple[int, int]] = []  # position, packet identifier
        # the same of repetitions whose PUBACK waits for a commit: which, packet identifier
        self._promised: list[tuple[int, int]] = []
        # (commit, packet identifier) of repetitions whose PUBACK arrived; few sessions ever have one
        self._proven: AbstractSet[tuple[int, int]] = _NONE
        self.settled = 0  # the highest commit of which nothing is in doubt any more

    @property
    def carries(self) -> bool:
        """Something of an earlier connection is in doubt."""
        return bool(self._carried)

    @property
    def open(self) -> bool:
        """Something of this connection is in doubt, and TCP's word would count: worth a look at what it says."""
        if not self._stutters and self._count <= LATEST:
            return False
        fresh = bool(self._stored) and self._stored[-1].commit > self._carried_through
        return fresh or bool(self._answered) or bool(self._promised)

    # --- while it publishes ------------------------------------------------------------------------------------

    def took(self, run: Run, fleeting: AbstractSet[bytes] = _NO_PUBACKS) -> None:
        """Plain publishes that were just appended; QoS 0 among them is passed over. `fleeting`: PUBACKs of those whose
        records are in memory alone."""
        fresh = self.fresh
        for topic, payload, puback in run:
            if puback:
                packet_id = puback[2] << 8 | puback[3]
                if puback in fleeting:
                    self._fleeting.add(len(fresh))
                fresh.append((topic, payload, packet_id, True))
        if self._carried:
            for entry in fresh:
                self._carried.pop(entry[2], None)

    def took_publish(self, packet: Publish, *, fleeting: bool = False) -> None:
        """Any QoS 1 publish that was just appended."""
        if fleeting:
            self._fleeting.add(len(self.fresh))
        self.fresh.append(
            (packet.topic.encode(), _content(packet), packet.packet_id, not packet.dup)
        )
        if not packet.dup:
            self._carried.pop(packet.packet_id, None)

    def repeated(self, packet: Publish) -> int | None:
        """The commit that stored it already; None: it is new, or must be taken for new."""
        found = self._carried.get(packet.packet_id)
        if found is None or found[0] != _hash(packet.topic.encode(), _content(packet)):
            return None
        return found[1]

    def answered(self, packet_id: int, position: int) -> None:
        """The PUBACK of a repetition was written, and ends there."""
        self._answered.append((position, packet_id))

    def promised(self, packet_id: int, commit: int) -> None:
        """The PUBACK of a repetition is written when `commit` is durable."""
        self._promised.append((commit, packet_id))

    # --- commits -----------------------------------------------------------------------------------------------

    def seal(self, commit: int, now: float) -> bytes:
        """What `commit` stored, packed; empty where it stored nothing that is to be noted. `now`: seconds, monotonic."""
        fresh = self.fresh
        stored = self._stored[-1] if self._stored else None
        if stored is None or stored.commit != commit:
            if not fresh:
                return b""
            stored = _Stored(commit, sealed_at=now)
            self._stored.append(stored)
        if fresh:
            self.fresh = []
            entries: list[bytes] = []
            for topic, content, packet_id, first_time in fresh:
                digest = _hash(topic, content)
                entries.append(packet_id.to_bytes(2, "big") + digest)
                if packet_id <= LOW_IDENTIFIER_MAX:
                    self._look_for_stutter(packet_id, digest)
                if first_time:
                    stored.first_time = True
            self._add(stored, entries)
            self._count += len(fresh)
            if self._count > self._entries_max:
                self._bound()
        return stored.noted

    def _add(self, stored: _Stored, entries: list[bytes]) -> None:
        is_all_noted = stored.noted is stored.packed and not self._fleeting
        stored.packed += b"".join(entries)
        if is_all_noted:
            stored.noted = stored.packed
            return
        fleeting, self._fleeting = self._fleeting, set()
        stored.noted += b"".join(
            entry for index, entry in enumerate(entries) if index not in fleeting
        )

    def holds(self, commit: int) -> bool:
        """`commit`, just sealed, stored something that is in doubt."""
        return bool(self._stored) and self._stored[-1].commit == commit

    def _look_for_stutter(self, packet_id: int, digest: bytes) -> None:
        self._stutters = self._last.get(packet_id) == digest
        self._last[packet_id] = digest

    def _bound(self) -> None:
        while True:
            oldest = self._stored[0]
            left = self._count - len(oldest.packed) // ENTRY_BYTES
            if left < self._entries_max:  # of what it stored some may still be unacknowledged
                return
            del self._stored[0]
            self._count = left
            self.settled = oldest.commit

    def written(self, commit: int, position: int) -> None:
        """The PUBACKs of `commit` and before are among the first `position` bytes of this connection."""
        while self._promised and self._promised[0][0] <= commit:
            self._answered.append((position, self._promised.pop(0)[1]))
        for stored in reversed(self._stored):
            if stored.commit <= self._carried_through or stored.position is not None:
                break
            if stored.commit <= commit:
                stored.position = position

    def arrived(self, position: int, now: float) -> bool:
        """The peer's TCP has the first `position` bytes; whether that settled anything."""
        settled = False
        if self._stutters and (self._answered or self._carried):
            settled = self._forget_answered(position)
        reached = 0
        left = self._count  # in doubt behind the present one
        moved_on = not self._carried
        for index, stored in enumerate(self._stored):
            left -= len(stored.packed) // ENTRY_BYTES
            if stored.commit <= self._carried_through:
                continue
            if stored.position is None or stored.position > position:
                break
            if not self._stutters and (left < LATEST or now - stored.sealed_at < UNREAD_S):
                break
            moved_on = moved_on or stored.first_time
            reached = index + 1
        if not reached or not moved_on:
            return settled
        self.settled = self._stored[reached - 1].commit
        self._count -= sum(len(each.packed) for each in self._stored[:reached]) // ENTRY_BYTES
        del self._stored[:reached]
        self._carried.clear()
        self._proven = _NONE
        return True

    def _forget_answered(self, position: int) -> bool:
        """Repetitions whose PUBACK arrived; whether with them all that was carried is settled."""
        carried = bool(self._carried)
        while self._answered and self._answered[0][0] <= position:
            packet_id = self._answered.pop(0)[1]
            found = self._carried.pop(packet_id, None)
            if found is not None:
                self._proven = self._proven | {(found[1], packet_id)}
        if not carried or self._carried:
            return False
        while self._stored and self._stored[0].commit <= self._carried_through:
            self._count -= len(self._stored.pop(0).packed) // ENTRY_BYTES
        self.settled = self._carried_through
        self._proven = _NONE
        return True

    # --- between connections -----------------------------------------------------------------------------------

    def carry(self, commit: int, now: float) -> None:
        """A connection of this session ended, or begins: what is in doubt now is compared from now on.

        `commit`: the open one, to which what was appended last belongs.
        """
        self.seal(commit, now)
        self._answered.clear()
        self._promised.clear()
        self._carried = {
            packet_id: (digest, stored.commit)
            for stored in self._stored
            for packet_id, digest in _entries(stored.packed)
        }
        # only now: what is proven stands for all that was stored under its identifier before
        for proven, packet_id in self._proven:
            if packet_id in self._carried and self._carried[packet_id][1] == proven:
                del self._carried[packet_id]
        self._carried_through = self._stored[-1].commit if self._stored else 0

    def state(self) -> list[tuple[int, bytes]]:
        """For the checkpoint; what is not sealed yet is noted with its commit."""
        return [(each.commit, each.noted) for each in self._stored if each.noted]

    def restore(self, state: list[tuple[int, bytes]]) -> None:
        self._stored = [_Stored(commit, packed) for commit, packed in state]
        self._count = sum(len(packed) for _, packed in state) // ENTRY_BYTES
        for _, packed in state:
            for packet_id, digest in _entries(packed):
                if packet_id <= LOW_IDENTIFIER_MAX:
                    self._look_for_stutter(packet_id, digest)
        self.carry(0, 0.0)


def _entries(packed: bytes) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(packed) - ENTRY_BYTES + 1, ENTRY_BYTES):
        yield (
            int.from_bytes(packed[start : start + 2], "big"),
            packed[start + 2 : start + ENTRY_BYTES],
        )


def _content(packet: Publish) -> bytes:
    """The payload, and what else there may be: nothing for a plain publish, however it came in."""
    properties = msgspec.structs.replace(packet.properties, topic_alias=None)
    if properties == NO_PROPERTIES and not packet.retain:
        return packet.payload
    return packet.payload + b"\0" + msgspec.msgpack.encode((packet.retain, properties))


def _hash(topic: bytes, content: bytes) -> bytes:
    # no topic contains the zero; one call with a copy is cheaper than three without
    return blake2b(b"%b\0%b" % (topic, content), digest_size=_HASH_BYTES).digest()
