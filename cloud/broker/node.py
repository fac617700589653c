"""A node: everything a handler may need, handed to each with its request.

Handlers keep nothing of their own. What they learn from a request they ask of these nouns, and what they change they
change through a shard's log or the group coordinator.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass, field

from ...core.clock import Clock
from ..groups.rim import Groups
from ..metrics import BrokerMetrics
from .budget import ByteBudget
from .membership import Asker, Membership
from .producer_ids import ProducerIds
from .settings import BrokerSettings
from .shards import Shards
from .topics import TopicDefaults

__all__ = ["Asker", "Node"]


@dataclass(slots=True, kw_only=True)
class Node:
    settings: BrokerSettings
    membership: Membership
    shards: Shards
    groups: Groups
    producer_ids: ProducerIds
    clock: Clock
    rng: random.Random
    metrics: BrokerMetrics
    produce_budget: ByteBudget
    fetch_budget: ByteBudget
    draining: bool = field(default=False)
    fetch_turn: int = field(default=0)
    creating: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    @property
    def defaults(self) -> TopicDefaults:
        return self.settings.topics.defaults()

    def coordinates(self, group_id: str) -> bool:
        """Whether this node is the group's coordinator."""
        shard = self.shards.of_group(group_id)
        return shard is not None and shard.closed_reason is None and not self.draining

    def draw_id(self) -> uuid.UUID:
        return uuid.UUID(int=self.rng.getrandbits(128), version=4)
