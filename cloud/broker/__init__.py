"""The Kafka-protocol broker over a shard's log. Begin with `node.py` (what a node holds) and `listener.py` (its door)."""
