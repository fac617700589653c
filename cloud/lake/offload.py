"""Where long computations run: a worker thread in the daemon, in place where time is simulated (no threads there)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Offload(Protocol):
    async def __call__(self, work: Callable[[], T], /) -> T: ...


async def in_thread(work: Callable[[], T], /) -> T:
    return await asyncio.to_thread(work)


async def in_place(work: Callable[[], T], /) -> T:
    return work()
