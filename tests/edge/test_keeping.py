"""When what the broker keeps is written out, at the rim."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from headwater.core.disk import SystemDisk
from headwater.edge import keeping
from headwater.edge.keeping import Keeping


class Commits:
    """A committer that only tells of commits."""

    def __init__(self) -> None:
        self.tell: Callable[[int], None] = lambda commit: None

    def add_listener(self, listener: Callable[[int], None]) -> None:
        self.tell = listener


class Due:
    """Checkpoints of which one is due from some commit on."""

    due = False

    def __init__(self) -> None:
        self.made = asyncio.Event()

    async def round(self) -> bool:
        self.due = False
        self.made.set()
        return True


def test_a_checkpoint_is_made_at_the_commit_that_makes_it_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "LOOK_S", 3600.0)

    async def main() -> None:
        commits, due = Commits(), Due()
        kept = Keeping(cast("Any", None), cast("Any", commits), SystemDisk(), str(tmp_path))
        kept.checkpoints = cast("Any", due)
        running = asyncio.create_task(kept.run())
        commits.tell(1)
        await asyncio.sleep(0)
        assert not due.made.is_set()
        due.due = True
        commits.tell(2)
        async with asyncio.timeout(20):
            await due.made.wait()
        running.cancel()

    asyncio.run(main())
