from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from headwater.edge.daemon import Edge, run_edge
from headwater.edge.workers import WORKERS
from tests.edge.test_daemon import settings


def test_however_many_wait_the_threads_of_an_edge_are_counted(tmp_path: Path) -> None:
    busy: set[str] = set()
    all_came = threading.Barrier(WORKERS + 1, timeout=20)

    def work() -> None:
        busy.add(threading.current_thread().name)
        all_came.wait()

    async def crowd(stop: asyncio.Event) -> None:
        many = [asyncio.create_task(asyncio.to_thread(work)) for _ in range(5 * WORKERS)]
        for _ in range(5):  # no barrier opens with fewer threads than there are workers
            await asyncio.sleep(0.05)
            await asyncio.get_running_loop().run_in_executor(helper, all_came.wait)
        await asyncio.gather(*many)
        stop.set()

    async def scenario() -> None:
        stop = asyncio.Event()
        crowds: list[asyncio.Task[None]] = []

        def ready(edge: Edge) -> None:
            crowds.append(asyncio.create_task(crowd(stop)))

        await run_edge(settings(tmp_path), stop=stop, on_ready=ready)
        await crowds[0]

    with ThreadPoolExecutor(1, thread_name_prefix="helper") as helper:
        uvloop.run(scenario())
    assert len(busy) == WORKERS, busy
    assert all(name.startswith("edge-worker") for name in busy), busy
