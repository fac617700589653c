"""The sink: from the Kafka protocol to tables of Parquet, each record exactly once.

    source (kafka)  → stream (what is fetched) → table → building: ledger, addresses, payloads, files → the Delta log

`run_sink` in daemon.py runs it; the tables' reading side is in cloud/lake.
"""
