"""JSON values as they are met in the field, and what a column can hold of them.

Strict first (msgspec). What that refuses is tried as its writers write it: NaN and the infinities are taken; numbers
that neither int nor float holds are kept as they were written (`Digits`). Everything else is broken.
"""

from __future__ import annotations

import json
import re

import msgspec

from ..lake.delta.schema import BOOLEAN, DOUBLE, STRING

# Beyond, a double changes an integer.
EXACT = 2**53

TOO_DEEP = "broken json: nested too deeply"

_DIGITS_MAX = 4000  # CPython refuses to parse longer integers; they stay text

_plain = msgspec.json.Decoder()


# An escape of half a surrogate pair is all that json takes and UTF-8 cannot hold.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")

# So many brackets may be as many levels: then it is tried whether they can be written again, with some to spare.
_BRACKETS_MAX = 400


class Digits(str):
    """A number that neither int nor float holds: kept as it was written."""

    __slots__ = ()


def loads(payload: bytes) -> object:
    try:
        return _plain.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        try:
            found = json.loads(
                payload.decode(),
                parse_float=_float,
                parse_int=_int,
            )
            return _without_halves(found) if _HALF.search(payload) else found
        except RecursionError:
            raise
        except ValueError:
            raise ValueError(str(error).removeprefix("JSON is malformed: ")) from None


def check_depth(payload: bytes, value: object) -> None:
    """Raises RecursionError where `value` could be read, but not be written as the text of a column."""
    if payload.count(b"[") + payload.count(b"{") > _BRACKETS_MAX:
        json_text([[[[[[[[[[[[[[[[value]]]]]]]]]]]]]]]])


def _without_halves(value: object) -> object:
    if isinstance(value, dict):
        return {clean(key): _without_halves(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_halves(item) for item in value]
    return value if isinstance(value, Digits) else clean(value)


def number(text: str) -> object:
    return _float(text) if any(letter in text for letter in ".eE") else _int(text)


def _float(text: str) -> object:
    value = float(text)
    return value if abs(value) != float("inf") else Digits(text)


def _int(text: str) -> object:
    return int(text) if len(text) <= _DIGITS_MAX else Digits(text)


def kind_of(value: object) -> str:
    if isinstance(value, bool):
        return BOOLEAN
    return DOUBLE if isinstance(value, int | float | Digits) else STRING


def inexact(value: object) -> bool:
    """Would a double change it?"""
    if isinstance(value, Digits):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT


def clean(value: object) -> object:
    """Half a surrogate pair (JSON can say it, UTF-8 cannot) becomes its escape."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
