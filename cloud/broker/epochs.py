"""Leader epochs: constant, and consistently so.

An epoch lets a reader notice that a new leader cut back what the old one had shown. Here nothing is shown before it is
durable and nothing durable is ever cut back, so there is nothing to notice: the epoch is 0 for ever, in Metadata,
ListOffsets, stored batches and OffsetForLeaderEpoch alike. (Not -1, "no epoch": librdkafka sends 0 in its place to a broker
whose Metadata reaches version 9, and must then not be told that 0 is unknown.)

A client that comes with a larger epoch learnt it elsewhere (another cluster at this address): it is told that we do not
know it, and looks at Metadata again.
"""

from __future__ import annotations

from ...core.kafka.errors import ErrorCode

LEADER_EPOCH = 0


def check_epoch(current_leader_epoch: int) -> ErrorCode:
    """What a client believes the current epoch to be; -1 where it has no opinion."""
    if current_leader_epoch > LEADER_EPOCH:
        return ErrorCode.UNKNOWN_LEADER_EPOCH
    return ErrorCode.NONE
