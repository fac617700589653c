"""All file names of a journal directory, made and parsed here and nowhere else.

lock                              flock; holds the pid
state.a, state.b                  log id and log start offsets, twice (FORMAT.md, "State")
00000000000000000007.segment      sequence number 7
00000000000000000007.compacted.tmp  what will take the place of segment 7 (compaction.py)
00000000000000000007.replaced.tmp   … and what it took the place of, until it is a spare
0000002a.spare                    zero-filled or retired, ready to become a segment
probe.tmp                         whether anything can be written (shelf.py); what is called .tmp is removed at start
quarantine/…                      damaged files under their old name, with .1, .2, … where it is taken
"""

from __future__ import annotations

import re

LOCK = "lock"
STATES = ("state.a", "state.b")
QUARANTINE = "quarantine"
PROBE = "probe.tmp"

_SEGMENT = re.compile(r"(\d{20})\.segment\Z")
_SPARE = re.compile(r"([0-9a-f]{8})\.spare\Z")


def segment(sequence: int) -> str:
    return f"{sequence:020d}.segment"


def segment_sequence(name: str) -> int | None:
    match = _SEGMENT.match(name)
    return int(match[1]) if match else None


def compacted(sequence: int) -> str:
    return f"{sequence:020d}.compacted.tmp"


def replaced(sequence: int) -> str:
    return f"{sequence:020d}.replaced.tmp"


def spare(number: int) -> str:
    return f"{number:08x}.spare"


def spare_number(name: str) -> int | None:
    match = _SPARE.match(name)
    return int(match[1], 16) if match else None


def join(directory: str, name: str) -> str:
    return f"{directory}/{name}"
