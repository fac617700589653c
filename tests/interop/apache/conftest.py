"""One Apache Kafka, one Headwater and one JVM of tools for the whole folder: each is slow to start, none is slow to use.

`kafka` runs a test against both: a claim about our broker that does not hold for the original is a wrong claim.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.kafka.running import NodeProcess, node_process

from .broker import apache_kafka
from .cluster import Cluster
from .tools import Tools, toolbox


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    with toolbox(tmp_path_factory.mktemp("tools") / "tools.log") as running:
        yield running


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with node_process(tmp_path_factory.mktemp("headwater")) as running:
        yield running


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Iterator[Cluster]:
    with apache_kafka(tmp_path_factory.mktemp("apache")) as running:
        yield Cluster("apache", running.bootstrap, tools)


@pytest.fixture(scope="session")
def headwater(node: NodeProcess, tools: Tools) -> Cluster:
    return Cluster("headwater", node.address, tools)


@pytest.fixture(params=["headwater", "apache"])
def kafka(request: pytest.FixtureRequest) -> Cluster:
    name = "original" if request.param == "apache" else "headwater"
    cluster = request.getfixturevalue(name)
    assert isinstance(cluster, Cluster)
    return cluster
