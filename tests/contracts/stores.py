"""The stores that the contract is held against, each opened fresh and empty.

directory   files, links and locks on this machine
simulated   the deterministic fake, so that what is proven on it holds on the others
moto        S3's API as AWS documents it; its conditional PUT is not atomic, so no races here
seaweed     a real S3 server over HTTP: conditions and races
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from headwater.cloud.store import open_store
from headwater.cloud.store.s3 import connect
from headwater.core.objectstore import ObjectStore
from headwater.core.objectstore.directory import DirectoryStore
from tests.seaweed import Seaweed
from tests.sim.store import SimulatedStore

ALL = ("directory", "simulated", "moto", "seaweed")
ATOMIC = ("directory", "simulated", "seaweed")


@contextlib.asynccontextmanager
async def opened(
    kind: str, folder: Path, request: pytest.FixtureRequest
) -> AsyncIterator[ObjectStore]:
    if kind == "moto":
        monkeypatch = request.getfixturevalue("monkeypatch")
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        with mock_aws():
            client = boto3.client("s3", region_name="us-east-1")
            client.create_bucket(Bucket="contract")
            client.close()
            store: ObjectStore = connect("contract", "some/prefix")
            yield store
            await store.close()
        return
    if kind == "seaweed":
        server: Seaweed = request.getfixturevalue("seaweed")
        store = await open_store(server.location("contract"))
    elif kind == "directory":
        store = DirectoryStore(folder, rng=random.Random(1))
    else:
        store = SimulatedStore(random.Random(1), latency_s=0.001)
    yield store
    await store.close()
