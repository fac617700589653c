"""A secret setting: text that no log, no `config --show` and no traceback prints. `reveal` is the one way to it."""

from __future__ import annotations


class Secret(str):
    """Prints as stars wherever text is made of it."""

    __slots__ = ()

    def reveal(self) -> str:
        return str.__str__(self)[:]

    def __str__(self) -> str:
        return "***" if len(self) else ""

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)
