"""The C library's allocator, told that this is one process with a small heap.

glibc gives each thread that allocates an arena of its own, up to eight for each core, and what is freed in an arena
is not given back while anything above it lives. An edge's threads (journal, SQLite, TLS, compression, reads) take turns with
buffers of hundreds of kilobytes, so every arena grows to the largest that its thread ever needed: under the mixed load
of `make soak` resident memory reached 103 MiB in 18 minutes where Python's own objects were 24, and 68 in 11 with one
arena. Threads contend little for it: most hold the interpreter's lock when they allocate.

Large buffers come from pages of their own, given back when they are freed, but only until the first of them is: glibc then
raises that limit to its size (up to 32 MiB), and a segment of 4 MiB that is read once leaves all later buffers in the heap,
between what lives on. Half an hour of `make soak` had 29 MiB of heap so, of which 13 in use. A limit that was set stays.

Knows nothing but glibc; where there is another C library nothing happens.
"""

from __future__ import annotations

import ctypes

# mallopt(3)
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# Pages of its own cost a buffer some 0.1 us a KiB: nothing beside what is done with so much.
LARGE_BYTES = 256 * 1024


def keep_heap_small() -> bool:
    """To be called before the first thread starts; whether the C library took it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    one = mallopt(ctypes.c_int(_M_ARENA_MAX), ctypes.c_int(1))
    fixed = mallopt(ctypes.c_int(_M_MMAP_THRESHOLD), ctypes.c_int(LARGE_BYTES))
    return bool(one and fixed)
