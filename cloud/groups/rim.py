"""The group coordinator on the event loop: its clock hand, and answers as futures.

One timer stands at the coordinator's next deadline and is set anew after every request that may have moved it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog

from ...core.clock import Clock
from ...core.kafka.errors import ErrorCode
from .coordinator import GroupCoordinator, SyncRequest
from .member import Candidate, Joined, Synced

Answer = TypeVar("Answer")

_log = structlog.get_logger()


class Groups:
    def __init__(self, coordinator: GroupCoordinator, *, clock: Clock) -> None:
        self.coordinator = coordinator
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def join(self, group_id: str, candidate: Candidate) -> asyncio.Future[Joined]:
        answer: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        self.coordinator.join(group_id, candidate, _into(answer))
        self.wind()
        return answer

    def sync(self, group_id: str, request: SyncRequest) -> asyncio.Future[Synced]:
        answer: asyncio.Future[Synced] = asyncio.get_running_loop().create_future()
        self.coordinator.sync(group_id, request, _into(answer))
        self.wind()
        return answer

    def leave(self, group_id: str, member_id: str, instance_id: str | None) -> ErrorCode:
        error = self.coordinator.leave(group_id, member_id, instance_id)
        self.wind()
        return error

    def close(self) -> None:
        self.coordinator.close(ErrorCode.NOT_COORDINATOR)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wind(self) -> None:
        """Deadlines only matter when they come nearer: a timer that fires too early looks again and sets itself anew."""
        deadline = self.coordinator.next_deadline()
        if self._timer is not None:
            if deadline is not None and self._timer_at <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            pause = max(0.0, deadline - self._clock.monotonic())
            self._timer_at = deadline
            self._timer = asyncio.get_running_loop().call_later(pause, self._ring)

    def _ring(self) -> None:
        self._timer = None
        for group_id, member_id in self.coordinator.expire():
            _log.info("member left its group by time-out", group=group_id, member=member_id)
        self.wind()


def _into(answer: asyncio.Future[Answer]) -> Callable[[Answer], None]:
    def reply(value: Answer) -> None:
        if not answer.done():  # the client may have gone
            answer.set_result(value)

    return reply
