"""A small heap: threads that allocate in turn share an arena, large buffers go back to the system; the edge asks for both
before it starts any."""

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
from headwater.core.allocator import keep_heap_small
if sys.argv[1] == "one":
    assert keep_heap_small()
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


_LARGE = """
import ctypes, sys
from headwater.core.allocator import keep_heap_small
if sys.argv[1] == "small":
    assert keep_heap_small()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]
libc.mallinfo2.restype = Info
before = libc.mallinfo2().hblks
libc.free(libc.malloc(4 << 20))
libc.malloc(1 << 20)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc 2.33")
def test_a_large_buffer_has_pages_of_its_own_also_after_a_larger_one() -> None:
    def mapped(how: str) -> int:
        command = [sys.executable, "-c", _LARGE, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert mapped("as it is") == 0, "else this test could not fail"
    assert mapped("small") == 1


def test_the_edge_asks_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    monkeypatch.setattr(daemon, "keep_heap_small", lambda: order.append("small heap"))
    monkeypatch.setattr(daemon, "run_edge", lambda *_, **__: None)
    monkeypatch.setattr(uvloop, "run", lambda _: order.append("run"))
    daemon.main(EdgeSettings)
    assert order == ["small heap", "run"]
