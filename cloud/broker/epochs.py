"""Leader epochs: not used, and consistently so.

An epoch lets a reader notice that a new leader cut back what the old one had shown. Here nothing is shown before it is
durable and nothing durable is ever cut back, so there is nothing to notice: Metadata, ListOffsets and stored batches say -1,
clients then never ask. A client that does come with an epoch learnt it elsewhere (another cluster at this address): it is
told that we do not know it and looks at Metadata again. OffsetForLeaderEpoch answers that whatever was read under any
epoch is still there, up to the end of the log.
"""

from __future__ import annotations

from ...core.kafka.errors import ErrorCode

NO_EPOCH = -1


def check_epoch(current_leader_epoch: int) -> ErrorCode:
    return ErrorCode.NONE if current_leader_epoch < 0 else ErrorCode.UNKNOWN_LEADER_EPOCH
