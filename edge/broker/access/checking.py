"""Passwords verified away from the loop, a bounded number at a time, and remembered for a while.

A verification takes tens of milliseconds of CPU and some MiB of memory on purpose. So: it happens on few threads; what
waits for them is bounded, beyond that a client is told to come back later; and an answer is remembered under a keyed
hash of (user, password, line of the file) for some minutes, so that a site that reconnects after a power cut costs one
verification for each user and not one for each connection and retry. The key is random and lives as long as the process;
a changed line is another question, so a changed password is never answered from memory. Refusals are remembered like
successes: a device with a wrong password that comes back every second costs nothing either.

Who calls `check` is called back on the loop: `post` hands a call over to it (loop.call_soon_threadsafe).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ....core.clock import Clock

if TYPE_CHECKING:
    from .passwords import Passwords

Post = Callable[[Callable[[], None]], object]
Done = Callable[[bool], None]

# Answers held; each about 200 bytes. Beyond it the oldest goes, which costs a verification and nothing else.
REMEMBERED_MAX = 4096


class Busy(Exception):
    """More verifications wait than are allowed."""


class Checker:
    def __init__(
        self,
        *,
        threads: int,
        waiting_max: int,
        remember_s: float,
        clock: Clock,
        key: bytes,
        post: Post,
    ) -> None:
        self._threads = threads
        self._waiting_max = waiting_max
        self._remember_s = remember_s
        self.clock = clock
        self._key = key
        self._post = post
        self._pool: ThreadPoolExecutor | None = None
        self._known: dict[bytes, tuple[float, bool]] = {}
        # several clients with one question wait for one verification
        self._asked: dict[bytes, list[Done]] = {}
        self.verifications = 0

    @property
    def waiting(self) -> int:
        return sum(len(each) for each in self._asked.values())

    def remembered(self, passwords: Passwords, user: str, password: bytes) -> bool | None:
        """The answer, where it is remembered."""
        known = self._known.get(self._question(user, password, passwords.line(user)))
        return known[1] if known is not None and known[0] > self.clock.monotonic() else None

    def check(self, passwords: Passwords, user: str, password: bytes, done: Done) -> bool | None:
        """The answer where it is remembered; else None, and `done(answer)` on the loop later. Raises Busy."""
        known = self.remembered(passwords, user, password)
        if known is not None:
            return known
        line = passwords.line(user)
        question = self._question(user, password, line)
        if self.waiting >= self._waiting_max:
            raise Busy
        if question in self._asked:
            self._asked[question].append(done)
            return None
        self._asked[question] = [done]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="passwords")

        def verify() -> None:
            answer = False
            try:
                answer = passwords.verifies(line, password)
            finally:  # whatever happens to a thread, nobody waits for ever
                self._post(lambda: self._answered(question, is_right=answer))

        self._pool.submit(verify)
        return None

    def _answered(self, question: bytes, *, is_right: bool) -> None:
        self.verifications += 1
        known = self._known
        known.pop(question, None)  # the newest stand last
        while len(known) >= REMEMBERED_MAX:
            del known[next(iter(known))]
        if self._remember_s > 0:
            known[question] = (self.clock.monotonic() + self._remember_s, is_right)
        for done in self._asked.pop(question, ()):
            done(is_right)

    def change(self, *, threads: int, waiting_max: int, remember_s: float) -> None:
        """Other limits from now on; what is being verified is answered all the same."""
        if threads != self._threads and self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
        self._threads = threads
        self._waiting_max = waiting_max
        self._remember_s = remember_s

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _question(self, user: str, password: bytes, line: str) -> bytes:
        mac = hashlib.blake2b(key=self._key, digest_size=32)
        for part in (user.encode(), line.encode(), password):
            mac.update(len(part).to_bytes(4, "big"))
            mac.update(part)
        return mac.digest()
