"""The log keeps its share of file descriptors, however many clients come."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from headwater.edge.descriptors import within_descriptors
from headwater.edge.settings import EdgeSettings
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
settings = within_descriptors(EdgeSettings())
print(settings.mqtt_limits.connections_max, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "soft_after"),
    [
        (256, 1024, 1024 - 224, 1024),
        (256, 12_000, 10_000, 10_224),
        (11_000, 12_000, 10_000, 11_000),
    ],
)
def test_clients_leave_the_log_its_descriptors(
    soft: int, hard: int, connections: int, soft_after: int
) -> None:
    program = PROGRAM.format(soft=soft, hard=hard)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{connections} {soft_after}"
