"""TCP as both its kernels see it, and a machine whose commits take time.

A `Line` is one connection. What the broker wrote goes through three places, each at its own moment: the peer's kernel has
it (`arrived`), our kernel knows that (`acked`, what SIOCOUTQ tells), the program there has read it (`read`). What the
client wrote waits in `up` until the broker reads it, in pieces of any size; a line that the client gave up may
still hold some.
"""

from __future__ import annotations

from headwater.core.batch import decode_batch
from headwater.core.record import TopicPartition
from headwater.edge.broker.client import Client
from tests.edge.broker.machine import HandCommitter, Machine


class Line:
    """`tells`: the broker may ask its kernel what the peer's has acknowledged."""

    def __init__(self, machine: Machine, *, tells: bool) -> None:
        self.down = bytearray()
        self.ends: list[int] = []  # of what was written in one piece
        self.acked = self.arrived = self.read = 0
        self.up = bytearray()
        self.hello = 0  # bytes of its CONNECT
        self.heard = 0  # by the broker
        self.cut = False  # nothing passes any more, in either direction
        self.closed = False  # by the broker
        self.closed_at: float | None = None
        self._clock = machine.clock
        self.reading = True
        self.client: Client = machine.broker.client()
        if tells:
            self.client.unacknowledged = self._unacknowledged
        self.client.connection_made(self)

    # --- the broker's side: a transport ------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after close"
        self.down += data
        self.ends.append(len(self.down))

    def close(self) -> None:
        self.closed = True
        self.closed_at = self._clock.monotonic()

    def abort(self) -> None:
        self.close()
        self.cut = True

    def reset(self) -> None:
        self.abort()

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def _unacknowledged(self) -> int | None:
        return None if self.closed else len(self.down) - self.acked

    # --- the network -------------------------------------------------------------------------------------------

    def deliver(self, size: int, *, known: bool) -> None:
        """`known`: the acknowledgement of TCP comes back, too."""
        if not self.cut:
            self.arrived = min(len(self.down), self.arrived + size)
            if known:
                self.acked = self.arrived

    def hear(self, size: int) -> bool:
        """The broker reads of what has come; whether there was anything it would read."""
        if self.closed or not self.reading or not self.up:
            return False
        data = bytes(self.up[:size])
        del self.up[:size]
        self.heard += len(data)
        self.client.data_received(data)
        return True

    def take(self) -> bytes:
        """The client reads what its kernel has."""
        data = bytes(self.down[self.read : self.arrived])
        self.read = self.arrived
        return data

    def lose(self, *, orderly: bool = False) -> None:
        """The broker learns that the connection is over."""
        if self.closed:
            return
        if orderly:
            self.client.eof_received()
            return
        self.client.remember_delivered()
        self.close()
        self.client.connection_lost(None)


class SplitCommitter(HandCommitter):
    """Between `begin` and `finish` the disk has a commit, and the broker goes on."""

    is_under_way = False
    is_asked = False

    def request(self) -> None:
        self.is_asked = True

    def begin(self) -> None:
        if not self.is_under_way:
            self._commit = self._journal.seal()
            self.is_under_way = self._commit is not None

    def finish(self) -> bool:
        if not self.is_under_way or self._commit is None:
            return False
        commit, self.is_under_way, self.is_asked = self._commit, False, False
        commit.write()
        self._journal.complete(commit)
        for listener in self._listeners:
            listener(commit.number)
        return True

    def sync(self) -> bool:
        self.begin()
        return self.finish()


class OnceMachine(Machine):
    committer: SplitCommitter

    def make_committer(self) -> HandCommitter:
        return SplitCommitter(self.log)

    def orderly_stop(self) -> None:
        """As the daemon stops (`_drain`, then the committer's and the state's close)."""
        self.broker.stop_reading()
        self.sync()
        self.broker.close()
        self.log.renounce()
        self.sync()
        self.checkpoint()
        self.log.close()
        self.kill()


class Ledger:
    """Every record that was ever durable, read while it is there: (topic, payload) -> when it arrived, in ms."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, bytes], list[int]] = {}
        self.exactly: set[tuple[str, bytes]] = set()  # of them those published at QoS 2
        self._next: dict[TopicPartition, int] = {}

    def catch_up(self, machine: Machine) -> None:
        log = machine.log
        for tp in log.partitions():
            volatile = log.volatile.get(tp)
            start, end = log.bounds(tp)
            if volatile is not None:
                end = min(end, volatile.tail_first)  # what is in memory is there at its own risk
            offset = self._next.get(tp, 0)
            assert offset >= start, "retired unseen"
            while offset < end and (batches := log.read_sync(tp, offset, bytes_max=100_000)):
                for batch in batches:
                    header, records = decode_batch(batch)
                    offset = header.next_offset
                    for record in records:
                        key = (record.key or b"").decode(), record.value or b""
                        self.found.setdefault(key, []).append(record.timestamp)
                        if dict(record.headers).get("mqtt.qos") == b"2":
                            self.exactly.add(key)
            self._next[tp] = offset
