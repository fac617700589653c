"""The whole river over mutual TLS: real edge and cloud, killed; a client's certificate that expires and is renewed on disk.

What was published while the cloud was away, or while our certificate was not accepted, is in the lake once in the end.
"""

from __future__ import annotations

import datetime as dt
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headwater.demo.daemon import HOST, Daemon, free_port, headwater_command
from tests.authority import Authority, Files
from tests.bench import wire

pytestmark = pytest.mark.interop
WAIT_S = 60.0


class SafeRiver:
    def __init__(self, tmp_path: Path) -> None:
        self.authority = Authority(tmp_path)
        server = self.authority.issue(HOST, file="cloud")
        self.device = self.issue()
        self.mqtt, self.tls, self.lake = free_port(), free_port(), tmp_path / "lake"
        plain, cloud_http, edge_http = free_port(), free_port(), free_port()
        self.published = 0
        self.cloud = Daemon(
            "cloud",
            headwater_command("cloud"),
            log=tmp_path / "cloud.log",
            http_port=cloud_http,
            environment={
                "HEADWATER_CLOUD__STORE": str(tmp_path / "store"),
                "HEADWATER_CLOUD__LAKE": str(self.lake),
                "HEADWATER_CLOUD__KAFKA": f"{HOST}:{plain}",
                "HEADWATER_CLOUD__HTTP": f"{HOST}:{cloud_http}",
                "HEADWATER_CLOUD__KAFKA_TLS": f"{HOST}:{self.tls}",
                "HEADWATER_CLOUD__TLS__CERTIFICATE": server.certificate,
                "HEADWATER_CLOUD__TLS__KEY": server.key,
                "HEADWATER_CLOUD__TLS__CLIENT_CA": self.authority.path,
                "HEADWATER_SINK__INTERVAL": "300ms",
            },
        )
        self.edge = Daemon(
            "edge",
            headwater_command("edge", "--name", "safe", "--data-dir", str(tmp_path / "edge")),
            log=tmp_path / "edge.log",
            http_port=edge_http,
            environment={
                "HEADWATER_EDGE__MQTT": f"{HOST}:{self.mqtt}",
                "HEADWATER_EDGE__HTTP": f"{HOST}:{edge_http}",
                "HEADWATER_EDGE__UPLINK": f"kafkas://{HOST}:{self.tls}",
                "HEADWATER_EDGE__UPLINK_OPTIONS__TLS__CA": self.authority.path,
                "HEADWATER_EDGE__UPLINK_OPTIONS__TLS__CERTIFICATE": self.device.certificate,
                "HEADWATER_EDGE__UPLINK_OPTIONS__TLS__KEY": self.device.key,
                "HEADWATER_EDGE__UPLINK_OPTIONS__BACKOFF_MAX": "1s",
            },
        )

    def issue(self, ends: dt.timedelta = dt.timedelta(days=3)) -> Files:
        """In place, as whoever renews it does."""
        return self.authority.issue(file="device", common_name="safe", ends=ends)

    def publish(self, count: int) -> None:
        """And wait until all is acknowledged."""
        with socket.create_connection((HOST, self.mqtt), timeout=WAIT_S) as client:
            client.sendall(wire.connect(f"sensor-{self.published}"))
            reader, acknowledged = wire.PacketReader(), 0
            for packet_id in range(1, count + 1):
                payload = json.dumps({"n": self.published}).encode()
                client.sendall(wire.publish("s/1", payload, packet_id))
                self.published += 1
            while acknowledged < count:
                data = client.recv(65536)
                assert data, "the edge is there"
                acknowledged += sum(p.kind == wire.PUBACK for p in reader.feed(data))

    def sent(self) -> bool:
        return (
            bool(self.edge.metrics())
            and json.loads(self.edge.get("/status")[1])["uplink"]["backlog_records"] == 0
        )

    def said(self) -> str:
        return str(json.loads(self.edge.get("/status")[1])["uplink"])

    def counts(self) -> tuple[int, int]:
        """Rows, and how many different ones."""
        sql = 'select count(*) as rows, count(distinct n) as kinds from "default"'
        command = headwater_command("query", "--lake", str(self.lake), "--format", "json", sql)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return 0, 0
        (row,) = json.loads(done.stdout)
        return row["rows"], row["kinds"]


@pytest.fixture(name="river")
def _river(tmp_path: Path) -> Iterator[SafeRiver]:
    river = SafeRiver(tmp_path)
    try:
        river.cloud.start()
        river.cloud.wait_ready()
        river.edge.start()
        river.edge.wait_ready()
        yield river
    finally:
        river.edge.close()
        river.cloud.close()


def _until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_all_is_in_the_lake_once_whatever_dies_or_expires(river: SafeRiver) -> None:
    river.publish(500)
    _until(river.sent, "the first went up")
    river.cloud.kill()
    river.publish(500)
    river.edge.kill()
    river.edge.start()
    river.edge.wait_ready()
    # while nobody looked, the certificate expired
    river.issue(ends=dt.timedelta(hours=-1))
    river.cloud.start()
    river.cloud.wait_ready()
    river.publish(500)
    _until(lambda: "device.pem" in river.said(), "the status says which certificate it is about")
    assert not river.sent()
    river.issue()
    _until(river.sent, "a renewed file is enough")
    _until(lambda: river.counts() == (1500, 1500), "each once in the lake")
    done = subprocess.run(
        headwater_command("verify", "--lake", str(river.lake)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_streams_are_seen_over_tls_only_with_a_certificate(river: SafeRiver) -> None:
    address = ["--bootstrap", f"kafkas://{HOST}:{river.tls}", "--ca", river.authority.path]
    ours = ["--certificate", river.device.certificate, "--key", river.device.key]

    def streams(*more: str) -> subprocess.CompletedProcess[str]:
        command = headwater_command("streams", *more)
        return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)

    assert streams(*address, *ours, "create", "safe").returncode == 0
    done = streams(*address, *ours, "list")
    assert done.returncode == 0, done.stderr
    assert "safe" in done.stdout
    turned_away = streams(*address, "list")
    assert turned_away.returncode == 1
    assert "headwater: " in turned_away.stderr
    in_the_clear = streams("--bootstrap", f"kafka://{HOST}:{river.tls}", "list")
    assert in_the_clear.returncode == 1
