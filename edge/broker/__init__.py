"""The MQTT broker: synchronous inside, one thread, asyncio only in `listening/`.

One PUBLISH: `Client.data_received` cuts it out, `Router` says which partition, the journal's writer takes it into the
open commit, the acknowledgement waits in `Gate` for that commit. When the commit is durable the gate lets go: first
what is retained and what subscribers get, then the acknowledgements, one write for each connection.
"""
