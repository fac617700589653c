"""A subscriber with a lasting session that comes back: what it is owed is read from the log, not from memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.powercut.publishers import name_of

PATIENCE_SECONDS = 60.0


class Latecomer:
    def __init__(self, name: str, port: int, topic_filter: str) -> None:
        self._name, self._port, self._filter = name, port, topic_filter
        self._told = threading.Condition()
        self.received: set[str] = set()
        self.pause_s = 0.0  # after each message, unanswered: the broker has only so many in flight

    def leave_word(self) -> None:
        """Subscribe, and go."""
        with self._connected() as client:
            done = threading.Event()
            client.on_subscribe = lambda *_: done.set()
            client.subscribe(self._filter, qos=1)
            assert done.wait(PATIENCE_SECONDS), "SUBACK"

    @contextmanager
    def back(self) -> Iterator[None]:
        with self._connected():
            yield

    def retain(self, topics: Iterable[str]) -> None:
        """One message to each, named as its topic; acknowledged on return."""
        with self._connected() as client:
            for topic in topics:
                client.publish(topic, topic, qos=1, retain=True).wait_for_publish(PATIENCE_SECONDS)

    def wait_for_the_first(self) -> None:
        with self._told:
            assert self._told.wait_for(lambda: self.received, PATIENCE_SECONDS), "nothing comes"

    def wait_for(self, wanted: set[str]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._told:
            while missing := wanted - self.received:
                assert time.monotonic() < deadline, (
                    f"not delivered: {len(missing)} of {len(wanted)}"
                )
                self._told.wait(1)

    @contextmanager
    def _connected(self) -> Iterator[paho.Client]:
        client = paho.Client(CallbackAPIVersion.VERSION2, self._name, clean_session=False)
        client.on_message = self._take
        ready = threading.Event()
        client.on_connect = lambda *_: ready.set()
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        try:
            assert ready.wait(PATIENCE_SECONDS), "CONNACK"
            yield client
        finally:
            client.disconnect()
            client.loop_stop()

    def _take(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        time.sleep(self.pause_s)
        with self._told:
            self.received.add(name_of(bytes(message.payload)))
            self._told.notify_all()
