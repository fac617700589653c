"""Access rules and the rights of one client under them.

A rule says for whom it is (a user, a client identifier, everybody), what it gives (read, write, both) or takes (deny),
and for which topics: a filter in which %u stands for the user name and %c for the client identifier.

Judgement: what a `deny` rule matches is denied, whatever else says; what an allowing rule matches is allowed; the rest is
as `otherwise` says (deny, unless an access file chose else). To subscribe, a filter must meet something readable and
not lie wholly within a denied filter; where it is broader than what may be read, what may not is left out at delivery.

`Rights` are made once per connection and are shared by all connections of a user where no rule for it names %c or a
client; what they answer is remembered per topic by those who ask (routes, the fan-out's targets), not here.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

import msgspec

from .topicsets import HASH, Filter, Level, contains, covers, meets, to_filter


class Grant(enum.Flag):
    DENY = 0
    READ = 1
    WRITE = 2
    BOTH = 3


class Rule(msgspec.Struct, frozen=True):
    """`user` None: everybody, "": those without a name. `client`: an identifier, None: any; a last * is any ending."""

    filter: str
    grant: Grant
    user: str | None = None
    client: str | None = None

    @property
    def names_client(self) -> bool:
        return self.client is not None or "%c" in self.filter


class Rights:
    """What one client may do. `otherwise`: what no rule speaks of."""

    __slots__ = ("_denied", "_otherwise", "_read", "_write")

    def __init__(
        self,
        read: Sequence[Filter],
        write: Sequence[Filter],
        denied: Sequence[Filter],
        *,
        otherwise: bool,
    ) -> None:
        self._read = tuple(read)
        self._write = tuple(write)
        self._denied = tuple(denied)
        self._otherwise = otherwise

    def may_write(self, topic: str) -> bool:
        return self._may(self._write, topic)

    def may_read(self, topic: str) -> bool:
        return self._may(self._read, topic)

    def _may(self, allowed: tuple[Filter, ...], topic: str) -> bool:
        levels = topic.split("/")
        if any(contains(each, levels) for each in self._denied):
            return False
        return self._otherwise or any(contains(each, levels) for each in allowed)

    def may_subscribe(self, topic_filter: str) -> bool:
        """Whether there may be anything to read under the filter; a shared subscription's own filter is judged."""
        if topic_filter.startswith("$share/"):
            topic_filter = topic_filter.split("/", 2)[2]
        wanted = to_filter(topic_filter)
        if any(covers(each, wanted) for each in self._denied):
            return False
        return self._otherwise or any(meets(each, wanted) for each in self._read)


_MARKS = re.compile("%[uc]")
_UNSAFE = re.compile("[+#/]")
# For whom %u or %c cannot be filled in where a rule denies by them: it fails closed.
_EVERYTHING: tuple[Filter, ...] = ((HASH,),)


class Rules:
    """All rules of a file, indexed by user: a connection costs its own rules and those for everybody."""

    __slots__ = ("_by_user", "_for_all", "_otherwise", "_shared")

    def __init__(self, rules: Sequence[Rule], *, otherwise: bool = False) -> None:
        self._for_all = [rule for rule in rules if rule.user is None]
        self._by_user: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.user is not None:
                self._by_user.setdefault(rule.user, []).append(rule)
        self._otherwise = otherwise
        # by user; as many as the file names, and one for all others
        self._shared: dict[str, Rights] = {}

    def rights(self, user: str | None, client_id: str) -> Rights:
        """`user` None: without a name."""
        own = self._by_user.get(user or "", [])
        rules = own + self._for_all
        if any(rule.names_client for rule in rules) or (
            not own and any("%u" in rule.filter for rule in rules)
        ):
            return self._compile(rules, user, client_id)
        key = (user or "") if own else "\0others"
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = self._compile(rules, user, client_id)
        return shared

    def _compile(self, rules: Sequence[Rule], user: str | None, client_id: str) -> Rights:
        read: list[Filter] = []
        write: list[Filter] = []
        denied: list[Filter] = []
        for rule in rules:
            if rule.client is not None and not _is_client(rule.client, client_id):
                continue
            if user is None and "%u" in rule.filter:
                continue  # it speaks of users
            filled = _fill(rule.filter, user, client_id)
            if rule.grant is Grant.DENY:
                denied += _EVERYTHING if filled is None else (filled,)
            elif filled is not None:
                if Grant.READ in rule.grant:
                    read.append(filled)
                if Grant.WRITE in rule.grant:
                    write.append(filled)
        return Rights(read, write, denied, otherwise=self._otherwise)


def _is_client(pattern: str, client_id: str) -> bool:
    if pattern.endswith("*"):
        return client_id.startswith(pattern[:-1])
    return client_id == pattern


def _fill(text: str, user: str | None, client_id: str) -> Filter | None:
    """The filter with %u and %c in place, as literals; None where that would not be one level (CVE-2017-7650)."""
    values = {"%u": user or "", "%c": client_id}
    levels: list[Level] = []
    for level in text.split("/"):
        marks = _MARKS.findall(level)
        if any(not values[mark] or _UNSAFE.search(values[mark]) for mark in marks):
            return None
        if marks:
            levels.append(_MARKS.sub(lambda found: values[found[0]], level))
        else:
            levels += to_filter(level)
    return tuple(levels)
