"""Sources: what the edge fetches by itself, beside what clients bring. Today: other MQTT brokers (`[[edge.sources.mqtt]]`).

A source is a client of our own broker whose network is the upstream. What the upstream delivers is fed to the broker as the
bytes of a PUBLISH with the upstream's own packet identifier and DUP; the PUBACK that comes back, when the commit is durable,
is the upstream's. So there is one path in, and all that holds for a local publisher holds here: routing, refusals at a full
log, pausing while the disk is behind, durability classes, and storing a repetition (DUP) once, across a power cut too.

    settings.py   values
    inlet.py      the client side towards our broker: packets in, acknowledgements out; no socket
    upstream.py   the rim: paho-mqtt on the edge's event loop, reconnecting with full jitter
"""
