"""The Kafka protocol, for both ends of the river: the uplink and the sink ask, the cloud's broker answers.

    primitives   wire types as annotations          messages/    one table for each API, in Kafka's words
    codegen      annotations to reader and writer    frames       length prefix and headers, sans-I/O
    schema       what a message is                   errors       the error codes
    connection   one broker, requests pipelined      client       a cluster: leaders, one connection to each broker
    reaching     from a name to a connected socket

A record batch passes through as bytes: its format is core/batch.py's. Only `connection` and `client` know asyncio.
"""
