"""The house kept tidy: sizes, links, who may touch the outside world, and what the edge may never import.

No exceptions list: where a rule pinches, the file has a second noun in it.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "edge", "cloud", "hardware")
SOURCES = sorted(
    path for room in (*ROOMS, "headwater") for path in (ROOT / room).rglob("*.py") if path.is_file()
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))

LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# Who may touch the outside world: everyone else is handed a clock, a disk, a store, a network, a source of chance.
# A rim is where asyncio, sockets and processes live; what it calls is synchronous and takes bytes and time.
OUTSIDE = {
    "time": ("core/clock.py", "hardware/", "headwater/demo/"),
    "datetime": (
        "cloud/lake/",
        "cloud/sink/",
        "headwater/",
        "hardware/",
        "core/journal/files/inspection.py",
    ),
    "os": (
        "core/disk.py",
        "core/config.py",
        "core/leaves.py",
        "core/objectstore/directory.py",
        "cloud/store/",
        "headwater/",
        "hardware/",
    ),
    "socket": (
        "core/kafka/keepalive.py",
        "core/kafka/reaching.py",
        "core/notify.py",
        "edge/broker/listening/listeners.py",
        "edge/broker/listening/opening.py",
        "edge/broker/listening/unixpath.py",
        "edge/sockets/",
        "cloud/broker/server.py",
        "headwater/",
    ),
    "sqlite3": ("edge/state.py",),
    "subprocess": ("headwater/", "cloud/sinkprocess.py"),
    "boto3": ("cloud/store/",),
}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def test_no_file_outgrew_proofreading() -> None:
    long = {
        _relative(path): lines
        for path in (*SOURCES, *TESTS)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert not long, f"more than {LINES_MAX} lines: look for the second noun"


def test_no_function_outgrew_proofreading() -> None:
    long = [
        f"{_relative(path)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in (*SOURCES, *TESTS)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not long


def test_every_file_opens_with_its_theory() -> None:
    silent = [_relative(p) for p in SOURCES if p.stat().st_size and not ast.get_docstring(_tree(p))]
    assert not silent


def test_only_named_places_touch_the_outside_world() -> None:
    strays = [
        f"{_relative(path)} imports {name}"
        for path in SOURCES
        for name in _imports(path)
        for module, places in OUTSIDE.items()
        if name.partition(".")[0] == module and not _relative(path).startswith(places)
    ]
    assert not strays


def test_rooms_are_imported_by_their_full_name() -> None:
    """The current folder makes bare `core` importable in a checkout; an installed package has no such thing."""
    bare = [
        f"{_relative(path)} imports {name}"
        for path in (*SOURCES, *TESTS)
        for name in _imports(path)
        if name.partition(".")[0] in ROOMS
    ]
    assert not bare


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert not [_relative(path) for path in (*SOURCES, *TESTS) if path.stem in VAGUE_NAMES]


def test_nothing_is_left_to_do_in_the_source() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "raise Not" + "Implemented")
    left = [
        f"{_relative(path)}:{number} {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(mark in line for mark in marks)
    ]
    assert not left


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_one_folder_with_two_names(room: str) -> None:
    assert (ROOT / "headwater" / room).is_symlink()
    assert (ROOT / "headwater" / room).samefile(ROOT / room)
    assert (ROOT / room / "README.md").is_file(), "a room says what may live in it"


def test_nothing_named_core_reaches_site_packages(tmp_path: Path) -> None:
    look = f"import importlib.util as u; print([n for n in {ROOMS!r} if u.find_spec(n)])"
    out = subprocess.run(
        [sys.executable, "-I", "-c", look], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["headwater.edge.daemon", "headwater.commands.edge"])
def test_the_edge_never_loads_what_only_the_cloud_needs(module: str, tmp_path: Path) -> None:
    assert importlib.util.find_spec("pyarrow"), "else this test could not fail"
    heavy = ("pyarrow", "boto3", "botocore", "duckdb", "deltalake", "cramjam", "headwater.cloud")
    look = (
        f"import sys, {module}; "
        f"print([n for n in {heavy!r} if n in sys.modules], 'asyncio' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-c", look], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert out.stdout.split(" ")[0] == "[]", out.stdout


def test_an_edge_carries_only_what_it_was_told_to_use(tmp_path: Path) -> None:
    """Neither an uplink, nor passwords, nor a bridge: each is imported when the settings ask for it."""
    heavy = (
        *("headwater.core.kafka.messages", "headwater.edge.uplink.session", "paho", "argon2"),
        *("headwater.edge.broker.listening.websocket", "sqlite3"),
    )
    modules = "headwater.edge.daemon, headwater.edge.status, headwater.edge.metrics"
    look = (
        f"import sys; sys.modules['rich'] = None; import headwater.core.logs, {modules}; "
        f"print([n for n in {heavy!r} if n in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-c", look], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
