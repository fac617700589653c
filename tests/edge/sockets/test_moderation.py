"""Rounds that need not hurry."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import ModuleType

from .bench import bench, until


def test_a_round_that_need_not_hurry_takes_what_comes_meanwhile(
    twin: ModuleType, run: Callable[..., None]
) -> None:
    rounds: list[int] = []
    asked: list[int] = []
    late: list[socket.socket] = []

    def patient() -> bool:
        asked.append(1)
        for peer in late:
            peer.send(b"late")
        return True

    async def main() -> None:
        async with bench(twin, lambda: rounds.append(1), patient) as b:
            (_, first, one), (_, second, two) = b.connect(), b.connect()
            one.send(b"1")
            await until(lambda: first.data)
            one.send(b"2")
            await until(lambda: len(first.data) == 2)
            assert not asked, "one alone: there may be nobody to wait for"
            one.send(b"3")
            two.send(b"3")
            await until(lambda: first.data.endswith(b"3"))
            late.append(two)
            before = len(rounds)
            one.send(b"4")
            await until(lambda: first.data.endswith(b"4"))
            late.clear()
            assert second.data.endswith(b"late")
            assert len(rounds) == before + 1

    run(main)
