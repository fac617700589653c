"""Clients of others beside our own: Eclipse paho over WebSocket and over TLS, on threads of its own.

`acknowledged` counts what paho was acknowledged; it publishes to a topic of its own and hears itself.
"""

from __future__ import annotations

import ssl
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from .client import HOST


class Foreign:
    def __init__(self, name: str, port: int, *, transport: str, ca: str) -> None:
        self._topic = f"machine/foreign/{name}"
        self.acknowledged = self.heard = 0
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            transport=transport,  # type: ignore[arg-type]
            protocol=mqtt.MQTTv5,
        )
        if ca:
            self._client.tls_set_context(ssl.create_default_context(cafile=ca))
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = self._connected
        self._client.on_publish = self._published
        self._client.on_message = self._message
        self._client.connect_async(HOST, port)
        self._client.loop_start()

    def publish(self) -> None:
        if self._client.is_connected():
            self._client.publish(self._topic, b"21.5", qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, *_: Any) -> None:
        self._client.subscribe(self._topic, 1)

    def _published(self, *_: Any) -> None:
        self.acknowledged += 1

    def _message(self, *_: Any) -> None:
        self.heard += 1
