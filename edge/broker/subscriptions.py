"""Who subscribes to what: a trie of topic levels, so that a publish costs its depth and not the number of filters.

`generation` moves with every change; whoever caches an answer compares it. A session with several matching filters
is found once, with the highest QoS of them and all their identifiers ([MQTT-3.3.4-2], [MQTT-3.3.4-3]);
retain-as-published holds if all matching filters say so. A no-local filter does not match what its own session
published: then the others alone count. A shared group is found as one taker, whoever its members are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..mqtt.packets import RetainHandling, SubscriptionOptions
from ..mqtt.topics import SHARED_PREFIX
from .backlog import Delivery
from .messages import Message
from .plain import Changing

if TYPE_CHECKING:
    from .groups import Group
    from .sessions import Session

# Topics whose subscribers are remembered; the whole memory is dropped when it is full or anything changes.
CACHED_TOPICS_MAX = 4096


class Taker(Protocol):
    """Who gets messages: a session's outbound side, or a shared group."""

    @property
    def client_id(self) -> str: ...
    def may_read(self, topic: str) -> bool: ...
    def deliver(self, delivery: Delivery, now: float) -> None: ...
    def deliver_retained(self, delivery: Delivery, now: float) -> None: ...


class Subscription(NamedTuple):
    taker: Taker
    options: SubscriptionOptions
    identifier: int  # 0: none
    since: int  # the generation that began with it; replacing it changes nothing


class Target(NamedTuple):
    """One taker of a message, and how it gets it."""

    taker: Taker
    qos: int
    no_local: bool  # of any of its filters
    retain_as_published: bool
    identifiers: tuple[int, ...]


class _Node:
    __slots__ = ("children", "groups", "subscriptions")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.subscriptions: dict[str, Subscription] | None = None  # by client identifier
        self.groups: dict[str, Group] | None = None  # by $share/NAME/FILTER

    @property
    def empty(self) -> bool:
        return not self.children and not self.subscriptions and not self.groups

    def takers(self) -> Iterable[Subscription]:
        found: list[Subscription] = []
        if self.subscriptions:
            found += self.subscriptions.values()
        if self.groups:
            found += [Subscription(group, _WHOLE, 0, group.since) for group in self.groups.values()]
        return found

    @property
    def taken(self) -> bool:
        return bool(self.subscriptions or self.groups)


# A group takes a message as it is; each member's options are applied when it is handed out.
_WHOLE = SubscriptionOptions(
    "", 2, retain_as_published=True, retain_handling=RetainHandling.DO_NOT_SEND
)


class Subscriptions(Changing):
    __slots__ = (
        "_cache", "_cache_generation", "_earlier", "_make_group", "_root", "count", "is_guarded",
    )  # fmt: skip

    def __init__(self, make_group: Callable[[str, str, int], Group] | None = None) -> None:
        """`make_group(name, filter, generation)`; without it there are no shared subscriptions."""
        super().__init__()
        self._make_group = make_group
        self._root = _Node()
        self._cache: dict[str, list[Target]] = {}
        # of messages that were taken before the last subscription changed: by topic and generation
        self._earlier: dict[tuple[str, int], list[Target]] = {}
        self._cache_generation = 0
        self.count = 0
        self.is_guarded = False  # sessions have rights: what they may not read is not theirs

    def add(self, session: Session, options: SubscriptionOptions, identifier: int) -> bool:
        """True where the session did not have this filter before; else it is replaced ([MQTT-3.8.4-3])."""
        topic_filter = options.filter
        is_new = topic_filter not in session.filters
        self.generation += 1
        node = self._node(plain(topic_filter))
        if topic_filter.startswith(SHARED_PREFIX):
            self._join(node, session, options, identifier)
        else:
            if node.subscriptions is None:
                node.subscriptions = {}
            old = node.subscriptions.get(session.client_id)
            since = self.generation if old is None else old.since
            node.subscriptions[session.client_id] = Subscription(
                session.outbound, options, identifier, since
            )
        session.filters[topic_filter] = (options, identifier)
        (session.no_local.add if options.no_local else session.no_local.discard)(topic_filter)
        session.outbound.subscribed(topic_filter, is_new=is_new)
        self.count += is_new
        return is_new

    def _node(self, topic_filter: str) -> _Node:
        node = self._root
        for level in topic_filter.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        return node

    def _join(
        self, node: _Node, session: Session, options: SubscriptionOptions, identifier: int
    ) -> None:
        assert self._make_group is not None
        if node.groups is None:
            node.groups = {}
        group = node.groups.get(options.filter)
        if group is None:
            group = node.groups[options.filter] = self._make_group(
                options.filter, plain(options.filter), self.generation
            )
        group.join(session.outbound, options, identifier)

    def remove(self, session: Session, topic_filter: str) -> bool:
        """False where there was no such subscription. Compares filters character by character ([MQTT-3.10.4-1])."""
        if session.filters.pop(topic_filter, None) is None:
            return False
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in plain(topic_filter).split("/"):
            assert node.children is not None
            path.append((node, level))
            node = node.children[level]
        if topic_filter.startswith(SHARED_PREFIX):
            assert node.groups is not None
            group = node.groups[topic_filter]
            group.leave(session.outbound)
            if not group.members:
                del node.groups[topic_filter]
        else:
            assert node.subscriptions is not None
            del node.subscriptions[session.client_id]
        session.no_local.discard(topic_filter)
        session.outbound.unsubscribed(topic_filter)
        for parent, level in reversed(path):
            assert parent.children is not None
            if not parent.children[level].empty:
                break
            del parent.children[level]
        self.count -= 1
        self.generation += 1
        return True

    def remove_session(self, session: Session) -> None:
        for topic_filter in tuple(session.filters):
            self.remove(session, topic_filter)

    def has_under(self, level: str) -> bool:
        """Whether any filter begins with this level, literally."""
        return self._root.children is not None and level in self._root.children

    def matching(self, topic: str) -> list[Subscription]:
        """Every subscription whose filter matches and whose session may read it, in no particular order."""
        found = self._under(topic)
        if self.is_guarded:
            return [each for each in found if each.taker.may_read(topic)]
        return found

    def _under(self, topic: str) -> list[Subscription]:
        levels = topic.split("/")
        found: list[Subscription] = []
        nodes = [self._root]
        for index, level in enumerate(levels):
            wild = index > 0 or not level.startswith("$")  # [MQTT-4.7.2-1]
            below: list[_Node] = []
            for node in nodes:
                children = node.children
                if not children:
                    continue
                if (child := children.get(level)) is not None:
                    below.append(child)
                if wild:
                    if (child := children.get("+")) is not None:
                        below.append(child)
                    if (child := children.get("#")) is not None and child.taken:
                        found.extend(child.takers())
            nodes = below
            if not nodes:
                return found
        for node in nodes:
            if node.taken:
                found.extend(node.takers())
            # "sport/#" matches "sport" as well
            if node.children and (child := node.children.get("#")) and child.taken:
                found.extend(child.takers())
        return found

    def targets(self, topic: str) -> list[Target]:
        """Each taker once. Remembered until a subscription changes."""
        first = self._root.children
        if not first or not (
            "#" in first or "+" in first or topic.split("/", 1)[0] in first
        ):  # most sensors' topics are for the log alone: not worth a place in memory
            return []
        cache = self._cache
        if self._cache_generation != self.generation or len(cache) >= CACHED_TOPICS_MAX:
            cache.clear()
            self._earlier.clear()
            self._cache_generation = self.generation
        targets = cache.get(topic)
        if targets is None:
            targets = cache[topic] = _merged(self.matching(topic))
        return targets

    def takers(self, message: Message) -> list[Target]:
        """Who gets a message now: all who were subscribed when it was taken, and are still."""
        if message.generation == self.generation:
            return self.targets(message.topic)
        self.targets(message.topic)  # the memory is of now
        known, key = self._earlier, (message.topic, message.generation)
        targets = known.get(key)
        if targets is None:
            if len(known) >= CACHED_TOPICS_MAX:
                known.clear()
            earlier = [each for each in self.matching(message.topic) if each.since <= key[1]]
            targets = known[key] = _merged(earlier)
        return targets

    def latecomers(self, message: Message) -> list[Subscription]:
        """Who subscribed after it was taken and is owed it as a retained message ([MQTT-3.3.1-9])."""
        if message.generation == self.generation:
            return []
        return [
            each
            for each in self.matching(message.topic)
            if each.since > message.generation
            and each.options.retain_handling is not RetainHandling.DO_NOT_SEND
        ]

    def others(self, taker: Taker, message: Message) -> Target | None:
        """What is left for a session of its own message: its filters without no local ([MQTT-3.8.3-3])."""
        return merged(
            [
                each
                for each in self.matching(message.topic)
                if each.taker is taker
                and each.since <= message.generation
                and not each.options.no_local
            ]
        )

    def groups(self) -> list[Group]:
        """All shared groups; for a scrape, and after a start."""
        found: list[Group] = []
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            if node.groups:
                found += node.groups.values()
            if node.children:
                nodes += node.children.values()
        return found


def plain(topic_filter: str) -> str:
    """What is matched: of a shared subscription the part after its name."""
    if topic_filter.startswith(SHARED_PREFIX):
        return topic_filter.split("/", 2)[2]
    return topic_filter


def merged(subscriptions: list[Subscription]) -> Target | None:
    """Several subscriptions of one taker, as one."""
    found = _merged(subscriptions)
    return found[0] if found else None


def _merged(subscriptions: list[Subscription]) -> list[Target]:
    by_taker: dict[int, Target] = {}
    for taker, options, identifier, _ in subscriptions:
        identifiers = (identifier,) if identifier else ()
        other = by_taker.get(id(taker))
        if other is None:
            by_taker[id(taker)] = Target(
                taker, options.qos, options.no_local, options.retain_as_published, identifiers
            )
        else:
            by_taker[id(taker)] = Target(
                taker,
                max(other.qos, options.qos),
                other.no_local or options.no_local,
                other.retain_as_published and options.retain_as_published,
                other.identifiers + identifiers,
            )
    return list(by_taker.values())
