"""What the broker needs of the journal and its committer: the narrow side of `core/journal/files`.

Tests stand a journal in memory behind these names; the daemon the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...core.journal.reading import Bounds
from ...core.record import Headers, TopicPartition


class PartitionWriter(Protocol):
    @property
    def early(self) -> bool:
        """Its stream's owner chose to have records acknowledged before they are on disk."""

    @property
    def passed(self) -> bool:
        """The record appended last may be acknowledged now. Never where `early` is false."""

    @property
    def volatile(self) -> bool:
        """What passed is in memory alone: no commit need have it."""

    def hurry(self) -> None:
        """Somebody waits for the commit of what was appended, although its stream does not."""

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> int:
        """The record's offset; it is durable when `open_commit` is. Raises Refused, Unavailable, Closed."""


class Journal(Protocol):
    @property
    def open_commit(self) -> int:
        """The number of the commit that takes the next append."""

    @property
    def pending_bytes(self) -> int:
        """Appended and not yet durable."""

    @property
    def overfull(self) -> bool:
        """More is waiting for the disk than its limit: stop reading sockets."""

    def writer(self, tp: TopicPartition, /) -> PartitionWriter: ...
    def note(self, kind: int, payload: bytes, /) -> int:
        """Opaque state into the open commit, whose number is returned. Kinds: notes.py."""

    def before_seal(self, hook: Callable[[int], None], /) -> None:
        """`hook(commit)` just before each commit is sealed: the last moment for a note of it."""

    def partitions(self) -> list[TopicPartition]: ...
    def bounds(self, tp: TopicPartition, /) -> Bounds: ...
    def unsettled(self) -> list[tuple[TopicPartition, int]]:
        """Partitions with records that are not durable yet, and their next offsets."""


class Committer(Protocol):
    @property
    def durable(self) -> int:
        """The highest commit number that is on disk."""

    @property
    def stalled(self) -> str | None:
        """Why the disk refuses, while it does."""

    @property
    def gathering(self) -> bool:
        """It waits for company: who reads sockets may take many at once."""

    def request(self) -> None:
        """There is something to commit."""

    def add_listener(self, listener: Callable[[int], None], /) -> None:
        """`listener(commit)` whenever `durable` has moved to `commit`."""
