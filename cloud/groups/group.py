"""One consumer group: the state table of Kafka's classic group protocol.

  EMPTY       no members; committed offsets may remain
  PREPARING   a rebalance has begun: members are asked (by heartbeat) to join again; joins wait
  COMPLETING  everyone has joined and has the new generation; syncs wait for the leader's assignment
  STABLE      assignments are out; heartbeats, commits

  EMPTY ── join ──▶ PREPARING ── all joined, or time is up ──▶ COMPLETING ── leader syncs ──▶ STABLE
                        ▲  ◀── join, leave, expiry, changed subscription ──────┴──────────────────┘

The first rebalance of an empty group waits `rebalance_delay`, and again as long as newcomers arrive, so that a fleet
starting together is assigned once. Later ones end as soon as every member has joined; members that do not come back
within the longest rebalance timeout are dropped. The group knows nothing of sockets: waiting answers are callables.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable

from ...core.kafka.errors import ErrorCode
from .member import Candidate, Joined, JoinedMember, JoinReply, Member, Synced


class GroupState(enum.Enum):
    """The values are Kafka's names in DescribeGroups and ListGroups."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Group:
    def __init__(self, group_id: str, *, rebalance_delay_s: float) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        # ids given out by MEMBER_ID_REQUIRED and not used yet, with the time until which they hold
        self.pending: dict[str, float] = {}
        self._static: dict[str, str] = {}
        self._rebalance_delay_s = rebalance_delay_s
        self._rebalance_ends: float | None = None
        self._rebalance_limit = 0.0  # set when the initial delay may still be extended
        self._newcomers = False

    # -- questions

    def next_deadline(self) -> float | None:
        deadlines = [member.expires_at for member in self.members.values() if not member.waits]
        deadlines += self.pending.values()
        if self._rebalance_ends is not None:
            deadlines.append(self._rebalance_ends)
        return min(deadlines, default=None)

    def accepts(self, candidate: Candidate, *, replacing: str | None = None) -> bool:
        """Whether some protocol is known to every other member and to this candidate."""
        others = [m for member_id, m in self.members.items() if member_id != replacing]
        if not candidate.protocol_type or not candidate.protocols:
            return False
        if not others:
            return True
        if candidate.protocol_type != self.protocol_type:
            return False
        common = {protocol.name for protocol in candidate.protocols}
        return bool(common & _common_protocols(others))

    def static_member(self, instance_id: str) -> str | None:
        return self._static.get(instance_id)

    def check(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """Whether this member may speak for itself."""
        if instance_id is not None and (known := self._static.get(instance_id)) is not None:
            return ErrorCode.NONE if known == member_id else ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    # -- joining

    def add(self, candidate: Candidate, member_id: str, reply: JoinReply, now: float) -> None:
        self.pending.pop(member_id, None)
        self.members[member_id] = Member.joining(candidate, member_id, reply, now)
        if candidate.instance_id is not None:
            self._static[candidate.instance_id] = member_id
        self.protocol_type = candidate.protocol_type
        self._newcomers = True
        self.rebalance(now)

    def rejoin(self, candidate: Candidate, reply: JoinReply, now: float) -> None:
        """A known member joins again. Only a change, or the leader, makes it a rebalance."""
        member = self.members[candidate.member_id]
        changed = member.protocols != candidate.protocols
        member.answer_join(Joined(error=ErrorCode.REBALANCE_IN_PROGRESS), now)  # a resent request
        member.protocols = candidate.protocols
        member.session_timeout_s = candidate.session_timeout_s
        member.rebalance_timeout_s = candidate.rebalance_timeout_s
        member.join_reply = reply
        if self.state is GroupState.PREPARING:
            self._maybe_complete(now)
        elif changed or (self.state is GroupState.STABLE and self.leader == candidate.member_id):
            self.rebalance(now)
        else:
            member.answer_join(self._joined(member), now)

    def replace_static(
        self, candidate: Candidate, member_id: str, reply: JoinReply, now: float
    ) -> None:
        """A static member came back under a new id: it takes the old one's place, who is fenced (KIP-345)."""
        assert candidate.instance_id is not None
        old_id = self._static[candidate.instance_id]
        old = self.members.pop(old_id)
        fenced = ErrorCode.FENCED_INSTANCE_ID
        old.answer_join(Joined(error=fenced, member_id=old_id), now)
        old.answer_sync(Synced(error=fenced), now)
        unchanged = old.protocols == candidate.protocols
        was_leader = self.leader == old_id
        if was_leader:
            self.leader = member_id
        self.members[member_id] = Member.joining(
            candidate, member_id, reply, now, assignment=old.assignment
        )
        self._static[candidate.instance_id] = member_id
        if self.state is GroupState.STABLE and unchanged and not was_leader:
            member = self.members[member_id]
            member.answer_join(self._joined(member), now)
        else:
            self.rebalance(now)

    def rebalance(self, now: float) -> None:
        """Begin a rebalance, or go on with the one that runs."""
        if self.state is GroupState.PREPARING:
            self._maybe_complete(now)
            return
        if self.state is GroupState.EMPTY:
            longest = max((m.rebalance_timeout_s for m in self.members.values()), default=0.0)
            self._rebalance_limit = now + max(longest, self._rebalance_delay_s)
            self._rebalance_ends = now + self._rebalance_delay_s
        else:
            self._rebalance_limit = 0.0
            self._rebalance_ends = now + max(
                (m.rebalance_timeout_s for m in self.members.values()), default=0.0
            )
            for member in self.members.values():
                member.assignment = b""
                if member.sync_reply is not None:
                    member.answer_sync(Synced(error=ErrorCode.REBALANCE_IN_PROGRESS), now)
        self.state = GroupState.PREPARING
        self._newcomers = False
        self._maybe_complete(now)

    # -- syncing

    def assign(self, assignments: Iterable[tuple[str, bytes]], now: float) -> None:
        """The leader's word: the group is stable, everyone who waits is answered."""
        given = dict(assignments)
        self.state = GroupState.STABLE
        for member in self.members.values():
            member.assignment = given.get(member.member_id, b"")
        for member in list(self.members.values()):
            if member.sync_reply is not None:
                member.answer_sync(self.synced(member), now)

    def synced(self, member: Member) -> Synced:
        return Synced(
            protocol_type=self.protocol_type, protocol=self.protocol, assignment=member.assignment
        )

    # -- leaving

    def remove(self, member_id: str, now: float) -> None:
        """The member is gone; its waiting answers say so."""
        self.pending.pop(member_id, None)
        member = self.members.pop(member_id, None)
        if member is not None:
            if member.instance_id is not None:
                self._static.pop(member.instance_id, None)
            unknown = ErrorCode.UNKNOWN_MEMBER_ID
            member.answer_join(Joined(error=unknown, member_id=member_id), now)
            member.answer_sync(Synced(error=unknown), now)
            if self.leader == member_id:
                self.leader = None
        if self.state is GroupState.PREPARING:
            self._maybe_complete(now)
        elif member is not None and self.state is not GroupState.EMPTY:
            self.rebalance(now)

    def expire(self, now: float) -> list[str]:
        """Drop what ran out; end a rebalance whose time is up. Returns the members that were dropped."""
        for member_id in [m for m, until in self.pending.items() if until <= now]:
            self.remove(member_id, now)
        gone = [m.member_id for m in self.members.values() if not m.waits and m.expires_at <= now]
        for member_id in gone:
            self.remove(member_id, now)
        if self._rebalance_ends is not None and self._rebalance_ends <= now:
            if self._newcomers and now < self._rebalance_limit:
                self._newcomers = False
                self._rebalance_ends = min(now + self._rebalance_delay_s, self._rebalance_limit)
            else:
                gone += self._complete(now)
        return gone

    # -- inside

    def _maybe_complete(self, now: float) -> None:
        if self._rebalance_limit and self.members:
            return  # the initial delay is always waited out
        joined = all(member.join_reply is not None for member in self.members.values())
        if joined and not self.pending:
            self._complete(now)

    def _complete(self, now: float) -> list[str]:
        absent = [m for m in self.members.values() if m.join_reply is None]
        for member in absent:
            del self.members[member.member_id]
            if member.instance_id is not None:
                self._static.pop(member.instance_id, None)
        self._rebalance_ends, self._rebalance_limit, self._newcomers = None, 0.0, False
        self.generation += 1
        if not self.members:
            self.state, self.leader, self.protocol = GroupState.EMPTY, None, None
            return [member.member_id for member in absent]
        self.state = GroupState.COMPLETING
        self.protocol = _elect(list(self.members.values()))
        if self.leader not in self.members:
            self.leader = next(iter(self.members))
        for member in list(self.members.values()):
            member.answer_join(self._joined(member), now)
        return [member.member_id for member in absent]

    def _joined(self, member: Member) -> Joined:
        leads = member.member_id == self.leader
        return Joined(
            member_id=member.member_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.leader or "",
            members=[
                JoinedMember(m.member_id, m.instance_id, m.metadata(self.protocol))
                for m in self.members.values()
            ]
            if leads
            else (),
        )


def _common_protocols(members: list[Member]) -> set[str]:
    common = {protocol.name for protocol in members[0].protocols}
    for member in members[1:]:
        common &= {protocol.name for protocol in member.protocols}
    return common


def _elect(members: list[Member]) -> str:
    """Each member votes for the first of its protocols that all know (Kafka's rule); ties go to the first voter."""
    common = _common_protocols(members)
    votes = Counter(
        next(protocol.name for protocol in member.protocols if protocol.name in common)
        for member in members
    )
    return votes.most_common(1)[0][0]
