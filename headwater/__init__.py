"""Headwater: from a sensor's MQTT publish to a row in the lake.

The rooms are `headwater.core`, `headwater.edge`, `headwater.cloud` and `headwater.hardware`;
ARCHITECTURE.md tells one record's journey through them.
"""

__version__ = "0.1.0"
