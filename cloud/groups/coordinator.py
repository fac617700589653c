"""The group coordinator: every group of one node, its requests judged, its time-outs kept.

Membership lives in memory alone: after a restart members are unknown, are told so by their next heartbeat, and join
again. What must survive, committed offsets, is in the shard's log (cloud/broker/state.py), not here.

Sans-I/O: answers that must wait are callables given with the request; the rim calls `expire()` at `next_deadline()`.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from typing import NamedTuple

from ...core.clock import Clock
from ...core.kafka.errors import ErrorCode
from .group import Group, GroupState
from .member import Candidate, Joined, JoinReply, Synced, SyncReply
from .settings import GroupSettings


class SyncRequest(NamedTuple):
    member_id: str
    instance_id: str | None
    generation: int
    protocol_type: str | None
    protocol: str | None
    assignments: list[tuple[str, bytes]]


class GroupCoordinator:
    def __init__(self, settings: GroupSettings, *, clock: Clock, rng: random.Random) -> None:
        self.settings = settings
        self._clock = clock
        self._rng = rng
        self._groups: dict[str, Group] = {}

    # -- questions

    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def group(self, group_id: str) -> Group | None:
        return self._groups.get(group_id)

    def has_members(self, group_id: str) -> bool:
        group = self._groups.get(group_id)
        return group is not None and bool(group.members)

    def next_deadline(self) -> float | None:
        """By the monotonic clock."""
        deadlines = [d for g in self._groups.values() if (d := g.next_deadline()) is not None]
        return min(deadlines, default=None)

    # -- requests

    def join(self, group_id: str, candidate: Candidate, reply: JoinReply) -> None:
        error = self._check_candidate(group_id, candidate)
        group = self._groups.get(group_id)
        if error is ErrorCode.NONE and group is None:
            if candidate.member_id:
                error = ErrorCode.UNKNOWN_MEMBER_ID
            elif len(self._groups) >= self.settings.groups_max:
                error = ErrorCode.COORDINATOR_NOT_AVAILABLE
        if error is not ErrorCode.NONE:
            reply(Joined(error=error, member_id=candidate.member_id))
            return
        if group is None:
            group = self._groups[group_id] = Group(
                group_id, rebalance_delay_s=self.settings.rebalance_delay
            )
        if candidate.member_id:
            self._join_known(group, candidate, reply)
        else:
            self._join_new(group, candidate, reply)
        self._drop_if_unused(group)

    def sync(self, group_id: str, request: SyncRequest, reply: SyncReply) -> None:
        now = self._clock.monotonic()
        group = self._groups.get(group_id)
        if group is None:
            reply(Synced(error=ErrorCode.UNKNOWN_MEMBER_ID))
            return
        error = self._check_generation(
            group, request.member_id, request.instance_id, request.generation
        )
        if error is ErrorCode.NONE and not (
            request.protocol_type in {None, group.protocol_type}
            and request.protocol in {None, group.protocol}
        ):
            error = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if error is ErrorCode.NONE and group.state is GroupState.PREPARING:
            error = ErrorCode.REBALANCE_IN_PROGRESS
        if error is not ErrorCode.NONE:
            reply(Synced(error=error))
            return
        member = group.members[request.member_id]
        member.touch(now)
        if group.state is GroupState.STABLE:
            reply(group.synced(member))
            return
        member.answer_sync(Synced(error=ErrorCode.REBALANCE_IN_PROGRESS), now)  # a resent request
        member.sync_reply = reply
        if group.leader == member.member_id:
            group.assign(request.assignments, now)

    def heartbeat(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> ErrorCode:
        group = self._groups.get(group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        error = self._check_generation(group, member_id, instance_id, generation)
        if error is not ErrorCode.NONE:
            return error
        group.members[member_id].touch(self._clock.monotonic())
        if group.state is GroupState.PREPARING:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def leave(self, group_id: str, member_id: str, instance_id: str | None) -> ErrorCode:
        """A static member may be removed by its instance id alone (an administrator does)."""
        group = self._groups.get(group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if not member_id and instance_id is not None:
            member_id = group.static_member(instance_id) or ""
        if member_id not in group.pending:
            error = group.check(member_id, instance_id)
            if error is not ErrorCode.NONE:
                return error
        group.remove(member_id, self._clock.monotonic())
        self._drop_if_unused(group)
        return ErrorCode.NONE

    def check_commit(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> ErrorCode:
        """Whether offsets may be committed: by a member of this generation, or by anyone where nobody is a member."""
        if not group_id:
            return ErrorCode.INVALID_GROUP_ID
        group = self._groups.get(group_id)
        if group is None or not group.members:
            return ErrorCode.NONE if generation < 0 else ErrorCode.ILLEGAL_GENERATION
        error = self._check_generation(group, member_id, instance_id, generation)
        if error is not ErrorCode.NONE:
            return error
        group.members[member_id].touch(self._clock.monotonic())
        if group.state is GroupState.COMPLETING:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def expire(self) -> list[tuple[str, str]]:
        """What time has brought: (group, member) of those dropped."""
        now = self._clock.monotonic()
        dropped: list[tuple[str, str]] = []
        for group in list(self._groups.values()):
            dropped += ((group.group_id, member_id) for member_id in group.expire(now))
            self._drop_if_unused(group)
        return dropped

    def close(self, error: ErrorCode) -> None:
        """The node gives its groups up: everyone who waits is told to look for the coordinator again."""
        now = self._clock.monotonic()
        for group in self._groups.values():
            for member in group.members.values():
                member.answer_join(Joined(error=error, member_id=member.member_id), now)
                member.answer_sync(Synced(error=error), now)
        self._groups.clear()

    # -- inside

    def _check_candidate(self, group_id: str, candidate: Candidate) -> ErrorCode:
        settings = self.settings
        if not group_id:
            return ErrorCode.INVALID_GROUP_ID
        lowest, highest = settings.session_timeout_min, settings.session_timeout_max
        if not lowest <= candidate.session_timeout_s <= highest:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        size = sum(len(protocol.metadata) for protocol in candidate.protocols)
        if size > settings.member_metadata_bytes_max:
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        return ErrorCode.NONE

    def _join_new(self, group: Group, candidate: Candidate, reply: JoinReply) -> None:
        now = self._clock.monotonic()
        member_id = f"{candidate.instance_id or candidate.client_id}-{self._draw_id()}"
        replacing = candidate.instance_id and group.static_member(candidate.instance_id)
        if not group.accepts(candidate, replacing=replacing or None):
            reply(Joined(error=ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
        elif replacing:
            group.replace_static(candidate, member_id, reply, now)
        elif len(group.members) + len(group.pending) >= self.settings.members_max:
            reply(Joined(error=ErrorCode.GROUP_MAX_SIZE_REACHED))
        elif candidate.must_know_id and candidate.instance_id is None:
            group.pending[member_id] = now + candidate.session_timeout_s
            reply(Joined(error=ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id))
        else:
            group.add(candidate, member_id, reply, now)

    def _join_known(self, group: Group, candidate: Candidate, reply: JoinReply) -> None:
        now = self._clock.monotonic()
        member_id = candidate.member_id
        pending = member_id in group.pending
        error = ErrorCode.NONE if pending else group.check(member_id, candidate.instance_id)
        if error is ErrorCode.NONE and not group.accepts(candidate, replacing=member_id):
            error = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if error is not ErrorCode.NONE:
            reply(Joined(error=error, member_id=member_id))
        elif pending:
            group.add(candidate, member_id, reply, now)
        else:
            group.rejoin(candidate, reply, now)

    def _check_generation(
        self, group: Group, member_id: str, instance_id: str | None, generation: int
    ) -> ErrorCode:
        error = group.check(member_id, instance_id)
        if error is ErrorCode.NONE and generation != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        return error

    def _drop_if_unused(self, group: Group) -> None:
        if group.state is GroupState.EMPTY and not group.members and not group.pending:
            self._groups.pop(group.group_id, None)

    def _draw_id(self) -> uuid.UUID:
        return uuid.UUID(int=self._rng.getrandbits(128), version=4)


def members_of(groups: Iterable[Group]) -> int:
    return sum(len(group.members) for group in groups)
