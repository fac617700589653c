"""From annotations to a reader and a writer: the one codec for all of Kafka's messages.

For each (struct, version) two small functions are written as Python text and compiled at first use, as `dataclasses`
does for `__init__`. Fields of fixed size that follow one another become one `struct` call, and no version is asked
for per message.

Rules for reading. An array's count is held against the bytes that remain before anything is built from it. Text and
blobs never reach past the end. Unknown tagged fields are skipped. What is wrong raises Refused, struct.error,
IndexError or UnicodeDecodeError: `schema.Message.decode` is the only caller and turns them all into `Refused`.

In the generated text `b` is the buffer, `p` the position in it, `e` its end, `n` a length just read, `q` where a
value stops, `m` the message being written and `put` the list's append that takes its pieces.
"""

from __future__ import annotations

import struct
import types
import typing
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, TypeAlias, cast, get_args, get_origin, get_type_hints

import msgspec

from ..errors import Refused
from .primitives import (
    Blob,
    Buffer,
    Fixed,
    NullableSince,
    Since,
    Tagged,
    Text,
    Until,
    decode_uvarint,
    encode_uvarint,
)  # fmt: skip

Reader: TypeAlias = Callable[[Buffer, int, int], tuple[msgspec.Struct, int]]
Writer: TypeAlias = Callable[[msgspec.Struct, Callable[[Buffer], None]], None]

_VERSION_MAX = 2**15 - 1


@dataclass(frozen=True, slots=True)
class Array:
    element: Kind


Kind: TypeAlias = Fixed | Text | Blob | Array | type[msgspec.Struct]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct, as its annotation describes it."""

    name: str
    kind: Kind
    default: object
    since: int
    until: int
    nullable_since: int | None  # None: never null
    tag: Tagged | None

    def exists(self, version: int) -> bool:
        return self.since <= version <= self.until

    def is_nullable(self, version: int) -> bool:
        return self.nullable_since is not None and version >= self.nullable_since


@cache
def fields(kind: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The fields in wire order, which is the order of declaration."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        _field(info.name, hints[info.name], info.default) for info in msgspec.structs.fields(kind)
    )


def _field(name: str, hint: object, default: object) -> Field:
    marks: tuple[object, ...] = ()
    nullable = False
    while True:
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            marks = (*more, *marks)
        elif get_origin(hint) in {typing.Union, types.UnionType} and type(None) in get_args(hint):
            # `Buffer | None` is flattened by Python into four members: the rest is what is not None.
            rest = [member for member in get_args(hint) if member is not type(None)]
            hint = rest[0]
            nullable = True
        else:
            break
    tag = next((mark for mark in marks if isinstance(mark, Tagged)), None)
    since = next(
        (mark.version for mark in marks if isinstance(mark, Since)), tag.since if tag else 0
    )
    until = next((mark.version for mark in marks if isinstance(mark, Until)), _VERSION_MAX)
    null = next((mark.version for mark in marks if isinstance(mark, NullableSince)), 0)
    return Field(name, _kind(hint, marks), default, since, until, null if nullable else None, tag)


def _kind(hint: object, marks: tuple[object, ...] = ()) -> Kind:
    if get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        marks = (*more, *marks)
    for mark in marks:
        if isinstance(mark, Fixed | Text | Blob):
            return mark
    if get_origin(hint) is Sequence:
        return Array(_kind(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    raise TypeError(f"no wire type for {hint!r}")


@dataclass(slots=True)
class _Source:
    """The text of one function while it is written, and the objects that it names."""

    version: int
    flexible: bool
    lines: list[str] = field(default_factory=list)
    names: dict[str, object] = field(default_factory=dict)
    depth: int = 1

    def add(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    def name(self, stem: str, value: object) -> str:
        for known, held in self.names.items():
            if held is value:
                return known
        name = f"{stem}_{len(self.names)}"
        self.names[name] = value
        return name

    def packer(self, letters: str) -> struct.Struct:
        return _packer(letters)

    def compile(self, head: str, title: str) -> Callable[..., object]:
        code = compile("\n".join([head, *self.lines]), f"<{title} v{self.version}>", "exec")
        exec(code, self.names)
        return cast("Callable[..., object]", self.names["generated"])


@cache
def _packer(letters: str) -> struct.Struct:
    return struct.Struct(">" + letters)


def _runs(present: list[Field]) -> list[list[Field]]:
    """Neighbours of fixed size gathered; every other field alone."""
    runs: list[list[Field]] = []
    for item in present:
        if isinstance(item.kind, Fixed) and runs and isinstance(runs[-1][0].kind, Fixed):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


@cache
def size_min(kind: Kind, version: int, *, flexible: bool) -> int:
    """The fewest bytes that a value can take: what an array's count is held against."""
    if isinstance(kind, Fixed):
        return kind.size
    if isinstance(kind, Text):
        return 1 if flexible else 2
    if isinstance(kind, Blob | Array):
        return 1 if flexible else 4
    sizes = [
        size_min(item.kind, version, flexible=flexible)
        for item in fields(kind)
        if item.exists(version) and item.tag is None
    ]
    return max(1, sum(sizes) + flexible)


# -- reading ----------------------------------------------------------------------------------------------------------


def _short(what: str, size: int, position: int) -> Refused:
    return Refused(f"{what} of {size} at byte {position} reaches past the end")


def _null(what: str) -> Refused:
    return Refused(f"{what} is null or has a negative length")


@cache
def reader(kind: type[msgspec.Struct], version: int, *, flexible: bool) -> Reader:
    """A function (buffer, position, end) -> (struct, position after it)."""
    source = _Source(version, flexible)
    source.names |= {
        "uvarint": decode_uvarint,
        "short": _short,
        "null": _null,
        "UUID": uuid.UUID,
        "unpack_from": struct.unpack_from,
        "short_length": _packer("h").unpack_from,
        "long_length": _packer("i").unpack_from,
    }
    present = [item for item in fields(kind) if item.exists(version)]
    for run in _runs([item for item in present if item.tag is None]):
        if isinstance(run[0].kind, Fixed):
            _read_run(source, run)
        else:
            _read_value(source, run[0].kind, run[0], f"f_{run[0].name}")
    if flexible:
        _read_tags(source, [item for item in present if item.tag is not None])
    arguments = ", ".join(f"{item.name}=f_{item.name}" for item in present)
    source.add(f"return {source.name('Kind', kind)}({arguments}), p")
    return cast("Reader", source.compile("def generated(b, p, e):", kind.__name__))


def _read_run(source: _Source, run: list[Field]) -> None:
    packer = source.packer(
        "".join(item.kind.letter for item in run if isinstance(item.kind, Fixed))
    )
    targets = "".join(f"f_{item.name}, " for item in run)
    source.add(f"{targets.rstrip()} = {source.name('unpack', packer.unpack_from)}(b, p)")
    source.add(f"p += {packer.size}")
    for item in run:
        if isinstance(item.kind, Fixed) and item.kind.letter == "16s":
            source.add(f"f_{item.name} = UUID(bytes=f_{item.name})")


def _read_length(source: _Source, kind: Kind) -> None:
    """Into `n`: the length, -1 for null (whatever the encoding)."""
    if source.flexible:
        source.add("n = b[p]", "p += 1", "if n > 127:", "    n, p = uvarint(b, p - 1)", "n -= 1")
    elif isinstance(kind, Text):
        source.add("(n,) = short_length(b, p)", "p += 2")
    else:
        source.add("(n,) = long_length(b, p)", "p += 4")


def _read_value(source: _Source, kind: Kind, item: Field, target: str) -> None:
    if isinstance(kind, type):
        nested = reader(kind, source.version, flexible=source.flexible)
        source.add(f"{target}, p = {source.name('read', nested)}(b, p, e)")
        return
    if isinstance(kind, Fixed):
        unpack = source.name("unpack", source.packer(kind.letter).unpack_from)
        source.add(f"({target},) = {unpack}(b, p)", f"p += {kind.size}")
        if kind.letter == "16s":
            source.add(f"{target} = UUID(bytes={target})")
        return
    _read_length(source, kind)
    source.add("if n < 0:")
    nullable = target == f"f_{item.name}" and item.is_nullable(source.version)
    if nullable:
        # -1 alone is null; a compact length cannot be less.
        source.add(f"    if n != -1: raise null({item.name!r})", f"    {target} = None")
    else:
        source.add(f"    raise null({item.name!r})")
    source.add("else:")
    source.depth += 1
    if isinstance(kind, Array):
        _read_array(source, kind.element, item, target)
    else:
        source.add("q = p + n", f"if q > e: raise short({item.name!r}, n, p)")
        if isinstance(kind, Text):
            source.add(f"{target} = str(b[p:q], 'utf-8')")
        elif kind.view:
            source.add(f"{target} = memoryview(b)[p:q]")
        else:
            source.add(f"{target} = bytes(b[p:q])")
        source.add("p = q")
    source.depth -= 1


def _read_array(source: _Source, element: Kind, item: Field, target: str) -> None:
    least = size_min(element, source.version, flexible=source.flexible)
    source.add(f"if n * {least} > e - p: raise short({item.name!r}, n, p)")
    if isinstance(element, Fixed) and element.letter != "16s":
        source.add(f"{target} = unpack_from('>%d{element.letter}' % n, b, p)")
        source.add(f"p += {element.size} * n")
        return
    source.add("values = []", "for _ in range(n):")
    source.depth += 1
    _read_value(source, element, item, "value")
    source.add("values.append(value)")
    source.depth -= 1
    source.add(f"{target} = tuple(values)")


def _read_tags(source: _Source, known: list[Field]) -> None:
    for item in known:
        source.add(f"f_{item.name} = {source.name('default', item.default)}")
    source.add("count, p = uvarint(b, p)", "for _ in range(count):")
    source.depth += 1
    source.add("tag, p = uvarint(b, p)", "size, p = uvarint(b, p)", "stop = p + size")
    source.add("if stop > e: raise short('a tagged field', size, p)")
    for item in known:
        assert item.tag is not None
        source.add(f"if tag == {item.tag.tag}:")
        source.depth += 1
        _read_value(source, item.kind, item, f"f_{item.name}")
        source.add(f"if p != stop: raise short({item.name!r}, size, p)")
        source.depth -= 1
    source.add("p = stop")
    source.depth -= 1


# -- writing ----------------------------------------------------------------------------------------------------------

_SMALL = tuple(encode_uvarint(value) for value in range(128))


@cache
def writer(kind: type[msgspec.Struct], version: int, *, flexible: bool) -> Writer:
    """A function (struct, append) that appends the encoded pieces."""
    source = _Source(version, flexible)
    source.names |= {
        "uvarint": encode_uvarint,
        "small": _SMALL,
        "pack": struct.pack,
        "short_length": _packer("h").pack,
        "long_length": _packer("i").pack,
    }
    present = [item for item in fields(kind) if item.exists(version)]
    for run in _runs([item for item in present if item.tag is None]):
        if isinstance(run[0].kind, Fixed):
            _write_run(source, run)
        else:
            source.add(f"v = m.{run[0].name}")
            _write_value(source, run[0].kind, nullable=run[0].is_nullable(version))
    if flexible:
        _write_tags(source, [item for item in present if item.tag is not None])
    source.add("return")
    return cast("Writer", source.compile("def generated(m, put):", kind.__name__))


def _write_run(source: _Source, run: list[Field]) -> None:
    packer = source.packer(
        "".join(item.kind.letter for item in run if isinstance(item.kind, Fixed))
    )
    values = ", ".join(
        f"m.{item.name}"
        + (".bytes" if isinstance(item.kind, Fixed) and item.kind.letter == "16s" else "")
        for item in run
    )
    source.add(f"put({source.name('pack', packer.pack)}({values}))")


def _write_length(source: _Source, kind: Kind) -> None:
    if source.flexible:
        source.add("n = len(v) + 1", "put(small[n] if n < 128 else uvarint(n))")
    else:
        source.add(f"put({'short_length' if isinstance(kind, Text) else 'long_length'}(len(v)))")


def _write_value(source: _Source, kind: Kind, *, nullable: bool = False) -> None:
    """Writes `v`."""
    if isinstance(kind, type):
        nested = writer(kind, source.version, flexible=source.flexible)
        source.add(f"{source.name('write', nested)}(v, put)")
        return
    if isinstance(kind, Fixed):
        pack = source.name("pack", source.packer(kind.letter).pack)
        source.add(f"put({pack}({'v.bytes' if kind.letter == '16s' else 'v'}))")
        return
    if nullable:
        null = b"\0" if source.flexible else b"\xff" * (2 if isinstance(kind, Text) else 4)
        source.add("if v is None:", f"    put({null!r})", "else:")
        source.depth += 1
    if isinstance(kind, Text):
        source.add("v = v.encode()")
    _write_length(source, kind)
    if not isinstance(kind, Array):
        source.add("put(v)")
    elif isinstance(kind.element, Fixed) and kind.element.letter != "16s":
        source.add(f"put(pack('>%d{kind.element.letter}' % len(v), *v))")
    else:
        source.add("for v in v:")
        source.depth += 1
        _write_value(source, kind.element)
        source.depth -= 1
    if nullable:
        source.depth -= 1


def _write_tags(source: _Source, known: list[Field]) -> None:
    """Tagged fields that are not their default, in the order of their tags, each with its size."""
    if not known:
        source.add("put(b'\\0')")
        return
    source.add("outer = put", "count = 0", "tags = []")
    for item in sorted(known, key=lambda item: item.tag.tag if item.tag else 0):
        assert item.tag is not None
        source.add(f"v = m.{item.name}", f"if v != {source.name('default', item.default)}:")
        source.depth += 1
        source.add("count += 1", "pieces = []", "put = pieces.append")
        _write_value(source, item.kind, nullable=item.is_nullable(source.version))
        source.add("value = b''.join(pieces)")
        source.add(f"tags += ({encode_uvarint(item.tag.tag)!r}, uvarint(len(value)), value)")
        source.depth -= 1
    source.add("outer(uvarint(count))", "outer(b''.join(tags))")
