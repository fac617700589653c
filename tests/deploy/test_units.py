"""The systemd units: accepted and judged hardened by systemd's own tools, and true to the settings they run with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.cli import EXIT_CONFIG
from headwater.core.units import MIB, ByteSize
from headwater.edge.settings import EdgeSettings
from tests.requirements import missing

UNITS = sorted((Path(__file__).resolve().parents[2] / "deploy" / "systemd").glob("*.service"))
EDGE = next(unit for unit in UNITS if unit.stem == "headwater-edge")
EXPOSURE_TENTHS_MAX = 25

every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("systemd-analyze is not here", installable=False)
    assert program is not None
    return subprocess.run([program, *arguments], capture_output=True, text=True)


def system_calls(filters: list[str]) -> set[str]:
    """What a list of SystemCallFilter= lines allows, read in order as systemd does."""
    allowed: set[str] = set()
    for line in filters:
        names = {call for name in line.removeprefix("~").split() for call in resolve(name)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def resolve(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    done = analyze("syscall-filter", "--no-pager", name)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {call for line in lines if line and line[0] != "#" for call in resolve(line)}


@every_unit
def test_systemd_accepts_every_line(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/headwater/bin/headwater", sys.executable))
    done = analyze("verify", "--man=no", str(copy))
    if "Failed to" in done.stderr and "manager" in done.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr.strip()}")
    ours = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert not ours


@every_unit
def test_systemd_finds_little_exposed(unit: Path) -> None:
    done = analyze(
        *("security", "--no-pager", "--offline=true"),
        *(f"--threshold={EXPOSURE_TENTHS_MAX}", str(unit)),
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@every_unit
def test_a_wrong_configuration_alone_is_not_tried_again(unit: Path) -> None:
    found = settings(unit)
    assert found["RestartPreventExitStatus"] == [str(EXIT_CONFIG)]
    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"]


@every_unit
def test_nothing_waits_for_a_network_or_a_clock(unit: Path) -> None:
    found = settings(unit)
    waits = " ".join(
        value for key in ("After", "Wants", "Requires") for value in found.get(key, [])
    )
    assert not re.search(r"network-online|time-sync", waits)


def test_the_edge_may_ask_about_the_clock_and_not_set_it() -> None:
    found = settings(EDGE)
    allowed = system_calls(found["SystemCallFilter"])
    assert {"adjtimex", "fdatasync", "pwrite64", "fallocate", "epoll_wait"} <= allowed
    assert not {"clock_settime", "settimeofday", "mount", "init_module", "reboot"} & allowed
    assert found["CapabilityBoundingSet"] == [""]
    assert "ProtectClock" not in found, "it would forbid adjtimex again"
    assert "ProcSubset" not in found, "it would hide the boot id"


def test_the_edges_memory_limit_has_room_for_its_own_limits() -> None:
    edge = EdgeSettings()
    own = (
        edge.uplink_options.memory_bytes_max
        + edge.journal.pending_bytes_max
        + edge.mqtt_limits.retained_bytes_max
        + edge.mqtt_limits.replay_memory_max
    )
    limit = ByteSize.parse(settings(EDGE)["MemoryHigh"][0].replace("M", "MiB"))
    assert 40 * MIB + own < limit


def test_the_edge_has_time_to_drain_before_systemd_kills_it() -> None:
    assert EdgeSettings().drain_timeout < int(settings(EDGE)["TimeoutStopSec"][0])
