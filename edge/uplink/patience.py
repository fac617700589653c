"""How long a flow waits, and how often it tries, before it takes something to be over."""

from __future__ import annotations

# Far below a day, after which Kafka forgets a silent producer (producer.id.expiration.ms, 24 h).
PROVEN_S = 3600.0
# A request that was on a connection when it broke is applied within this time or never: brokers drop what a closed socket
# left unread, and time out what they took (Kafka: 30 s). No era begins while a late copy could still land.
LATE_COPIES_S = 60.0
# Settled failures of one batch after which its bytes are given back; the same offsets are cut again later.
KEEP_ATTEMPTS = 3
# Times that the broker may contradict its own DescribeProducers before a new era is begun.
STUCK_MAX = 3
