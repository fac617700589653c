"""Threads for what would block the loop and is not the disk thread's: reads of the log, checkpoints, cursors, secrets.

The loop's own pool is as large as the machine has cores, plus four, and is filled by the first moment in which as many wait
at once; so an edge of an hour has more threads than one of a minute. This one is of one size everywhere, and it is known
what it is for: replays (`edge.mqtt_limits.replay_reads_max`, 4), and one each for the checkpoint and the uplink. Who finds
none free waits for a read to end; nothing here is what an acknowledgement waits for.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

WORKERS = 6
# libuv's, which resolve names: four from the first name on (its documentation, "Thread pool work scheduling").
RESOLVERS = 4
# The loop, the disk thread, and these: what an edge has without passwords and without `sources.mqtt`.
THREADS_MAX = 2 + WORKERS + RESOLVERS


def employ() -> None:
    """For `asyncio.to_thread` on the running loop, which ends them when it is closed."""
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="edge-worker")
    asyncio.get_running_loop().set_default_executor(pool)
