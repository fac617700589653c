"""Kill anything, lose nothing: real processes, SIGKILL at seeded moments, a witness that wrote down each promise.

`witness.py` publishes and records what the edge acknowledged, `ledger.py` reads that record, `world.py` starts, kills and
restarts the tiers and has the demo's judge judge the lake, `storeproxy.py` makes an S3 server misbehave.
"""
