"""The journal: an ordered sequence of segments, each a container of batches of many partitions.

Two kinds, one reading interface (`reading.py`): `files/` at the edge, `objects/` in the cloud. What is stored in
both is Kafka's record batch v2, so the bytes on disk, on the wire and in the bucket are the same bytes.
"""
