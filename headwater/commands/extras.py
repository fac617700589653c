"""What a sub-command needs beyond the edge's packages, said before it fails somewhere inside."""

from __future__ import annotations

import importlib.util

from ..core.errors import Refused

CLOUD = ("pyarrow", "boto3", "duckdb", "cramjam")


def need_cloud() -> None:
    """Raises Refused with the command that helps where only the edge is installed."""
    absent = [name for name in CLOUD if importlib.util.find_spec(name) is None]
    if absent:
        raise Refused(
            f"this command needs {', '.join(absent)}", hint="pip install 'headwater[cloud]'"
        )
