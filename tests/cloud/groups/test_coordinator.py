"""The group coordinator's state table, with a clock that stands still until it is moved."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from headwater.cloud.groups.coordinator import GroupCoordinator, SyncRequest
from headwater.cloud.groups.group import GroupState
from headwater.cloud.groups.member import Candidate, Joined, Protocol, Synced
from headwater.cloud.groups.settings import GroupSettings
from headwater.core.clock import ManualClock
from headwater.core.kafka.errors import ErrorCode
from headwater.core.units import Duration

DELAY_S = 3.0
SESSION_S = 10.0
REBALANCE_S = 60.0

CANDIDATE = Candidate(
    member_id="",
    instance_id=None,
    client_id="c",
    client_host="127.0.0.1",
    session_timeout_s=SESSION_S,
    rebalance_timeout_s=REBALANCE_S,
    protocol_type="consumer",
    protocols=(Protocol("range", b"topics"),),
    must_know_id=False,
)


class World:
    """A coordinator and what it answered."""

    def __init__(self, **settings: object) -> None:
        self.clock = ManualClock()
        self.coordinator = GroupCoordinator(
            GroupSettings(rebalance_delay=Duration(DELAY_S), **settings),  # type: ignore[arg-type]
            clock=self.clock,
            rng=random.Random(7),
        )

    def join(self, candidate: Candidate = CANDIDATE) -> list[Joined]:
        answers: list[Joined] = []
        self.coordinator.join("g", candidate, answers.append)
        return answers

    def sync(
        self,
        joined: Joined,
        assignments: dict[str, bytes] | None = None,
        instance: str | None = None,
    ) -> list[Synced]:
        answers: list[Synced] = []
        request = SyncRequest(
            joined.member_id,
            instance,
            joined.generation,
            None,
            None,
            list((assignments or {}).items()),
        )
        self.coordinator.sync("g", request, answers.append)
        return answers

    def wait(self, seconds: float) -> None:
        """Let time pass, stopping at each deadline as the rim's timer does."""
        end = self.clock.monotonic() + seconds
        while (deadline := self.coordinator.next_deadline()) is not None and deadline <= end:
            self.clock.advance(max(0.0, deadline - self.clock.monotonic()))
            self.coordinator.expire()
        self.clock.advance(max(0.0, end - self.clock.monotonic()))

    def stable(self, members: int = 1) -> list[Joined]:
        """A stable group; its leader first."""
        waiting = [self.join() for _ in range(members)]
        self.wait(2 * DELAY_S)
        joined = sorted((answers[0] for answers in waiting), key=lambda one: not one.members)
        given = {one.member_id: one.member_id.encode() for one in joined}
        synced = [self.sync(one, given if one.members else None) for one in joined[1:] + joined[:1]]
        assert all(answers[0].error is ErrorCode.NONE for answers in synced)
        return joined

    def heartbeat(self, joined: Joined) -> ErrorCode:
        return self.coordinator.heartbeat("g", joined.member_id, None, joined.generation)

    @property
    def state(self) -> GroupState:
        group = self.coordinator.group("g")
        return group.state if group is not None else GroupState.EMPTY


@pytest.fixture
def world() -> World:
    return World()


def test_first_rebalance_waits_its_delay_and_then_names_one_leader(world: World) -> None:
    first, second = world.join(), world.join()
    assert not first
    assert not second
    world.wait(DELAY_S - 0.1)
    assert not first
    world.wait(DELAY_S + 0.2)
    assert {first[0].leader, second[0].leader} == {first[0].member_id}
    assert [member.member_id for member in first[0].members] == [
        first[0].member_id,
        second[0].member_id,
    ]
    assert not second[0].members
    assert first[0].generation == second[0].generation == 1


def test_newcomers_extend_the_first_rebalance(world: World) -> None:
    first = world.join()
    world.wait(DELAY_S - 0.1)
    second = world.join()
    world.wait(0.2)
    assert not first  # somebody came: another round
    world.wait(DELAY_S)
    assert first
    assert second


def test_a_dynamic_member_is_given_its_id_first(world: World) -> None:
    asked = replace(CANDIDATE, must_know_id=True)
    refused = world.join(asked)[0]
    assert refused.error is ErrorCode.MEMBER_ID_REQUIRED
    assert refused.member_id
    joined = world.join(replace(asked, member_id=refused.member_id))
    world.wait(2 * DELAY_S)
    assert joined[0].error is ErrorCode.NONE
    assert joined[0].member_id == refused.member_id


def test_an_id_that_is_never_used_expires(world: World) -> None:
    refused = world.join(replace(CANDIDATE, must_know_id=True))[0]
    world.wait(SESSION_S + 1)
    late = world.join(replace(CANDIDATE, member_id=refused.member_id))[0]
    assert late.error is ErrorCode.UNKNOWN_MEMBER_ID
    assert world.coordinator.groups() == []


def test_followers_get_their_assignment_only_from_the_leader(world: World) -> None:
    waiting = [world.join(), world.join()]
    world.wait(2 * DELAY_S)
    leader, follower = (answers[0] for answers in waiting)
    early = world.sync(follower)
    assert not early
    late = world.sync(leader, {leader.member_id: b"one", follower.member_id: b"two"})
    assert late[0].assignment == b"one"
    assert early[0].assignment == b"two"
    assert world.state is GroupState.STABLE


def test_a_new_member_makes_the_others_join_again(world: World) -> None:
    old = world.stable()[0]
    new = world.join()
    assert not new
    assert world.heartbeat(old) is ErrorCode.REBALANCE_IN_PROGRESS
    again = world.join(replace(CANDIDATE, member_id=old.member_id))
    assert again[0].generation == new[0].generation == old.generation + 1
    assert world.heartbeat(old) is ErrorCode.ILLEGAL_GENERATION


def test_a_member_that_does_not_rejoin_is_dropped_after_the_rebalance_timeout(world: World) -> None:
    leader, silent = world.stable(2)
    new = world.join()
    for _ in range(12):  # it lives, but never joins again
        world.wait(SESSION_S / 2)
        if not new:
            world.coordinator.heartbeat("g", silent.member_id, None, silent.generation)
            world.coordinator.heartbeat("g", leader.member_id, None, leader.generation)
    world.wait(REBALANCE_S)
    assert new[0].error is ErrorCode.NONE
    assert len(new[0].members) == 1


def test_a_silent_member_loses_its_place_and_the_group_rebalances(world: World) -> None:
    kept, _silent = world.stable(2)
    world.wait(SESSION_S * 0.7)
    assert world.heartbeat(kept) is ErrorCode.NONE
    world.wait(SESSION_S * 0.7)
    assert world.heartbeat(kept) is ErrorCode.REBALANCE_IN_PROGRESS


def test_waiting_members_do_not_time_out(world: World) -> None:
    waiting = [world.join(), world.join()]
    world.wait(2 * DELAY_S)
    leader, follower = (answers[0] for answers in waiting)
    synced = world.sync(follower)
    world.wait(SESSION_S * 0.9)
    world.heartbeat(leader)
    world.wait(SESSION_S * 0.9)  # the follower cannot send heartbeats while it waits
    world.sync(leader, {follower.member_id: b"x"})
    assert synced[0].assignment == b"x"


def test_a_leader_that_dies_before_syncing_sends_followers_back(world: World) -> None:
    waiting = [world.join(), world.join()]
    world.wait(2 * DELAY_S)
    synced = world.sync(waiting[1][0])
    world.wait(SESSION_S + 1)
    assert synced[0].error is ErrorCode.REBALANCE_IN_PROGRESS


def test_leaving_the_last_member_empties_and_forgets_the_group(world: World) -> None:
    joined = world.stable()[0]
    assert world.coordinator.leave("g", joined.member_id, None) is ErrorCode.NONE
    assert world.coordinator.groups() == []
    assert world.heartbeat(joined) is ErrorCode.UNKNOWN_MEMBER_ID


def test_rejoining_unchanged_follower_keeps_the_generation(world: World) -> None:
    _, follower = world.stable(2)
    again = world.join(replace(CANDIDATE, member_id=follower.member_id))
    assert again[0].generation == follower.generation
    assert world.state is GroupState.STABLE


def test_changed_subscription_rebalances(world: World) -> None:
    leader, follower = world.stable(2)
    changed = (Protocol("range", b"other topics"),)
    again = world.join(replace(CANDIDATE, member_id=follower.member_id, protocols=changed))
    assert not again
    assert world.heartbeat(leader) is ErrorCode.REBALANCE_IN_PROGRESS


def test_members_without_a_common_protocol_are_refused(world: World) -> None:
    world.stable()
    other = replace(CANDIDATE, protocols=(Protocol("sticky", b""),))
    assert world.join(other)[0].error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    kind = replace(CANDIDATE, protocol_type="connect")
    assert world.join(kind)[0].error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_protocol_is_elected_among_those_all_know(world: World) -> None:
    both = replace(CANDIDATE, protocols=(Protocol("sticky", b"s"), Protocol("range", b"r")))
    first, second = world.join(both), world.join()
    world.wait(2 * DELAY_S)
    assert first[0].protocol == second[0].protocol == "range"
    assert [member.metadata for member in first[0].members] == [b"r", b"topics"]


def test_static_member_comes_back_without_a_rebalance(world: World) -> None:
    static = replace(CANDIDATE, instance_id="pi-7")
    first, second = world.join(), world.join(static)
    world.wait(2 * DELAY_S)
    leader, old = first[0], second[0]
    waiting = world.sync(old, instance="pi-7")
    world.sync(leader, {old.member_id: b"mine"})
    assert waiting[0].assignment == b"mine"
    back = world.join(static)[0]
    assert back.generation == old.generation
    assert back.member_id != old.member_id
    assert world.sync(back, instance="pi-7")[0].assignment == b"mine"
    fenced = world.coordinator.heartbeat("g", old.member_id, "pi-7", old.generation)
    assert fenced is ErrorCode.FENCED_INSTANCE_ID


def test_commits_are_taken_from_this_generation_or_from_anyone_where_nobody_is_a_member(
    world: World,
) -> None:
    check = world.coordinator.check_commit
    assert check("g", "", None, -1) is ErrorCode.NONE
    assert check("g", "stranger", None, 3) is ErrorCode.ILLEGAL_GENERATION
    joined = world.stable()[0]
    assert check("g", joined.member_id, None, joined.generation) is ErrorCode.NONE
    assert check("g", joined.member_id, None, 0) is ErrorCode.ILLEGAL_GENERATION
    assert check("g", "", None, -1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert check("", "", None, -1) is ErrorCode.INVALID_GROUP_ID


def test_limits_are_kept() -> None:
    world = World(members_max=1, groups_max=1)
    world.join()
    assert world.join()[0].error is ErrorCode.GROUP_MAX_SIZE_REACHED
    answers: list[Joined] = []
    world.coordinator.join("another", CANDIDATE, answers.append)
    assert answers[0].error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    short = replace(CANDIDATE, session_timeout_s=0.5)
    assert world.join(short)[0].error is ErrorCode.INVALID_SESSION_TIMEOUT
    fat = replace(CANDIDATE, protocols=(Protocol("range", bytes(300_000)),))
    assert world.join(fat)[0].error is ErrorCode.GROUP_MAX_SIZE_REACHED


def test_everyone_who_waits_is_told_when_the_node_gives_its_groups_up(world: World) -> None:
    waiting = world.join()
    world.coordinator.close(ErrorCode.NOT_COORDINATOR)
    assert waiting[0].error is ErrorCode.NOT_COORDINATOR
    assert world.coordinator.next_deadline() is None


@pytest.mark.parametrize("seed", range(200))
def test_no_answer_is_lost_and_no_deadline_stands_still(seed: int) -> None:
    """Members join, sync, beat, leave and fall silent at random: each request is answered in bounded time."""
    rng = random.Random(seed)
    world = World()
    waiting: list[list[Joined] | list[Synced]] = []
    known: list[Joined] = []
    for _ in range(60):
        match rng.randrange(6):
            case 0:
                waiting.append(world.join(replace(CANDIDATE, must_know_id=rng.random() < 0.3)))
            case 1 if known:
                waiting.append(
                    world.join(replace(CANDIDATE, member_id=rng.choice(known).member_id))
                )
            case 2 if known:
                one = rng.choice(known)
                waiting.append(world.sync(one, {m.member_id: b"a" for m in one.members}))
            case 3 if known:
                world.heartbeat(rng.choice(known))
            case 4 if known:
                world.coordinator.leave("g", rng.choice(known).member_id, None)
            case _:
                world.wait(rng.random() * SESSION_S)
        for answers in waiting:
            known += [a for a in answers if isinstance(a, Joined) and a.generation > 0]
        known = known[-8:]
    world.wait(10 * REBALANCE_S)
    assert all(len(answers) == 1 for answers in waiting), f"seed {seed}"
    assert world.coordinator.groups() == [], f"seed {seed}: {world.coordinator.groups()}"
