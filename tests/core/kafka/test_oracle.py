"""Against kafka-python, which reads Kafka's own message definitions: the same bytes mean the same to both, both ways."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, TypeVar, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.core.kafka.codegen import fields
from headwater.core.kafka.messages import ApiVersionsResponse
from headwater.core.kafka.schema import Message

from .strategies import every_version, full, name_of, structs

pytest.importorskip("kafka.protocol.api_message", reason="kafka-python is not installed")
each_version = pytest.mark.parametrize(("kind", "version"), every_version(), ids=name_of)


M = TypeVar("M", bound=Message)


class Theirs(Protocol):
    _header: object

    def encode(self, version: int) -> bytearray: ...


class TheirKind(Protocol):
    def decode(self, data: bytes, version: int) -> Theirs: ...


def their_messages() -> dict[str, TheirKind]:
    base = importlib.import_module("kafka.protocol.api_message").ApiMessage
    for package in ("admin", "consumer", "producer"):
        module = importlib.import_module(f"kafka.protocol.{package}")
        for info in pkgutil.iter_modules(module.__path__):
            importlib.import_module(f"{module.__name__}.{info.name}")
    importlib.import_module("kafka.protocol.metadata")
    return {kind.__name__: cast("TheirKind", kind) for kind in base.__subclasses__()}


THEIRS = their_messages()


def asked(message: M) -> M:
    """kafka-python reads the answer to ApiVersions as version 0 as soon as it holds an error: not what is compared here."""
    if isinstance(message, ApiVersionsResponse):
        return cast("M", msgspec.structs.replace(message, error_code=0))
    return message


def rewritten(theirs: Theirs, version: int) -> bytes:
    theirs._header = None  # their decoder leaves it unset, their encoder looks at it
    return bytes(theirs.encode(version=version))


@each_version
def test_kafka_python_reads_and_writes_the_same_bytes(kind: type[Message], version: int) -> None:
    encoded = asked(full(kind, version)).encode(version)
    theirs = THEIRS[kind.__name__].decode(encoded, version=version)
    assert rewritten(theirs, version) == encoded


@each_version
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_kafka_python_agrees_on_any_message(
    kind: type[Message], version: int, data: st.DataObject
) -> None:
    message = asked(data.draw(structs(kind, version)))
    theirs = THEIRS[kind.__name__].decode(message.encode(version), version=version)
    assert kind.decode(rewritten(theirs, version), version) == message


@each_version
def test_kafka_python_finds_the_same_under_the_same_names(
    kind: type[Message], version: int
) -> None:
    message = asked(full(kind, version))
    theirs = THEIRS[kind.__name__].decode(message.encode(version), version=version)
    compare(message, theirs, version, kind.__name__)


def compare(ours: object, theirs: object, version: int, path: str) -> None:
    if isinstance(ours, msgspec.Struct):
        for item in fields(type(ours)):
            # what kafka-python calls authorized_operations everywhere, and unpacks into a set
            if item.exists(version) and not item.name.endswith("authorized_operations"):
                name = item.name
                compare(getattr(ours, name), getattr(theirs, name), version, f"{path}.{name}")
    elif isinstance(ours, tuple):
        for one, other in zip(ours, cast("list[object]", theirs), strict=True):
            compare(one, other, version, path)
    else:
        assert theirs == ours, path
