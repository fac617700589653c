"""Mosquitto's own password_file and acl_file: the same files before a real Mosquitto and before ours, the same answers."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import time
from pathlib import Path

import pytest

from headwater.edge.broker.access.settings import AccessSettings
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.mqtt.packets import Acknowledgement, Publish
from tests.requirements import program

from ..listening.entry import ANY, Bare, run, serving

pytestmark = pytest.mark.interop

# a deny beside allowing rules of its own user: where both agree (docs/security.md says where they do not)
RULES = """
topic write hello/#
topic read news/#

user kitchen
topic write sensors/kitchen/#
topic sensors/+/shared
topic deny sensors/kitchen/secret

user cellar
topic readwrite #

pattern write own/%u/+
pattern write client/%c/#
"""
TOPICS = (
    "hello/a", "hello", "news/a", "sensors/kitchen/t", "sensors/kitchen/secret", "sensors/cellar/shared",
    "sensors/cellar/t", "own/kitchen/x", "own/cellar/x", "own/kitchen/x/y", "client/c1/x", "client/c1", "client/c2/x",
    "/hello", "sensors//shared",
)  # fmt: skip
USERS = ((None, None), ("kitchen", b"one"), ("cellar", b"two"))


def mosquitto(folder: Path, passwords: Path, rules: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """Its port, when it listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nuser root\nallow_anonymous true\n"
        f"password_file {passwords}\nacl_file {rules}\n"
    )
    process = subprocess.Popen([program("mosquitto"), "-c", str(config)], stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return port, process
    process.kill()
    raise AssertionError("mosquitto does not listen")


async def answers(port: int) -> dict[tuple[str | None, str], bool]:
    """Whether each user may publish to each topic."""
    found = {}
    for user, password in USERS:
        bare, reason = await Bare.connect(port, "c1", user=user, password=password)
        assert reason == 0, (user, reason)
        for topic in TOPICS:
            bare.send(Publish(topic=topic, payload=b"", qos=1, packet_id=1))
            ack = await bare.take()
            while not isinstance(ack, Acknowledgement):
                ack = await bare.take()
            found[user, topic] = ack.reason < 0x80
        bare.close()
    for user, password in itertools.product(("kitchen", "nobody"), (b"wrong", b"")):
        bare, reason = await Bare.connect(port, "c1", user=user, password=password)
        found[user, f"{password!r}"] = reason == 0
        bare.close()
    return found


def test_the_same_files_give_the_same_answers(tmp_path: Path) -> None:
    passwords, rules = tmp_path / "passwd", tmp_path / "acl"
    rules.write_text(RULES)
    for number, (user, password) in enumerate(USERS[1:]):
        assert user is not None
        assert password is not None
        make = [program("mosquitto_passwd"), *(["-c"] if number == 0 else []), "-b"]
        subprocess.run([*make, str(passwords), user, password.decode()], check=True)

    async def scenario() -> None:
        port, process = await asyncio.to_thread(mosquitto, tmp_path, passwords, rules)
        try:
            theirs = await answers(port)
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)
        access = AccessSettings(password_file=str(passwords), acl_file=str(rules))
        async with serving(ListenerSettings(address=ANY), access=access) as served:
            ours = await answers(served.port())
        assert ours == theirs
        assert set(theirs.values()) == {True, False}

    run(scenario)
