"""`headwater demo`: the whole river on one machine, killed twice before your eyes, and proven by a count.

What stands here starts real processes, real MQTT clients and real queries; nothing is simulated but the fleet's readings.
The crash tests and the benchmark start their daemons through `daemon.py` too.
"""
