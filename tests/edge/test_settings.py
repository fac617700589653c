"""Settings of an edge: a value out of its range is said at the start, with file and key, not met at three in the morning."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.core import config
from headwater.core.errors import Misconfigured
from headwater.edge.settings import EdgeSettings

NOT_ZERO = (
    "mqtt_limits.connections_max",
    "mqtt_limits.sessions_max",
    "mqtt_limits.subscriptions_max",
    "mqtt_limits.filter_levels_max",
    "mqtt_limits.inflight_bytes_max",
    "mqtt_limits.burst_messages_max",
    "mqtt_limits.burst_bytes_max",
    "mqtt_limits.replay_memory_max",
    "mqtt_limits.replay_read_bytes",
    "mqtt_limits.write_buffer_max",
    "mqtt_limits.checkpoint_bytes",
    "mqtt_limits.connect_timeout",
    "mqtt_limits.progress_interval",
    "mqtt_limits.evidence_quiet",
    "mqtt_limits.checkpoint_interval",
    "journal.stall_pause",
    "time.anchor_interval",
    "uplink_options.request_timeout",
    "uplink_options.backoff_first",
    "uplink_options.backoff_max",
    "uplink_options.keepalive",
    "uplink_options.replication_factor",
)
# What a negative number would be of, but for -1 (the cluster's default) and zstd's fast levels.
MAY_BE_NEGATIVE = {"uplink_options.replication_factor", "uplink_options.compression_level"}


def _check(tmp_path: Path, key: str, value: str) -> None:
    """As the daemon does at its start. Raises Misconfigured."""
    table, _, name = f"edge.{key}".rpartition(".")
    file = tmp_path / "headwater.toml"
    file.write_text(f"[{table}]\n{name} = {value}\n")
    loaded = config.load(EdgeSettings, section="edge", file=file, environ={}, flags={})
    with config.located("edge", loaded.origins):
        loaded.value.check()


@pytest.mark.parametrize("key", NOT_ZERO)
def test_zero_is_refused_where_nothing_would_work_with_it(tmp_path: Path, key: str) -> None:
    with pytest.raises(Misconfigured, match=key.rpartition(".")[2]):
        _check(tmp_path, key, "0")


def test_no_number_of_things_bytes_or_seconds_is_negative(tmp_path: Path) -> None:
    for field in config.fields(EdgeSettings):
        if isinstance(field.default, bool) or not isinstance(field.default, int | float):
            continue
        if field.key not in MAY_BE_NEGATIVE:
            with pytest.raises(Misconfigured, match=field.key.rpartition(".")[2]):
                _check(tmp_path, field.key, "-1")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data_dir", '""'),
        ("journal.commit_interval", '"2h"'),
        ("uplink_options.compression_level", "23"),
        ("uplink_options.replication_factor", "-2"),
        ("uplink_options.linger_priority", "11"),
        ("uplink_options.shaping.reserve_priority", "11"),
        ("uplink_options.shaping.window_priority", "11"),
    ],
)
def test_what_is_out_of_range_is_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=key.rpartition(".")[2]) as caught:
        _check(tmp_path, key, value)
    assert "headwater.toml" in str(caught.value)
