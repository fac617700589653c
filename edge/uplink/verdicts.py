"""What an answer to Produce says about the data: Kafka's sixty error codes as seven verdicts.

DONE       stored, now or by an earlier copy of the same request, and replicated
RETRY      not now; ask where the broker stands and go on from there
LEADER     another broker leads the partition; as RETRY, after asking for metadata
SEQUENCE   the broker expects another sequence number: a batch before this one is missing, or a copy came through. Also
           where it says "duplicate": it does not say of what, nor that the copy is replicated, so it is looked at
IDENTITY   the producer id or epoch is not ours any more, or is forgotten where that matters: take a new one
REFUSED    these bytes will never be taken: split, and a single record is declared lost
PLAIN      the broker cannot read the compression: send uncompressed
BLOCKED    an operator must act (permissions, policy); try again slowly, loudly

A code that is not in the table is BLOCKED: data are kept and the operator sees the number. INVALID_TIMESTAMP is among them
on purpose: a board whose clock runs ahead must not lose its readings to the cloud's message.timestamp.after.max.ms.
"""

from __future__ import annotations

import enum

from ...core.kafka.errors import ErrorCode


class Verdict(enum.Enum):
    DONE = "done"
    RETRY = "retry"
    LEADER = "leader"
    SEQUENCE = "sequence"
    IDENTITY = "identity"
    REFUSED = "refused"
    PLAIN = "plain"
    BLOCKED = "blocked"


VERDICTS = {
    ErrorCode.NONE: Verdict.DONE,
    ErrorCode.CORRUPT_MESSAGE: Verdict.RETRY,  # damaged on the way
    ErrorCode.REQUEST_TIMED_OUT: Verdict.RETRY,
    ErrorCode.NETWORK_EXCEPTION: Verdict.RETRY,
    ErrorCode.NOT_ENOUGH_REPLICAS: Verdict.RETRY,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: Verdict.RETRY,
    ErrorCode.KAFKA_STORAGE_ERROR: Verdict.RETRY,
    ErrorCode.THROTTLING_QUOTA_EXCEEDED: Verdict.RETRY,
    ErrorCode.UNKNOWN_SERVER_ERROR: Verdict.RETRY,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: Verdict.RETRY,
    ErrorCode.LEADER_NOT_AVAILABLE: Verdict.LEADER,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: Verdict.LEADER,
    ErrorCode.BROKER_NOT_AVAILABLE: Verdict.LEADER,
    ErrorCode.REPLICA_NOT_AVAILABLE: Verdict.LEADER,
    ErrorCode.FENCED_LEADER_EPOCH: Verdict.LEADER,
    ErrorCode.UNKNOWN_LEADER_EPOCH: Verdict.LEADER,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: Verdict.LEADER,
    ErrorCode.UNKNOWN_TOPIC_ID: Verdict.LEADER,
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER: Verdict.SEQUENCE,
    ErrorCode.DUPLICATE_SEQUENCE_NUMBER: Verdict.SEQUENCE,
    ErrorCode.UNKNOWN_PRODUCER_ID: Verdict.IDENTITY,
    ErrorCode.INVALID_PRODUCER_EPOCH: Verdict.IDENTITY,
    ErrorCode.PRODUCER_FENCED: Verdict.IDENTITY,
    ErrorCode.INVALID_PRODUCER_ID_MAPPING: Verdict.IDENTITY,
    ErrorCode.MESSAGE_TOO_LARGE: Verdict.REFUSED,
    ErrorCode.RECORD_LIST_TOO_LARGE: Verdict.REFUSED,
    ErrorCode.INVALID_RECORD: Verdict.REFUSED,
    ErrorCode.UNSUPPORTED_COMPRESSION_TYPE: Verdict.PLAIN,
}


def verdict(code: int) -> Verdict:
    try:
        return VERDICTS.get(ErrorCode(code), Verdict.BLOCKED)
    except ValueError:
        return Verdict.BLOCKED
