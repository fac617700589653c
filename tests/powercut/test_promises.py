"""The second judge must be able to condemn, too: what it owes to clients that come back, and what a count means."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .promises import Promises, Returned, groups, held, owed_wills, to_release, to_repeat
from .publishers import Message
from .story import Delivery, LastWill, Parting, Story, Subscription

CUT = 100


def message(sequence: int, *, sent: int = 40, acked: int = 50, **more: object) -> Message:
    topic = str(more.pop("topic", "t/a"))
    text = f"p/{sequence} text"
    return Message("p", sequence, topic, text, sent, acked, lasting=True, **more)  # type: ignore[arg-type]


def world() -> tuple[Story, dict[str, Message], Returned]:
    """A publisher, a subscriber at QoS 2 that had the first of three messages, and a retained one."""
    messages = [message(n, qos=2) for n in (1, 2, 3)]
    messages.append(message(4, topic="retained/a", retain=True))
    story = Story(
        sessions={"p": 1, "s": 2},
        subscriptions=[Subscription("s", "t/#", 2, asked=3, acked=4)],
        deliveries=[Delivery("s", "p/1", 7, 2, received=60, released=61)],
    )
    met = Returned(
        present={"p": True, "s": True},
        retained={"retained/a": b"p/4 text"},
        deliveries={"s": [(b"p/2 text", 7, 2), (b"p/3 text", 8, 2)]},
    )
    return story, {each.name: each for each in messages}, met


def broken(story: Story, messages: dict[str, Message], met: Returned) -> str:
    return "; ".join(Promises(story, messages, CUT).violations(met))


def test_a_world_in_which_all_is_kept_breaks_nothing() -> None:
    assert not broken(*world())


World = tuple[Story, dict[str, Message], Returned]


def _forget(world: World) -> None:
    world[2].present["s"] = False


def _ignore(world: World) -> None:
    world[2].repeated.append("p/3")


def _retain_older(world: World) -> None:
    world[1]["p/5"] = message(5, topic="retained/a", retain=True)


def _retain_nothing(world: World) -> None:
    world[2].retained.clear()


def _deliver_less(world: World) -> None:
    world[2].deliveries["s"].pop()


def _deliver_again(world: World) -> None:
    world[2].deliveries["s"].append((b"p/3 text", 9, 2))


def _deliver_what_it_had(world: World) -> None:
    world[2].deliveries["s"].append((b"p/1 text", 9, 2))


def _mix_identifiers(world: World) -> None:
    world[2].deliveries["s"][1] = (b"p/3 text", 7, 2)


def _invent(world: World) -> None:
    world[2].deliveries["s"].append((b"p/9 text", 9, 2))


def _go_on_after_unsuback(world: World) -> None:
    (subscription,) = world[0].subscriptions
    subscription.leaving, subscription.left = 30, 31


def _be_silent(world: World) -> None:
    world[2].silent.append("s")


@pytest.mark.parametrize(
    ("harm", "accusation"),
    [
        (_forget, "forgotten: the session of s"),
        (_ignore, "unanswered: p/3"),
        (_retain_older, "retained: retained/a shows p/4, 5 was acknowledged"),
        (_retain_nothing, "retained: retained/a shows ''"),
        (_deliver_less, "undelivered: p/3 to s"),
        (_deliver_again, "delivered twice: p/3 to s"),
        (_deliver_what_it_had, "delivered twice: p/1 to s"),
        (_mix_identifiers, "identifier: 7 of s is p/3, was p/2"),
        (_invent, "invented: s gets"),
        (_go_on_after_unsuback, "unasked: s gets p/2"),
        (_be_silent, "undelivered: s waits in vain"),
    ],
)
def test_each_broken_promise_is_noticed(harm: Callable[[World], None], accusation: str) -> None:
    found = world()
    harm(found)
    assert accusation in broken(*found)


def test_a_repeat_under_an_identifier_that_is_kept_is_the_same_delivery() -> None:
    story, messages, met = world()
    story.deliveries.append(Delivery("s", "p/2", 7, 2, received=70))
    assert held(story, "s", CUT) == {7: "p/2"}
    assert not broken(story, messages, met)


def test_after_pubrel_an_identifier_is_free_again() -> None:
    story, messages, met = world()
    met.deliveries["s"][1] = (b"p/3 text", 7, 2)
    met.released["s"] = [(1, 7)]
    assert not broken(story, messages, met)


def test_what_came_before_suback_or_after_unsubscribe_is_not_owed() -> None:
    story, messages, met = world()
    met.deliveries["s"] = []
    story.subscriptions[0].acked = 45
    assert not broken(story, messages, met)
    story.subscriptions[0].acked, story.subscriptions[0].leaving = 4, 90
    assert not broken(story, messages, met)


def test_only_what_was_surely_not_heard_is_sent_again() -> None:
    sent = {
        each.name: each
        for each in (
            message(1, acked=90, heard=90),
            message(2, acked=CUT + 5, heard=CUT - 1),  # perhaps it lay in the socket
            message(3, acked=CUT + 5, heard=CUT + 1),
            message(4, acked=-1),
            message(5, sent=CUT + 1, acked=-1),
            message(6, acked=CUT + 5, heard=CUT - 1, qos=2),  # only PUBREL frees the identifier
            message(7, acked=90, completed=CUT + 1, qos=2),
            message(8, acked=90, completed=95, qos=2),
        )
    }
    assert [each.name for each in to_repeat(sent, "p", CUT)] == ["p/3", "p/4", "p/6"]
    assert [each.name for each in to_release(sent, "p", CUT)] == ["p/7"]


def shared(qos: int) -> tuple[Story, dict[str, Message], Returned]:
    """Two members of a group; one had the first of three messages, the other gets the rest."""
    messages = [message(n, qos=qos) for n in (1, 2, 3)]
    own = "$share/g/t/#"
    story = Story(
        sessions={"p": 1, "a": 2, "b": 2},
        subscriptions=[
            Subscription("a", own, qos, asked=3, acked=4),
            Subscription("b", own, qos, asked=3, acked=4),
        ],
        deliveries=[Delivery("a", "p/1", 7, qos, received=60, released=61)],
    )
    met = Returned(deliveries={"a": [], "b": [(b"p/2 text", 7, qos), (b"p/3 text", 8, qos)]})
    return story, {each.name: each for each in messages}, met


@pytest.mark.parametrize("qos", [1, 2])
def test_what_a_group_is_owed_reaches_any_of_its_members(qos: int) -> None:
    story, messages, met = shared(qos)
    assert not broken(story, messages, met)
    met.deliveries["b"].pop()
    assert "unshared: p/3 to nobody of $share/g/t/#" in broken(story, messages, met)


def test_at_qos_2_a_second_member_is_one_too_many() -> None:
    story, messages, met = shared(2)
    met.deliveries["b"].append((b"p/1 text", 9, 2))
    assert "shared twice: p/1 to a and b" in broken(story, messages, met)


def test_a_group_without_a_member_that_stays_is_owed_nothing() -> None:
    story, messages, met = shared(1)
    for each in story.subscriptions:
        each.leaving = 80
    met.deliveries = {"a": [], "b": []}
    assert not broken(story, messages, met)
    story.sessions.clear()  # guests, whose membership ended with their connections
    assert groups(story, CUT)[0].staying == []


def willing(**more: int) -> tuple[Story, dict[str, Message]]:
    will = Message("w", 1, "wills/w", "w/1 text", 10, is_will=True)
    last_will = LastWill("w", "w/1", 0, 86_400, connected=20, **more)
    return Story(last_wills=[last_will]), {will.name: will}


def test_a_will_is_owed_of_who_was_there_and_did_not_say_goodbye() -> None:
    story, messages = willing()
    assert [each.name for each in owed_wills(story, messages, CUT)] == ["w/1"]
    assert owed_wills(story, messages, 15) == []
    assert owed_wills(*willing(parted=30), CUT) == []


def test_who_may_have_come_again_has_perhaps_withdrawn_a_will_that_waits() -> None:
    story, messages = willing()
    messages["w/2"] = Message("w", 2, "wills/w", "w/2 text", 40, is_will=True)
    story.last_wills.append(LastWill("w", "w/2", 0, 86_400))
    assert [each.name for each in owed_wills(story, messages, CUT)] == ["w/1"], "at once"
    story.last_wills[0].delay_s = 1
    assert owed_wills(story, messages, CUT) == []


def expiring(expiry_s: int) -> tuple[Story, dict[str, Message], Returned]:
    """Who went at 10 s is sent a message of 20 s at 100 s."""
    story, messages, met = world()
    story.partings["s"] = Parting(30, 10.0)
    messages["p/2"].clock, messages["p/2"].expiry_s = 20.0, expiry_s
    met.began = met.ended = 100.0
    return story, messages, met


def test_what_is_over_is_not_begun_with_who_was_away() -> None:
    story, messages, met = expiring(5)
    met.expiries = [("s", "p/2", 0, 100.0)]
    assert "expired: p/2 is begun with s" in broken(story, messages, met)
    met.expiries, met.deliveries["s"] = [], met.deliveries["s"][1:]
    assert not broken(story, messages, met)


def test_what_is_not_over_is_owed_and_says_what_is_left() -> None:
    story, messages, met = expiring(1000)
    met.expiries = [("s", "p/2", 920, 100.0)]
    assert not broken(story, messages, met)
    met.expiries = [("s", "p/2", 1000, 100.0)]
    assert "expiry: p/2 says 1000 s to s, 920.0 s are left" in broken(story, messages, met)
    met.deliveries["s"].pop(0)
    assert "undelivered: p/2 to s" in broken(story, messages, met)


def test_of_a_stream_that_gives_way_only_what_is_still_there_is_owed() -> None:
    story, messages, met = world()
    met.deliveries["s"].pop()
    judge = Promises(story, messages, CUT, frozenset({"p/2", "p/3"}), {"t"})
    assert "undelivered: p/3 to s" in "; ".join(judge.violations(met))
    judge = Promises(story, messages, CUT, frozenset({"p/2"}), {"t"})
    assert not judge.violations(met)
