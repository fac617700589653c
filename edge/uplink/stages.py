"""Where a range stands, and what it needs from the world; the table is in partition.py."""

from __future__ import annotations

import enum


class Need(enum.Enum):
    NOTHING = "nothing"
    DESCRIBE = "describe"
    READ_BACK = "read back"
    PRODUCER = "producer"
    SAVE = "save"
    DECLARE = "declare"


class Stage(enum.Enum):
    ASK = "asking"
    LOOK = "reading back"
    OPEN = "sending"
    SETTLE = "settling"
    DECLARE = "declaring a loss"
    ERA = "beginning an era"
