"""The uplink: the edge's journal, replicated exactly once to a cluster that speaks the Kafka protocol.

The cluster may be Headwater's own cloud or any Apache Kafka; nothing here uses more than the protocol.

*Era.* A producer's identity on one partition: (producer id, epoch, origin). Within an era, and for as long as the era is
used, the sequence number of an offset is `(offset - origin) mod 2**31`: a bijection. So a sequence number is never used for
two different records, and whatever copy of a request arrives late, twice, or over a dead connection, the broker refuses it
or recognises it. Wherever the bijection would break (a gap in the journal, a record that the cloud will never take) a new
era begins: the epoch grows by one, the origin is the next offset to send, and the cursor is durable before its first use.
Kafka fences the old epoch with the first batch of the new one; its own Java producer does the same (KIP-360).

*Where to resume.* The broker is asked (DescribeProducers, at the partition's leader) for the last sequence it holds of our
era, and we resume exactly there. The cursor file is therefore allowed to be stale about what was acknowledged, never about
the era. Where the broker knows nothing of our producer (its state expired, the topic was made anew) and something we sent
may have been stored, the tail of the target partition is read back and searched for our own addresses.

*What counts as acknowledged.* Only what a successful acks=all answer covers, or what was read back below the high
watermark. What DescribeProducers shows stands in the leader's log but may not be replicated yet (a change of leader would
undo it), so it moves `position` and not `acked`, which retention at the edge trusts, and is read back before more is sent.
A copy of a request on a connection that broke may land for a while; no new era begins before that time is over.

*Live data beside the backlog.* A partition's offsets may be covered by several ranges, each with its own era and cursor, so
that after an outage live data do not wait for history. A record says by a label in which range it was sent, and so what
lies before it: `ranges.py` has the theory and what happens at each failure.

*Which cluster.* A cursor belongs to a cluster id. A cluster never met before is sent everything that is still held, under
a fresh producer id: loss cannot be undone, a duplicate can be seen by its address and the lake's sink drops it. Cursors of
the last four clusters are kept, so that going back resumes where that cluster stood. Each new connection is asked which
cluster it leads to. A topic made anew (its id tells) goes on behind what the old one had acknowledged, under producer ids
that are new: where the whole cluster was made anew, under its old id, it gives out again those that we use.

    ranges.py      live data beside the backlog; sans-I/O              lanes.py     the same with cutters and timers
    partition.py   what one range does next; sans-I/O                  turns.py     which lane sends next
    patience.py    when something counts as over                       verdicts.py  what an answer says about the data
    supply.py      a batch on its way                                  evidence.py  what is known about the cloud
    cutting.py     journal commits into batches of another cut         cursor.py    what must survive, in one small file
    placement.py   which cloud partition, which producer id            readback.py  finding own addresses in the cloud
    feeding.py     journal to cutters under a byte budget              link.py      one connection to one leader, pipelined
    steward.py     answers what the partitions need                    uplink.py    all of it put together
    shaping.py     who may send now: rate, budgets, windows            daybook.py   bytes spent today, across restarts
    queueing.py    how much may stand before a slow link               books.py     kernel counters and the day, kept
    twins.py       a copy of our data directory at work        dialing.py     TLS, SASL, keep-alive
    sizing.py      batches below the broker's limit
    metering.py    what all connections cost on the wire               limits.py, windows.py   settings of shaping
    status.py      what an operator sees                               metrics.py   ... and Prometheus

This package imports nothing by itself: the settings are read by every edge, the Kafka protocol only by those with an uplink.
"""
