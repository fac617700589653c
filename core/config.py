"""Settings: values a user tunes, from a TOML file, the environment and flags, each with its origin.

Rule: flags override the environment, which overrides the file, which overrides defaults; the origin of every value can be
shown. Settings are frozen msgspec structs and hold values only, never components (SlateDB RFC 0010). A wrong key or value
raises Misconfigured with the file (or variable, or flag), the key and the nearest valid key; the command line turns that
into exit status 78 (sysexits EX_CONFIG), so that systemd does not restart into the same mistake.

`[edge.journal] bytes_max` in the file is `HEADWATER_EDGE__JOURNAL__BYTES_MAX` in the environment.
Only this file reads the environment.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import enum
import inspect
import itertools
import os
import re
import textwrap
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec

from .errors import Misconfigured, Refused
from .secret import Secret
from .units import ByteSize, Duration

T = TypeVar("T", bound=msgspec.Struct)
Tree = dict[str, object]

SECTIONS = ("edge", "cloud", "sink")
_PREFIX = "HEADWATER_"
_WHERE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`\Z")
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")


class Field(NamedTuple):
    """One setting as a reader sees it: dotted key below the section, type, default and its documentation."""

    key: str
    type: object
    default: object
    doc: str


class Loaded(NamedTuple, Generic[T]):
    """The settings and, for each dotted key that was set, where it was set. Other keys are defaults."""

    value: T
    origins: dict[str, str]


def environment() -> Mapping[str, str]:
    return os.environ


def load(
    kind: type[T],
    *,
    section: str,
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
) -> Loaded[T]:
    """Merge the sources and convert. `flags` maps dotted keys to the values given, None for those not given.

    Raises Misconfigured.
    """
    tree: Tree = {}
    origins: dict[str, str] = {}
    if file is not None:
        _merge(tree, origins, _read(file, section), f"file {file}")
    for key, (name, text) in _from_environment(section, environ).items():
        _put(tree, origins, key, _parse(text), f"environment {name}")
    for key, value in flags.items():
        if value is not None:
            _put(tree, origins, key, value, f"flag --{key.replace('_', '-')}")
    _refuse_nul(tree, section, origins)
    try:
        with located(section, origins):
            value = msgspec.convert(tree, type=kind, strict=False, dec_hook=_decode_unit)
    except msgspec.ValidationError as error:
        raise _explain(error, kind, section, origins) from None
    return Loaded(value, origins)


@contextlib.contextmanager
def located(section: str, origins: Mapping[str, str]) -> Iterator[None]:
    """A rule between settings knows its keys; this adds the section and where they were set.

    Raises Misconfigured instead of the one raised inside.
    """
    try:
        yield
    except Misconfigured as error:
        text, hint = str(error.args[0]), error.hint
        named = [key for key in origins if re.search(rf"\b{re.escape(key)}\b", text)]
        key = max(named, key=len, default="")
        if key and f"{section}." not in text:
            text = text.replace(key, f"{section}.{key}", 1)
        # a rule about what was not set is broken by something that was: the file is where to look
        files = (origin for origin in origins.values() if origin.startswith("file "))
        where = origins[key] if key else next(files, "configuration")
        raise Misconfigured(f"{where}: {text}", hint=hint) from None


def fields(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[Field]:
    """Every setting below `kind`, depth first, in the order of declaration."""
    docs = _docs(kind)
    for field in msgspec.structs.fields(kind):
        inner = _struct_of(field.type)
        key = prefix + field.name
        if inner is not None and not _is_list(field.type):
            yield from fields(inner, f"{key}.")
            continue
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        yield Field(key, field.type, default, docs.get(field.name, ""))


def value_of(settings: msgspec.Struct, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def item_of(kind: object) -> type[msgspec.Struct] | None:
    """The struct of which a setting is a list, as [[edge.streams]] is; None for every other setting."""
    return _struct_of(kind) if _is_list(kind) else None


def literal(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, enum.Enum):
        return literal(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, ByteSize | Duration):
        return f'"{value}"'
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, msgspec.Struct):
        pairs = ((f.name, getattr(value, f.name)) for f in msgspec.structs.fields(type(value)))
        return "{ " + ", ".join(f"{k} = {literal(v)}" for k, v in pairs if v is not None) + " }"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {literal(v)}" for k, v in value.items()) + " }"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read(file: Path, section: str) -> Tree:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Misconfigured(f"{file}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(
            f"{file}: not valid TOML: {error}", hint="headwater config --example"
        ) from None
    for name in document:
        if name not in SECTIONS:
            known = _nearest(name, SECTIONS) or f" (there are: {', '.join(SECTIONS)})"
            raise Misconfigured(f"{file}: unknown section [{name}]{known}")
    table = document.get(section, {})
    if not isinstance(table, dict):
        raise Misconfigured(f"{file}: [{section}] must be a table")
    return table


def _from_environment(section: str, environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    start = f"{_PREFIX}{section.upper()}__"
    return {
        name[len(start) :].lower().replace("__", "."): (name, text)
        for name, text in sorted(environ.items())
        if name.startswith(start)
    }


def _parse(text: str) -> object:
    """A list or table is written as TOML; everything else is the text itself."""
    if text[:1] in "[{":
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _merge(tree: Tree, origins: dict[str, str], table: Tree, origin: str, prefix: str = "") -> None:
    for name, value in table.items():
        key = prefix + name
        if isinstance(value, dict):
            inner = tree.setdefault(name, {})
            assert isinstance(inner, dict), "the file is merged first"
            _merge(inner, origins, value, origin, f"{key}.")
            if not value:
                origins[key] = origin
        else:
            tree[name] = value
            origins[key] = origin


def _put(tree: Tree, origins: dict[str, str], key: str, value: object, origin: str) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        inner = tree.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise Misconfigured(f"{origin}: {parent!r} is not a table")
        tree = inner
    tree[name] = value
    origins[key] = origin


def _refuse_nul(tree: Tree, section: str, origins: Mapping[str, str]) -> None:
    """No path, name or address has one, and whoever gets it from us would stumble."""
    for key, origin in origins.items():
        value: object = tree
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if any("\0" in text for text in _texts(value)):
            raise Misconfigured(f"{origin}: {section}.{key}: there is a NUL character in it")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _decode_unit(kind: type, value: object) -> object:
    try:
        if kind is ByteSize and isinstance(value, str | int):
            return ByteSize.parse(value)
        if kind is Secret and isinstance(value, str):
            return Secret(value)
        if kind is Duration and isinstance(value, str | int | float):
            return Duration.parse(value)
    except Refused as error:
        raise ValueError(str(error)) from None
    if kind is Secret:  # a password of digits alone is still one
        raise ValueError("expected text in quotes (its value is not shown)")
    raise ValueError(f"expected a {kind.__name__}, got {value!r}")


def _explain(
    error: msgspec.ValidationError,
    kind: type[msgspec.Struct],
    section: str,
    origins: dict[str, str],
) -> Misconfigured:
    text = str(error)
    where = _WHERE.search(text)
    path = where["path"] if where else ""
    reason = _WHERE.sub("", text)
    unknown = _UNKNOWN.search(reason)
    if unknown:
        key = ".".join(part for part in (path, unknown["field"]) if part)
        known = [field.key for field in fields(kind)]
        names = (
            [name.name for name in msgspec.structs.fields(inner)]
            if (inner := _at(kind, path))
            else []
        )
        hint = _nearest(unknown["field"], names) or _nearest(key, known)
        return Misconfigured(f"{_origin(key, origins)}: unknown key {section}.{key}{hint}")
    key = re.sub(r"\[[^]]*\]", "", path)
    reason += _choices(kind, key, reason)
    if reason == "Expected `array`, got `object`":
        reason += f": one entry of many is written [[{section}.{path}]]"
    return Misconfigured(f"{_origin(key, origins)}: {section}.{path or '*'}: {reason}")


def _origin(key: str, origins: dict[str, str]) -> str:
    for known, origin in origins.items():
        if known == key or known.startswith(f"{key}.") or key.startswith(known):
            return origin
    return "configuration"


def _at(kind: type[msgspec.Struct], path: str) -> type[msgspec.Struct] | None:
    current: type[msgspec.Struct] | None = kind
    for part in path.split(".") if path else []:
        name = part.partition("[")[0]
        found = [f for f in msgspec.structs.fields(current) if f.name == name] if current else []
        current = _struct_of(found[0].type) if found else None
    return current


def _choices(kind: type[msgspec.Struct], key: str, reason: str) -> str:
    """What an enumeration takes, where that is what was wrong."""
    if not reason.startswith("Invalid enum value"):
        return ""
    parent, _, name = key.rpartition(".")
    owner = _at(kind, parent)
    types = [f.type for f in msgspec.structs.fields(owner) if f.name == name] if owner else []
    values: list[object] = []
    for each in types:
        for one in (each, *typing.get_args(each)):
            if isinstance(one, type) and issubclass(one, enum.Enum):
                values += [member.value for member in one]
            elif isinstance(one, str | int):
                values.append(one)  # of a Literal
    return f" (one of: {', '.join(map(str, values))})" if values else ""


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {close[0]})" if close else ""


def _struct_of(kind: object) -> type[msgspec.Struct] | None:
    for candidate in (kind, *typing.get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return candidate
    return None


def _is_list(kind: object) -> bool:
    return typing.get_origin(kind) in (list, tuple, dict)


def _docs(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The string literal under each field of the class, as its documentation."""
    try:
        source = inspect.getsource(kind)
    except (
        OSError
    ):  # no source at hand, as in a frozen build: settings work, without their documentation
        return {}
    body = typing.cast("ast.ClassDef", ast.parse(textwrap.dedent(source)).body[0]).body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
