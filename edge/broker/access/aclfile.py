"""Access files: ours in TOML, and Mosquitto's acl_file as it stands. Which one it is, the name says: `*.toml` is ours.

    default = "deny"               # or "allow": what no rule speaks of

    [[rules]]
    user = "kitchen"               # without it: everybody; "": those without a name
    client = "kitchen-*"           # without it: any client identifier; a last * stands for any ending
    read = ["commands/kitchen/#"]
    write = ["sensors/%u/+"]       # %u the user name, %c the client identifier, each within one level
    readwrite = ["state/%c"]
    deny = ["sensors/kitchen/secret"]

Mosquitto's file: `topic [read|write|readwrite|deny] FILTER` for the `user NAME` before it, or for those without a name
where there is none yet; `pattern …` with %u and %c for everybody. Two things differ. A deny wins over every other rule
here, over those of other lines too; and a subscription to what can never be read is refused rather than left silent.
"""

from __future__ import annotations

import tomllib
from typing import Literal

import msgspec

from ....core.errors import Misconfigured
from ...mqtt.reasons import Violation
from ...mqtt.topics import check_topic_filter
from .rules import Grant, Rule, Rules

_GRANTS = {"read": Grant.READ, "write": Grant.WRITE, "readwrite": Grant.BOTH, "deny": Grant.DENY}


class _TomlRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    user: str | None = None
    client: str | None = None
    read: list[str] = []
    write: list[str] = []
    readwrite: list[str] = []
    deny: list[str] = []


class _TomlFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    default: Literal["allow", "deny"] = "deny"
    rules: list[_TomlRule] = []


def parse_rules(text: str, *, source: str) -> Rules:
    """Raises Misconfigured with file and line or key."""
    return _parse_toml(text, source) if source.endswith(".toml") else _parse_lines(text, source)


def _parse_toml(text: str, source: str) -> Rules:
    try:
        file = msgspec.convert(tomllib.loads(text), _TomlFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{source}: {error}") from None
    rules: list[Rule] = []
    for number, entry in enumerate(file.rules):
        where = f"{source}: rules[{number}]"
        found = [
            Rule(_checked(each, where), grant, entry.user, entry.client)
            for grant, filters in (
                (Grant.READ, entry.read),
                (Grant.WRITE, entry.write),
                (Grant.BOTH, entry.readwrite),
                (Grant.DENY, entry.deny),
            )
            for each in filters
        ]
        if not found:
            raise Misconfigured(f"{where} says nothing: give read, write, readwrite or deny")
        rules += found
    return Rules(rules, otherwise=file.default == "allow")


def _parse_lines(text: str, source: str) -> Rules:
    rules: list[Rule] = []
    user = ""
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{source}:{number}"
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not word or word.startswith("#"):
            continue
        if word == "user" and rest:
            user = rest
        elif word in ("topic", "pattern") and rest:
            first, _, after = rest.partition(" ")
            grant = _GRANTS.get(first) if after.strip() else None
            topic_filter = _checked(rest if grant is None else after.strip(), where)
            rules.append(
                Rule(
                    topic_filter if word == "pattern" else _literal(topic_filter, where),
                    Grant.BOTH if grant is None else grant,
                    None if word == "pattern" else user,
                )
            )
        else:
            raise Misconfigured(f"{where}: expected user, topic or pattern, not {word[:40]!r}")
    return Rules(rules)


def _literal(topic_filter: str, where: str) -> str:
    if "%c" in topic_filter or "%u" in topic_filter:
        raise Misconfigured(f"{where}: %c and %u stand in `pattern` lines, not in `topic` lines")
    return topic_filter


def _checked(topic_filter: str, where: str) -> str:
    try:
        return check_topic_filter(topic_filter)
    except Violation as error:
        raise Misconfigured(f"{where}: {error}") from None
