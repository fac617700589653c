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

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from itertools import islice

import msgspec

from ..mqtt.connection import Run
from ..mqtt.packets import Publish
from ..mqtt.properties import NO_PROPERTIES
from .uncertain import ENTRY_BYTES, Uncertain

Fresh = tuple[bytes, bytes, int, bool]
"""Just appended: topic, content, packet identifier, first time."""

# More than most clients have in flight; ten bytes each.
LATEST = 200
# Of all sessions together, some 40 bytes each: 12 MiB.
ENTRIES_MAX = 300_000
# Of each where that is not enough: what most clients have in flight at the most.
CROWDED = 32
# Whoever has not read for so long what its kernel has is not going to; seconds.
UNREAD_S = 20.0
# Clients that take the lowest free identifier stay below; those that count upwards never meet an old one in time.
LOW_IDENTIFIER_MAX = 32
_HASH_BYTES = 8
_NONE: AbstractSet[tuple[int, int]] = frozenset()
_NO_ENTRIES: AbstractSet[bytes] = frozenset()
_NO_INDEXES: AbstractSet[int] = frozenset()
_NO_COMMITS: Mapping[int, AbstractSet[bytes]] = {}


class Allowance:
    """Of all sessions together. Beyond `ENTRIES_MAX` each keeps a few at its next commit, so that ten thousand busy ones do
    not cost what a thousand may: a client with more than those unacknowledged may then have a repetition stored."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries = 0

    def within(self, entries_max: int) -> int:
        """What a session may hold now."""
        return entries_max if self.entries <= ENTRIES_MAX else min(entries_max, CROWDED)


class Doubts:
    """Of one kept session. Bounded: the oldest commit is no longer doubted where those after it stored `entries_max`.

    A client has at most its receive maximum of publishes unacknowledged, and those are its latest, because
    acknowledgements come in order: the bound costs a client nothing that keeps to it.
    """

    __slots__ = (
        "_again",
        "_allowance",
        "_answered",
        "_carried",
        "_carried_through",
        "_entries_max",
        "_fleeting",
        "_fleeting_of",
        "_last",
        "_left",
        "_promised",
        "_proven",
        "_stored",
        "_stutters",
        "fresh",
        "settled",
    )

    def __init__(self, entries_max: int, allowance: Allowance | None = None) -> None:
        self._allowance = allowance or Allowance()
        self._entries_max = entries_max
        self._stored = Uncertain()
        self._last: dict[int, bytes] = {}  # low packet identifier -> hash of its last content
        self._stutters = False
        # appended since the last seal; while nothing is carried the hot path (plain.py) adds to it
        self.fresh: list[Fresh] = []
        self._fleeting: AbstractSet[int] = _NO_INDEXES  # of `fresh`
        self._fleeting_of: Mapping[int, AbstractSet[bytes]] = _NO_COMMITS
        # from earlier connections: all up to this commit, so many entries with so many identifiers, but these
        self._carried_through = 0
        self._carried = 0
        self._left = 0
        self._again: AbstractSet[int] = _NO_INDEXES
        self._answered: list[tuple[int, int]] = []  # position, packet identifier
        # the same of repetitions whose PUBACK waits for a commit: which, packet identifier
        self._promised: list[tuple[int, int]] = []
        # (commit, packet identifier) of those whose PUBACK arrived while older ones are in doubt; few sessions have any
        self._proven: AbstractSet[tuple[int, int]] = _NONE
        self.settled = 0  # the highest commit of which nothing is in doubt any more

    @property
    def carries(self) -> bool:
        """Something of an earlier connection is in doubt."""
        return self._left > 0

    @property
    def open(self) -> bool:
        """Something of this connection is in doubt, and TCP's word would count: worth a look at what it says."""
        if not self._stutters and self._stored.count <= LATEST:
            return False
        return self._stored.last_commit > self._carried_through or bool(
            self._answered or self._promised
        )

    # --- while it publishes ------------------------------------------------------------------------------------

    def took(self, run: Run, fleeting: AbstractSet[bytes] = _NO_ENTRIES) -> None:
        """Plain publishes that were just appended; QoS 0 among them is passed over. `fleeting`: PUBACKs of those whose
        records are in memory alone."""
        fresh = self.fresh
        for topic, payload, puback in run:
            if puback:
                packet_id = puback[2] << 8 | puback[3]
                if puback in fleeting:
                    self._fleeting = self._fleeting | {len(fresh)}
                fresh.append((topic, payload, packet_id, True))
        if self._left:
            for entry in fresh:
                self._used_again(entry[2])

    def took_publish(self, packet: Publish, *, fleeting: bool = False) -> None:
        """Any QoS 1 publish that was just appended."""
        if fleeting:
            self._fleeting = self._fleeting | {len(self.fresh)}
        self.fresh.append(
            (packet.topic.encode(), _content(packet), packet.packet_id, not packet.dup)
        )
        if not packet.dup and self._left:
            self._used_again(packet.packet_id)

    def repeated(self, packet: Publish) -> int | None:
        """The commit that stored it already; None: it is new, or must be taken for new."""
        found = self._in_doubt(packet.packet_id)
        if found is None or found[1] != _hash(packet.topic.encode(), _content(packet)):
            return None
        return found[0]

    def _in_doubt(self, packet_id: int) -> tuple[int, bytes] | None:
        """Of those carried: commit and hash."""
        if not self._left or packet_id in self._again:
            return None
        return self._newest(packet_id)

    def _newest(self, packet_id: int) -> tuple[int, bytes] | None:
        found = next(self._stored.newest_with(packet_id, self._carried), None)
        # what is proven stands for all that was stored under its identifier before
        return None if found is None or (found[0], packet_id) in self._proven else found

    def _used_again(self, packet_id: int) -> int | None:
        """What was carried under this identifier is in doubt no more; its commit, if there was any."""
        found = self._in_doubt(packet_id)
        if found is None:
            return None
        self._again = self._again | {packet_id}
        self._left -= 1
        return found[0]

    def answered(self, packet_id: int, position: int) -> None:
        """The PUBACK of a repetition was written, and ends there."""
        self._answered.append((position, packet_id))

    def promised(self, packet_id: int, commit: int) -> None:
        """The PUBACK of a repetition is written when `commit` is durable."""
        self._promised.append((commit, packet_id))

    # --- commits -----------------------------------------------------------------------------------------------

    def seal(self, commit: int, now: float) -> bytes:
        """What `commit` stored, packed; empty where it stored nothing that is to be noted. `now`: seconds, monotonic."""
        fresh, stored = self.fresh, self._stored
        if fresh:
            self.fresh = []
            packed, fleeting, first = bytearray(), set(), False
            for index, (topic, content, packet_id, first_time) in enumerate(fresh):
                digest = _hash(topic, content)
                entry = packet_id.to_bytes(2, "big") + digest
                packed += entry
                if index in self._fleeting:
                    fleeting.add(entry)
                if packet_id <= LOW_IDENTIFIER_MAX:
                    self._look_for_stutter(packet_id, digest)
                first = first or first_time
            stored.add(commit, bytes(packed), first_time=first, sealed_at=now)
            if fleeting:
                before = self._fleeting_of.get(commit, _NO_ENTRIES)
                self._fleeting_of = {**self._fleeting_of, commit: before | fleeting}
            self._fleeting = _NO_INDEXES
            self._allowance.entries += len(fresh)
            if stored.count > self._allowance.within(self._entries_max):
                self._bound()
        return self._noted(commit, stored.last()) if self.holds(commit) else b""

    def _noted(self, commit: int, packed: bytes) -> bytes:
        """What outlives the process."""
        fleeting = self._fleeting_of.get(commit)
        if not fleeting:
            return packed
        return b"".join(each for each in _cut(packed) if each not in fleeting)

    def holds(self, commit: int) -> bool:
        """`commit`, just sealed, stored something that is in doubt."""
        return bool(self._stored) and self._stored.last_commit == commit

    def _look_for_stutter(self, packet_id: int, digest: bytes) -> None:
        self._stutters = self._last.get(packet_id) == digest
        self._last[packet_id] = digest

    def _bound(self) -> None:
        """Of what the oldest commit stored some may still be unacknowledged, unless those after it fill the window. What is
        carried has the window of its own connection."""
        left, commits = self._stored.count, 0
        kept = self._allowance.within(self._entries_max) + (self._carried if self._left else 0)
        for group in self._stored.groups():
            left -= group.entries
            if left < kept:
                break
            commits += 1
        self._drop(commits)

    def _drop(self, commits: int) -> None:
        """The oldest so many are settled."""
        if not commits:
            return
        stored, before = self._stored, self._stored.count
        self.settled = stored.group(commits - 1).commit
        stored.drop(commits)
        self._allowance.entries -= before - stored.count
        if self._fleeting_of:
            kept = {c: e for c, e in self._fleeting_of.items() if c > self.settled}
            self._fleeting_of = kept or _NO_COMMITS
        if self.settled >= self._carried_through:
            self._forget_carried()
        elif self._carried:
            self._count_carried()

    def _forget_carried(self) -> None:
        self._carried = self._left = 0
        self._again, self._proven = _NO_INDEXES, _NONE

    def _count_carried(self) -> None:
        stored = self._stored
        self._carried = stored.upto(self._carried_through)
        identifiers = set(stored.identifiers(self._carried)) - self._again
        if self._proven:
            identifiers = {each for each in identifiers if self._newest(each) is not None}
        self._left = len(identifiers)

    def written(self, commit: int, position: int) -> None:
        """The PUBACKs of `commit` and before are among the first `position` bytes of this connection."""
        while self._promised and self._promised[0][0] <= commit:
            self._answered.append((position, self._promised.pop(0)[1]))
        self._stored.written(self._carried_through, commit, position)

    def arrived(self, position: int, now: float) -> bool:
        """The peer's TCP has the first `position` bytes; whether that settled anything."""
        settled = False
        if self._stutters and (self._answered or self._left):
            settled = self._forget_answered(position)
        reached = 0
        behind = self._stored.count  # in doubt behind the present one
        moved_on = not self._left
        for index, group in enumerate(self._stored.groups()):
            behind -= group.entries
            if group.commit <= self._carried_through:
                continue
            if not 0 <= group.position <= position:
                break
            if not self._stutters and (behind < LATEST or now - group.sealed_at < UNREAD_S):
                break
            moved_on = moved_on or group.first_time
            reached = index + 1
        if not reached:
            return settled
        if not moved_on:
            self._prove(reached)
            return settled
        self._drop(reached)
        return True

    def _prove(self, commits: int) -> None:
        """What is carried is in doubt still, and keeps what arrived behind it in its place: so that is known one by one."""
        arrived = {
            (group.commit, int.from_bytes(entry[:2], "big"))
            for group, packed in islice(self._stored.entries(), commits)
            if group.commit > self._carried_through
            for entry in _cut(packed)
        }
        if not arrived <= self._proven:
            self._proven = self._proven | arrived

    def _forget_answered(self, position: int) -> bool:
        """Repetitions whose PUBACK arrived; whether with them all that was carried is settled."""
        carried = self._left > 0
        while self._answered and self._answered[0][0] <= position:
            packet_id = self._answered.pop(0)[1]
            commit = self._used_again(packet_id)
            if commit is not None:
                self._proven = self._proven | {(commit, packet_id)}
        if not carried or self._left:
            return False
        self._drop(sum(group.commit <= self._carried_through for group in self._stored.groups()))
        return True

    # --- between connections -----------------------------------------------------------------------------------

    def carry(self, commit: int, now: float) -> None:
        """A connection of this session ended, or begins: what is in doubt now is compared from now on.

        `commit`: the open one, to which what was appended last belongs.
        """
        self.seal(commit, now)
        self._answered.clear()
        self._promised.clear()
        self._again = _NO_INDEXES
        self._carried_through = self._stored.last_commit
        self._count_carried()

    def ended(self) -> None:
        """The session is no more."""
        self._allowance.entries -= self._stored.count
        self._stored = Uncertain()

    def state(self) -> list[tuple[int, bytes]]:
        """For the checkpoint; what is not sealed yet is noted with its commit."""
        noted = (
            (group.commit, self._noted(group.commit, packed))
            for group, packed in self._stored.entries()
        )
        return [each for each in noted if each[1]]

    def restore(self, state: list[tuple[int, bytes]]) -> None:
        for commit, packed in state:
            self._stored.add(commit, packed, first_time=False, sealed_at=float("-inf"))
            self._allowance.entries += len(packed) // ENTRY_BYTES
            for entry in _cut(packed):
                packet_id = int.from_bytes(entry[:2], "big")
                if packet_id <= LOW_IDENTIFIER_MAX:
                    self._look_for_stutter(packet_id, entry[2:])
        self.carry(0, 0.0)


def _cut(packed: bytes) -> Iterator[bytes]:
    for start in range(0, len(packed) - ENTRY_BYTES + 1, ENTRY_BYTES):
        yield packed[start : start + ENTRY_BYTES]


def _content(packet: Publish) -> bytes:
    """The payload, and what else there may be: nothing for a plain publish, however it came in."""
    properties = msgspec.structs.replace(packet.properties, topic_alias=None)
    if properties == NO_PROPERTIES and not packet.retain:
        return packet.payload
    return packet.payload + b"\0" + msgspec.msgpack.encode((packet.retain, properties))


def _hash(topic: bytes, content: bytes) -> bytes:
    # no topic contains the zero; one call with a copy is cheaper than three without
    return blake2b(b"%b\0%b" % (topic, content), digest_size=_HASH_BYTES).digest()
