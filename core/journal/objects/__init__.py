"""The journal on an object store: one shard, a chain of objects, each made by create-if-absent.

    wal/<shard>/<seq>          the log: each object one atomic commit of batches of many partitions and of events
    checkpoint/<shard>/<n>     a snapshot of state and index, so that replay and retention need not begin at slot 1
    boundary/<shard>           how far collection may have gone; moves forward only

`FORMAT.md` beside this file holds the layout, the numbered write path, the invariants and their proofs.

How a broker uses it:

    writer = await ShardWriter.open(store, shard, state=machine, settings=settings, clock=clock, rng=random.Random())
    base = writer.next_offset(partition)                 # counts what was submitted and is not yet durable
    future = writer.submit([Batch(partition, rebased_bytes), Event(b"producer 7 sequence 41"), ...])
    result = await future                                # durable, and `machine.apply(seq, entries)` has run
    batches = await writer.journal.read(partition, offset, bytes_max=1 << 20)

Rules for the caller:
  * `state` changes in `apply` alone, which sees live commits and replayed ones alike, in the same order, once each.
    What is decided from submitted and not yet durable entries (the next offset, the next producer sequence) lives in
    an overlay of the caller's, thrown away with the writer.
  * All entries of one `submit` become durable together, in one object, or not at all.
  * A writer is single-use. When `closed_reason` is set (`await wait_closed()`) every pending future has failed:
      Closed   the entries are certainly not in the log and never will be
      Unknown  they may be; only a repeat with the same producer identity and sequence is safe
    Throw writer, journal and state away; open new ones.
  * Cancelling a future (a client that went away) does not cancel the commit.
  * A stale owner still reads a correct prefix of the log, so fetch needs no check. Answers that must not be stale
    (committed offsets, the latest offset, a new producer id) ask `await writer.tail_current()` first.
"""

from .entries import Batch, CommitResult, Drop, Entry, Event, StateMachine, Trim
from .reader import ObjectJournal, TimedOffset
from .settings import ObjectJournalSettings
from .writer import ShardWriter

__all__ = [
    "Batch",
    "CommitResult",
    "Drop",
    "Entry",
    "Event",
    "ObjectJournal",
    "ObjectJournalSettings",
    "ShardWriter",
    "StateMachine",
    "TimedOffset",
    "Trim",
]
