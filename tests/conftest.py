"""Two workers side by side (`make test`): a file's tests stay together, since they share what its fixtures made.

All that talk with Apache Kafka are one group: a cluster of it takes seconds to start, and one serves them all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_APACHE = _HERE / "interop" / "apache"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        together = _APACHE if _APACHE in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(together.relative_to(_HERE).as_posix()))
