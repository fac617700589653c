"""What waits for one taker (a session, or a shared group): a short queue in memory, beyond it cursors into the journal.

A partition is in one of two states. *Live*: every matching message was taken as it came; it lies in the queue, or was
handed out. *Behind*: the partition has a `Cursor`, a list of stretches of offsets in which matching messages lie that
were not taken; each further one is noted by its offset alone. So an absent taker costs a few integers however many
messages wait for it, and what is read again is read where matches are and not from the first miss to the end.

The hand-over needs no watermark and has no race: a record is read again if and only if `push` noted it, and it notes
exactly while there is a cursor. When the last stretch is drawn the cursor is gone, and the next `push` is live. Order
within a partition follows: the queue holds what came before the cursor, the chunk what the cursor says, live what
comes after.

A *chunk* is what one read brought: records, drawn as the taker can take them. It may be dropped at any moment, since the
cursor moves only with what is drawn; so may the queue (`collapse`), which becomes stretches again.

Knows nothing of packets, windows, or how reading is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ...core.record import StoredRecord, TopicPartition
from .messages import Message

if TYPE_CHECKING:
    from .flights import Flight

# Stretches of one cursor: three integers each. A command topic's few messages in a week of telemetry are read alone;
# a busy taker has one.
STRETCHES_MAX = 32
# Records between two matches that are cheaper to read through than to remember: a commit's worth.
NEAR = 256
# What a queued delivery costs beside its topic and payload.
DELIVERY_OVERHEAD = 200


class Delivery:
    """A message as it goes to one taker, or to all who get it alike."""

    __slots__ = ("flight", "identifiers", "message", "qos", "retain")

    def __init__(
        self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers
        self.flight: Flight | None = None  # the one that all who got it at QoS 1 have in flight


class Stretch:
    """Offsets [start, end) with `count` messages noted in them. `exact`: never to be made longer."""

    __slots__ = ("count", "end", "exact", "start")

    def __init__(self, start: int, end: int, count: int, *, exact: bool = False) -> None:
        self.start = start
        self.end = end
        self.count = count
        self.exact = exact


class Cursor:
    """The stretches of one partition, disjoint and in offset order; the first one's start is the next to be read."""

    __slots__ = ("stretches",)

    def __init__(self, stretches: Iterable[Stretch] = ()) -> None:
        self.stretches: deque[Stretch] = deque(stretches)

    @property
    def start(self) -> int:
        return self.stretches[0].start

    @property
    def end(self) -> int:
        return self.stretches[-1].end

    @property
    def count(self) -> int:
        return sum(stretch.count for stretch in self.stretches)

    def note(self, offset: int) -> None:
        """A match behind all others."""
        last = self.stretches[-1] if self.stretches else None
        if last is not None and offset < last.end:
            return  # noted before
        if (
            last is None
            or last.exact
            or (offset - last.end > NEAR and len(self.stretches) < STRETCHES_MAX)
        ):
            self.stretches.append(Stretch(offset, offset + 1, 1))
        else:
            last.end = offset + 1
            last.count += 1

    def put_first(self, offset: int) -> None:
        """A match before all others, with no other match between: from the queue."""
        first = self.stretches[0] if self.stretches else None
        if first is None or first.exact or len(self.stretches) < 2:
            near = first is not None and not first.exact and first.start - offset <= NEAR
        else:
            near = first.start - offset <= NEAR or len(self.stretches) >= STRETCHES_MAX
        if first is not None and near:
            first.start = offset
            first.count += 1
        else:
            self.stretches.appendleft(Stretch(offset, offset + 1, 1))

    def put_back(self, offset: int) -> None:
        """A message that was not taken after all, alone: what lies beside it may have been."""
        for index, stretch in enumerate(self.stretches):
            if offset < stretch.start:
                if stretch.exact and offset + 1 == stretch.start:
                    stretch.start = offset
                    stretch.count += 1
                    return
                self.stretches.insert(index, Stretch(offset, offset + 1, 1, exact=True))
                return
        self.stretches.append(Stretch(offset, offset + 1, 1, exact=True))

    def cut(self, start: int, end: int) -> int:
        """Take [start, end) out; at most how many noted messages that cost."""
        lost = 0
        left: deque[Stretch] = deque()
        for stretch in self.stretches:
            begin, stop = max(start, stretch.start), min(end, stretch.end)
            if begin >= stop:
                left.append(stretch)
                continue
            gone = min(stretch.count, stop - begin)
            lost += gone
            rest = stretch.count - gone
            for a, b in ((stretch.start, begin), (stop, stretch.end)):
                if a < b:
                    left.append(Stretch(a, b, min(b - a, max(rest, 1)), exact=stretch.exact))
        self.stretches = left
        return lost

    def passes(self, offset: int) -> bool:
        """Draw `offset`: True where it lies in a stretch, which is shortened by it."""
        stretches = self.stretches
        while stretches and offset >= stretches[0].end:
            stretches.popleft()
        if not stretches or offset < stretches[0].start:
            return False
        first = stretches[0]
        if offset + 1 >= first.end:
            stretches.popleft()
        else:
            first.start = offset + 1
            first.count = min(first.count, first.end - first.start)
        return True


class Chunk:
    """Records of one partition that were read and not drawn yet."""

    __slots__ = ("index", "records", "size", "tp")

    def __init__(self, tp: TopicPartition, records: list[StoredRecord], size: int) -> None:
        self.tp = tp
        self.records = records
        self.index = 0
        self.size = size


class Budget(Protocol):
    """The memory that all backlogs share, and each one's part of it."""

    messages_max: int
    bytes_max: int

    def take(self, size: int) -> bool: ...
    def charge(self, size: int) -> None: ...
    def give(self, size: int) -> None: ...


class Backlog:
    __slots__ = ("_budget", "_bytes", "_chunk", "_exact", "_match", "_turn", "cursors", "queue")

    def __init__(
        self,
        budget: Budget,
        match: Callable[[StoredRecord, TopicPartition], Delivery | None],
        *,
        exact: bool = False,
    ) -> None:
        """`exact`: things are handed back to it, so that beside what is queued there may lie what was taken."""
        self._exact = exact
        self._budget = budget
        self._match = match
        # made when something waits: an empty one is 760 bytes, of every idle connection
        self.queue: deque[Delivery] | None = None
        self._bytes = 0
        self._chunk: Chunk | None = None
        self._turn: TopicPartition | None = None  # the partition read last
        self.cursors: dict[TopicPartition, Cursor] = {}

    def __bool__(self) -> bool:
        return bool(self.queue or self.cursors)

    @property
    def queued(self) -> int:
        return len(self.queue) if self.queue else 0

    @property
    def behind(self) -> int:
        """Messages that wait in the journal alone."""
        return sum(cursor.count for cursor in self.cursors.values())

    @property
    def memory(self) -> int:
        """Bytes of the shared budget that this one holds."""
        return self._bytes + (0 if self._chunk is None else self._chunk.size)

    @property
    def wants_read(self) -> bool:
        return bool(self.cursors) and self._chunk is None and not self.queue

    # --- in -----------------------------------------------------------------------------------------------------

    def push(self, delivery: Delivery, *, present: bool) -> bool:
        """A message that comes now. False: it has no record to come back to and there is no room; it is lost."""
        message = delivery.message
        tp = message.tp
        cursor = None if tp is None else self.cursors.get(tp)
        if cursor is not None:
            cursor.note(message.offset)
            return True
        if present and self.queued < self._budget.messages_max:
            size = message.size + DELIVERY_OVERHEAD
            if self._bytes + size <= self._budget.bytes_max and self._budget.take(size):
                if self.queue is None:
                    self.queue = deque()
                self.queue.append(delivery)
                self._bytes += size
                return True
        if tp is None:
            return False
        self.cursors[tp] = Cursor((Stretch(message.offset, message.offset + 1, 1),))
        return True

    def push_first(self, delivery: Delivery) -> None:
        """Popped just now, and not to be had by anybody yet."""
        size = delivery.message.size + DELIVERY_OVERHEAD
        if self.queue is None:
            self.queue = deque()
        self.queue.appendleft(delivery)
        self._bytes += size
        self._budget.charge(size)

    def put_back(self, tp: TopicPartition, offset: int) -> None:
        """Handed out and not taken: first again, before what came later."""
        self.collapse()  # what is queued came later, and must stay behind it
        self.cursors.setdefault(tp, Cursor()).put_back(offset)

    # --- out ----------------------------------------------------------------------------------------------------

    def pop(self) -> Delivery | None:
        """The next one at hand; None does not mean that there is none (`wants_read`)."""
        if self.queue:
            delivery = self.queue.popleft()
            size = delivery.message.size + DELIVERY_OVERHEAD
            self._bytes -= size
            self._budget.give(size)
            return delivery
        return None if self._chunk is None else self._draw(self._chunk)

    def _draw(self, chunk: Chunk) -> Delivery | None:
        cursor = self.cursors.get(chunk.tp)
        records = chunk.records
        index = chunk.index
        found = None
        while cursor is not None and index < len(records):
            record = records[index]
            index += 1
            if not cursor.passes(record.offset):
                if not cursor.stretches:
                    break
                continue
            found = self._match(record, chunk.tp)
            if not cursor.stretches or found is not None:
                break
        chunk.index = index
        if cursor is not None and not cursor.stretches:
            del self.cursors[chunk.tp]
            self._drop_chunk()
        elif index >= len(records):
            self._drop_chunk()
        return found

    # --- reading ------------------------------------------------------------------------------------------------

    def next_read(self) -> tuple[TopicPartition, int] | None:
        """Where to read: one partition after the other."""
        if not self.wants_read:
            return None
        partitions = list(self.cursors)
        index = partitions.index(self._turn) + 1 if self._turn in self.cursors else 0
        tp = self._turn = partitions[index % len(partitions)]
        return tp, self.cursors[tp].start

    def loaded(self, tp: TopicPartition, records: list[StoredRecord], size: int) -> int:
        """What the read brought, from the cursor's start on. Returns how many noted messages are damaged."""
        cursor = self.cursors.get(tp)
        if cursor is None or self._chunk is not None:
            return 0
        expected, end = cursor.start, records[-1].offset + 1
        chunk = Chunk(tp, records, size)
        lost = 0
        first = records[0].offset
        if end - first == len(records) and first <= expected:
            chunk.index = expected - first
        else:
            for record in records:
                if record.offset > expected:
                    lost += cursor.cut(expected, record.offset)
                expected = max(expected, record.offset + 1)
        if not cursor.stretches:
            del self.cursors[tp]
        elif chunk.index < len(records):
            self._chunk = chunk
            self._budget.charge(size)
        return lost

    def lose(self, tp: TopicPartition, end: int) -> int:
        """What lies before `end` is gone; how many noted messages that cost at most."""
        cursor = self.cursors.get(tp)
        if cursor is None:
            return 0
        lost = cursor.cut(0, end)
        if not cursor.stretches:
            del self.cursors[tp]
        return lost

    # --- letting go of memory -------------------------------------------------------------------------------------

    def collapse(self) -> int:
        """Keep nothing in memory but cursors. Returns how many had no record to come back to."""
        self._drop_chunk()
        return self._collapse_queue()

    def _collapse_queue(self) -> int:
        lost = 0
        while self.queue:
            message = self.queue.pop().message
            if message.tp is None:
                lost += 1
            else:
                self._uncover(self.cursors, message.tp, message.offset)
        self._budget.give(self._bytes)
        self._bytes = 0
        return lost

    def _drop_chunk(self) -> None:
        if self._chunk is not None:
            self._budget.give(self._chunk.size)
            self._chunk = None

    def clear(self) -> None:
        self.collapse()
        self.cursors.clear()

    def spread(self) -> dict[TopicPartition, Cursor]:
        """What `collapse` would leave, without collapsing."""
        cursors = {
            tp: Cursor(
                Stretch(each.start, each.end, each.count, exact=each.exact)
                for each in cursor.stretches
            )
            for tp, cursor in self.cursors.items()
        }
        for delivery in reversed(self.queue or ()):
            message = delivery.message
            if message.tp is not None:
                self._uncover(cursors, message.tp, message.offset)
        return cursors

    def _uncover(
        self, cursors: dict[TopicPartition, Cursor], tp: TopicPartition, offset: int
    ) -> None:
        cursor = cursors.setdefault(tp, Cursor())
        (cursor.put_back if self._exact else cursor.put_first)(offset)
