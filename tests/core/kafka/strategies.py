"""Hypothesis strategies for Kafka messages, made from the same annotations that the codec reads."""

from __future__ import annotations

import uuid
from functools import cache
from typing import TypeVar

import msgspec
from hypothesis import strategies as st

from headwater.core.kafka.codegen import Array, Field, Kind, fields
from headwater.core.kafka.messages import REQUESTS
from headwater.core.kafka.primitives import Blob, Fixed, Text
from headwater.core.kafka.schema import Message

S = TypeVar("S", bound=msgspec.Struct)

_RANGES = {
    "b": st.integers(-(2**7), 2**7 - 1),
    "h": st.integers(-(2**15), 2**15 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "q": st.integers(-(2**63), 2**63 - 1),
    "?": st.booleans(),
    "16s": st.binary(min_size=16, max_size=16).map(lambda raw: uuid.UUID(bytes=raw)),
}


def every_message() -> list[type[Message]]:
    return [kind for request in REQUESTS.values() for kind in (request, request.RESPONSE)]


def every_version() -> list[tuple[type[Message], int]]:
    return [
        (kind, version)
        for kind in every_message()
        for version in range(kind.VERSIONS[0], kind.VERSIONS[1] + 1)
    ]


def name_of(value: object) -> str:
    return value.__name__ if isinstance(value, type) else f"v{value}"


def structs(kind: type[S], version: int) -> st.SearchStrategy[S]:
    """Only the fields that the version has: what is left out would not come back."""
    return st.builds(kind, **_fields(kind, version))


@cache
def _fields(kind: type[msgspec.Struct], version: int) -> dict[str, st.SearchStrategy[object]]:
    return {item.name: _value(item, version) for item in fields(kind) if item.exists(version)}


def _value(item: Field, version: int) -> st.SearchStrategy[object]:
    value = _of(item.kind, version)
    return st.none() | value if item.is_nullable(version) else value


def _of(kind: Kind, version: int) -> st.SearchStrategy[object]:
    if isinstance(kind, Fixed):
        return _RANGES[kind.letter]
    if isinstance(kind, Text):
        return st.text(max_size=5) | st.just("x" * 200)
    if isinstance(kind, Blob):
        return st.binary(max_size=5) | st.just(b"\x07" * 200)
    if isinstance(kind, Array):
        return st.lists(_of(kind.element, version), max_size=2).map(tuple)
    return structs(kind, version)


def full(kind: type[S], version: int, *, size: int = 2) -> S:
    """One message with everything in it: no null, no empty array, every tagged field."""
    return kind(
        **{
            item.name: _full(item.kind, version, size)
            for item in fields(kind)
            if item.exists(version)
        }
    )


def _full(kind: Kind, version: int, size: int) -> object:
    if isinstance(kind, Fixed):
        if kind.letter == "16s":
            return uuid.UUID(int=0x1234)
        return True if kind.letter == "?" else 17
    if isinstance(kind, Text):
        return "näme"
    if isinstance(kind, Blob):
        return b"bytes"
    if isinstance(kind, Array):
        return tuple(_full(kind.element, version, size) for _ in range(size))
    return full(kind, version, size=size)
