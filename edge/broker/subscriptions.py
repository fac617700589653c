"""Who subscribes to what: a trie of topic levels, so that a publish costs its depth and not the number of filters.

`generation` moves with every change; whoever caches an answer compares it. A session with several matching filters
is found once, with the highest QoS of them and all their identifiers ([MQTT-3.3.4-2], [MQTT-3.3.4-3]);
retain-as-published holds if all matching filters say so. A no-local filter does not match what its own session
published: then the others alone count.
"""

from __future__ import annotations

from typing import NamedTuple

from ..mqtt.packets import RetainHandling, SubscriptionOptions
from .messages import Message
from .sessions import Session

# Topics whose subscribers are remembered; the whole memory is dropped when it is full or anything changes.
CACHED_TOPICS_MAX = 4096


class Subscription(NamedTuple):
    session: Session
    options: SubscriptionOptions
    identifier: int  # 0: none
    since: int  # the generation that began with it; replacing it changes nothing


class Target(NamedTuple):
    """One session that gets a message, and how."""

    session: Session
    qos: int
    no_local: bool  # of any of its filters
    retain_as_published: bool
    identifiers: tuple[int, ...]


class _Node:
    __slots__ = ("children", "subscriptions")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.subscriptions: dict[str, Subscription] | None = None  # by client identifier

    @property
    def empty(self) -> bool:
        return not self.children and not self.subscriptions


class Subscriptions:
    __slots__ = ("_cache", "_cache_generation", "_root", "count", "generation", "is_guarded")

    def __init__(self) -> None:
        self._root = _Node()
        self._cache: dict[str, list[Target]] = {}
        self._cache_generation = 0
        self.count = 0
        self.generation = 0
        self.is_guarded = False  # sessions have rights: what they may not read is not theirs

    def add(self, session: Session, options: SubscriptionOptions, identifier: int) -> bool:
        """True where the session did not have this filter before; else it is replaced ([MQTT-3.8.4-3])."""
        node = self._root
        for level in options.filter.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        if node.subscriptions is None:
            node.subscriptions = {}
        old = node.subscriptions.get(session.client_id)
        is_new = old is None
        self.generation += 1
        since = self.generation if old is None else old.since
        node.subscriptions[session.client_id] = Subscription(session, options, identifier, since)
        session.filters[options.filter] = (options, identifier)
        (session.no_local.add if options.no_local else session.no_local.discard)(options.filter)
        self.count += is_new
        return is_new

    def remove(self, session: Session, topic_filter: str) -> bool:
        """False where there was no such subscription. Compares filters character by character ([MQTT-3.10.4-1])."""
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level) if node.children else None
            if child is None:
                return False
            path.append((node, level))
            node = child
        if not node.subscriptions or node.subscriptions.pop(session.client_id, None) is None:
            return False
        session.filters.pop(topic_filter, None)
        session.no_local.discard(topic_filter)
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
            return [
                each
                for each in found
                if each.session.rights is None or each.session.rights.may_read(topic)
            ]
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
                    if (child := children.get("#")) is not None and child.subscriptions:
                        found.extend(child.subscriptions.values())
            nodes = below
            if not nodes:
                return found
        for node in nodes:
            if node.subscriptions:
                found.extend(node.subscriptions.values())
            # "sport/#" matches "sport" as well
            if node.children and (child := node.children.get("#")) and child.subscriptions:
                found.extend(child.subscriptions.values())
        return found

    def targets(self, topic: str) -> list[Target]:
        """Each session once. Remembered until a subscription changes."""
        cache = self._cache
        if self._cache_generation != self.generation or len(cache) >= CACHED_TOPICS_MAX:
            cache.clear()
            self._cache_generation = self.generation
        targets = cache.get(topic)
        if targets is None:
            targets = cache[topic] = _merged(self.matching(topic))
        return targets

    def takers(self, message: Message) -> list[Target]:
        """Who gets a message now: all who were subscribed when it was taken, and are still."""
        if message.generation == self.generation:
            return self.targets(message.topic)
        return _merged(
            [each for each in self.matching(message.topic) if each.since <= message.generation]
        )

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

    def others(self, session: Session, message: Message) -> Target | None:
        """What is left for a session of its own message: its filters without no local ([MQTT-3.8.3-3])."""
        merged = _merged(
            [
                each
                for each in self.matching(message.topic)
                if each.session is session
                and each.since <= message.generation
                and not each.options.no_local
            ]
        )
        return merged[0] if merged else None


def _merged(subscriptions: list[Subscription]) -> list[Target]:
    by_client: dict[str, Target] = {}
    for session, options, identifier, _ in subscriptions:
        identifiers = (identifier,) if identifier else ()
        other = by_client.get(session.client_id)
        if other is None:
            by_client[session.client_id] = Target(
                session, options.qos, options.no_local, options.retain_as_published, identifiers
            )
        else:
            by_client[session.client_id] = Target(
                session,
                max(other.qos, options.qos),
                other.no_local or options.no_local,
                other.retain_as_published and options.retain_as_published,
                other.identifiers + identifiers,
            )
    return list(by_client.values())
