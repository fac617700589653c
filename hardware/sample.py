"""One reading, with what it is worth.

Rule: a value of quality *good* was measured; *uncertain* was measured but something about it is in doubt; *bad* is not to
be used, and `value` is None unless a number was read. `reason` is empty for good samples only.
"""

from __future__ import annotations

import enum

import msgspec


class Quality(enum.StrEnum):
    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`name` is a path such as `cpu/0/busy`, fit to be the end of an MQTT topic."""

    name: str
    value: float | None
    unit: str
    quality: Quality
    reason: str = ""
    captured_ms: int

    def __post_init__(self) -> None:
        assert (self.quality is Quality.GOOD) == (not self.reason), "a doubt has a reason"
        assert self.value is not None or self.quality is Quality.BAD, "no value is never good"


def topic_part(text: str) -> str:
    """A name from a driver as one level of a topic: no separators, wildcards or white space."""
    kept = "".join(c if c.isalnum() or c in "._-@:" else "_" for c in text.strip())
    return kept or "unnamed"
