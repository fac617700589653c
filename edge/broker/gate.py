"""What waits for the disk: acknowledgements of clients and messages to subscribers, each for its commit.

The rule of this product stands here: nothing passes before `on_durable(n)` says that commit n is on disk, and then
everything of the commits up to n passes, in order; but for messages of streams whose owner chose another durability, which
pass as soon as the journal says that they may (`pass_message`). On each release messages go first, so that whoever reads an
acknowledgement may expect that subscribers were served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .journal import Committer, Journal
from .messages import Message
from .plain import Held, OpenGate, Waiter, release_all


class Promise:
    """Something said to one client when what it says is durable."""

    __slots__ = ("_keep",)

    def __init__(self, keep: Callable[[], None]) -> None:
        self._keep = keep

    def release(self, commit: int) -> None:
        self._keep()


class Gate(OpenGate):
    __slots__ = ("_committer", "_deliver", "_held", "_journal", "_passing", "due")

    def __init__(
        self, journal: Journal, committer: Committer, deliver: Callable[[Message], None]
    ) -> None:
        super().__init__()
        self._journal = journal
        self._committer = committer
        self._deliver = deliver
        self._held: deque[Held] = deque()
        self._passing: list[Message] = []
        # of all messages here: deliveries, those of large ones counted as several. All of a commit are made in one go, so
        # the broker lets no more come than take some hundredths of a second.
        self.due = 0
        journal.before_seal(self._sealing)

    @property
    def commit(self) -> int:
        return self._journal.open_commit

    @property
    def durable(self) -> int:
        return self._committer.durable

    def begin(self) -> Held:
        """What waits for the open commit."""
        held = self.open
        if held is None:
            held = self.open = Held(self._journal.open_commit)
            self._held.append(held)
        return held

    def _sealing(self, commit: int) -> None:
        self.open = None

    def wait(self, waiter: Waiter) -> int:
        """Call `waiter.release(n)` when the open commit n is durable; returns n. Once per waiter and commit."""
        held = self.begin()
        held.waiters.append(waiter)
        return held.commit

    def wait_for(self, waiter: Waiter, commit: int) -> None:
        """The same for a commit that is sealed and not durable yet."""
        index = len(self._held)
        while index and self._held[index - 1].commit > commit:
            index -= 1
        if not index or self._held[index - 1].commit < commit:
            self._held.insert(index, Held(commit))
            index += 1
        self._held[index - 1].waiters.append(waiter)

    def promise(self, commit: int, keep: Callable[[], None]) -> None:
        """Call `keep` when `commit`, the open one or an older one, is durable; now, where it is."""
        if commit <= self.durable:
            keep()
        elif commit == self._journal.open_commit:
            self.wait(Promise(keep))
        else:
            self.wait_for(Promise(keep), commit)

    def wait_message(self, message: Message, targets: int = 1) -> None:
        held = self.begin()
        held.messages.append(message)
        due = targets * (1 + (len(message.payload) >> 12))
        held.due += due
        self.due += due

    def pass_message(self, message: Message) -> None:
        """Its stream's owner chose not to wait for the disk: it leaves with the next `pass_all`."""
        self._passing.append(message)

    def pass_all(self) -> None:
        """When the client that published has been read, so that a delivery meets nobody half-way through a packet."""
        if self._passing:
            passing, self._passing = self._passing, []
            for message in passing:
                self._deliver(message)

    def on_durable(self, commit: int) -> None:
        """The committer's word. The only place from which anything leaves."""
        held = self._held
        while held and held[0].commit <= commit:
            done = held.popleft()
            if done is self.open:
                self.open = None
            self.due -= done.due
            for message in done.messages:
                self._deliver(message)
            release_all(done.waiters, done.commit)
