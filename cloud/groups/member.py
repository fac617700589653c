"""One member of a group: what it subscribes to, what it was assigned, and the answers it waits for.

A member waits for at most one JoinGroup and one SyncGroup answer. While it waits it cannot send heartbeats, so its
session does not run out; the session starts again with the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...core.kafka.errors import ErrorCode


class Protocol(NamedTuple):
    """One assignment strategy that a member knows, and its subscription in that strategy's own format."""

    name: str
    metadata: bytes


class JoinedMember(NamedTuple):
    """What the leader learns of each member."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The answer to JoinGroup. `members` is filled for the leader alone."""

    error: ErrorCode = ErrorCode.NONE
    member_id: str = ""
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: Sequence[JoinedMember] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """The answer to SyncGroup."""

    error: ErrorCode = ErrorCode.NONE
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


JoinReply = Callable[[Joined], None]
SyncReply = Callable[[Synced], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A JoinGroup request."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_s: float
    rebalance_timeout_s: float
    protocol_type: str
    protocols: tuple[Protocol, ...]
    must_know_id: bool
    """From version 4: a dynamic member gets its id first and joins with it (MEMBER_ID_REQUIRED, KIP-394)."""


@dataclass(slots=True)
class Member:
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_s: float
    rebalance_timeout_s: float
    protocols: tuple[Protocol, ...]
    expires_at: float
    assignment: bytes = b""
    join_reply: JoinReply | None = field(default=None, repr=False)
    sync_reply: SyncReply | None = field(default=None, repr=False)

    @classmethod
    def joining(
        cls,
        candidate: Candidate,
        member_id: str,
        reply: JoinReply,
        now: float,
        *,
        assignment: bytes = b"",
    ) -> Member:
        """Whoever asks to join, under the id it is given; `assignment` is what a static member takes over."""
        return cls(
            member_id=member_id,
            instance_id=candidate.instance_id,
            client_id=candidate.client_id,
            client_host=candidate.client_host,
            session_timeout_s=candidate.session_timeout_s,
            rebalance_timeout_s=candidate.rebalance_timeout_s,
            protocols=candidate.protocols,
            expires_at=now + candidate.session_timeout_s,
            assignment=assignment,
            join_reply=reply,
        )

    @property
    def waits(self) -> bool:
        return self.join_reply is not None or self.sync_reply is not None

    def metadata(self, protocol: str | None) -> bytes:
        return next((known.metadata for known in self.protocols if known.name == protocol), b"")

    def touch(self, now: float) -> None:
        self.expires_at = now + self.session_timeout_s

    def answer_join(self, answer: Joined, now: float) -> None:
        reply, self.join_reply = self.join_reply, None
        self.touch(now)
        if reply is not None:
            reply(answer)

    def answer_sync(self, answer: Synced, now: float) -> None:
        reply, self.sync_reply = self.sync_reply, None
        self.touch(now)
        if reply is not None:
            reply(answer)
