"""One arena: threads that allocate in turn share a heap, and the edge asks for it before it starts any."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import uvloop

from headwater.edge import daemon
from headwater.edge.settings import EdgeSettings

_LOOK = """
import ctypes, sys, threading
from headwater.core.allocator import keep_one_arena
if sys.argv[1] == "one":
    assert keep_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(4)

def allocate():
    barrier.wait()
    for _ in range(50):
        libc.malloc(50_000)  # without the interpreter's lock, so that threads meet
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
libc.malloc_stats()
"""


def arenas(how: str) -> int:
    told = subprocess.run(
        [sys.executable, "-c", _LOOK, how], capture_output=True, text=True, check=True
    )
    return told.stderr.count("Arena ")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="not glibc")
def test_threads_share_one_arena_where_it_was_asked_for() -> None:
    assert arenas("as it is") > 1, "else this test could not fail"
    assert arenas("one") == 1


def test_the_edge_asks_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    monkeypatch.setattr(daemon, "keep_one_arena", lambda: order.append("one arena"))
    monkeypatch.setattr(daemon, "run_edge", lambda *_, **__: None)
    monkeypatch.setattr(uvloop, "run", lambda _: order.append("run"))
    daemon.main(EdgeSettings)
    assert order == ["one arena", "run"]
