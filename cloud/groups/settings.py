"""Settings of consumer groups."""

from __future__ import annotations

import msgspec

from ...core.units import KIB, ByteSize, Duration


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[cloud.groups]"""

    rebalance_delay: Duration = Duration(0.5)
    """How long the first member of an empty group waits for company. Kafka waits 3 s; a rebalance here costs no disk,
    so a group that starts slowly had better rebalance twice than everybody wait."""

    session_timeout_min: Duration = Duration(1)
    """Below this a garbage collection pause on a small device looks like a death."""

    session_timeout_max: Duration = Duration(1800)
    """Above this a dead member holds its partitions for longer than anybody will wait (Kafka's limit)."""

    members_max: int = 1_000
    """Members of one group; the leader's JoinGroup answer carries the metadata of all of them."""

    groups_max: int = 10_000
    """Groups with members in memory on one node."""

    member_metadata_bytes_max: ByteSize = ByteSize(256 * KIB)
    """Subscription of one member, all protocols together: bounds what members_max can make a node hold."""

    offset_metadata_bytes_max: int = 4_096
    """The free text beside a committed offset (Kafka's limit)."""

    offsets_retention: Duration = Duration(7 * 86400)
    """Committed offsets of a group without members are dropped after this long (Kafka's default)."""
