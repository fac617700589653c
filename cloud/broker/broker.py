"""A node, composed: takes its address, joins the cluster, takes over its shards, serves, gives everything back.

broker = Broker(settings, …)
await broker.start()        # bound, shard open, serving
reason = await broker.wait_closed()   # only ever a loss: fenced, or a writer that doubts
await broker.close()        # drain: answers under way leave, what was submitted is durable
"""

from __future__ import annotations

import asyncio
import random

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from ...core.backoff import Backoff
from ...core.clock import Clock
from ...core.errors import Unavailable, Unknown
from ...core.journal.objects import ObjectJournalSettings
from ...core.objectstore import ObjectStore
from ..groups.coordinator import GroupCoordinator, members_of
from ..groups.rim import Groups
from ..groups.settings import GroupSettings
from ..metrics import BrokerMetrics
from .budget import ByteBudget
from .cluster import Cluster, found_or_join
from .listener import Listener
from .membership import Member, SoleMember, node_id
from .node import Node
from .producer_ids import ProducerIds
from .retention import Housekeeper
from .settings import BrokerSettings
from .shard import Shard
from .shards import Shards
from .tls import ServerTls, ServerTlsSettings

_log = structlog.get_logger()


class TlsDoor(msgspec.Struct, frozen=True, kw_only=True):
    """A second listener, over TLS. An advertised port of 0 is the port listened on."""

    host: str
    port: int
    advertise_host: str
    advertise_port: int = 0
    files: ServerTlsSettings


class BrokerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Values the composition root has worked out. An advertised port of 0 is the port listened on."""

    name: str
    host: str
    port: int
    advertise_host: str
    advertise_port: int = 0
    tls: TlsDoor | None = None
    shards: int = 1
    broker: BrokerSettings = BrokerSettings()
    groups: GroupSettings = GroupSettings()
    journal: ObjectJournalSettings = ObjectJournalSettings()


class Broker:
    def __init__(
        self,
        options: BrokerOptions,
        store: ObjectStore,
        *,
        clock: Clock,
        rng: random.Random,
        registry: CollectorRegistry,
    ) -> None:
        request_max = options.broker.request_bytes_max
        pending_max = options.journal.pending_bytes_max
        assert options.broker.produce_bytes_in_flight_max + request_max <= pending_max, (
            "what the node lets in must fit into the journal's queue"
        )
        self._options = options
        self._store = store
        self._clock = clock
        self._rng = rng
        self._metrics = BrokerMetrics(registry)
        self._listener = Listener()
        self._node: Node | None = None
        self._housekeeping: asyncio.Task[None] | None = None
        self._waits_for = "starting"
        self._tls: ServerTls | None = None

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def node(self) -> Node:
        assert self._node is not None, "started"
        return self._node

    def reasons_not_ready(self) -> list[str]:
        """Empty when this node can take records."""
        if self._node is None:
            return [self._waits_for]
        reasons = ["draining"] if self._node.draining else []
        for shard in self._node.shards.owned():
            if shard.closed_reason is not None:
                reasons.append(f"shard {shard.number} is closed: {shard.closed_reason}")
            elif (age := shard.oldest_pending_s()) > _SLOW_STORE_S:
                reasons.append(f"the store has not answered for {age:.0f} s")
        return reasons

    async def start(self) -> None:
        """Raises Refused, Corrupt, Closed. A store that does not answer is asked again until it does."""
        options = self._options
        if options.tls is not None:
            self._tls = ServerTls(options.tls.files)
        await self._listener.bind(options.host, options.port)
        if options.tls is not None and self._tls is not None:
            await self._listener.bind_tls(options.tls.host, options.tls.port, self._tls.context)
        backoff = Backoff(self._rng, first_s=0.2, cap_s=10.0)
        while True:
            try:
                cluster = await found_or_join(self._store, shards=options.shards, rng=self._rng)
                shards = [await self._open(number) for number in range(cluster.shards)]
                break
            except (Unavailable, Unknown) as error:
                self._waits_for = f"opening the log: {error}"
                _log.warning("the store does not answer yet", error=str(error))
                await asyncio.sleep(backoff.next())
        self._node = node = self._compose(cluster, shards)
        self._metrics.gauge(
            "produce_bytes_in_flight",
            "Produced bytes that wait for their object.",
            lambda: node.produce_budget.held,
        )
        self._metrics.gauge(
            "fetch_bytes_in_flight",
            "Fetch answers being gathered or sent.",
            lambda: node.fetch_budget.held,
        )
        self._metrics.gauge(
            "store_wait_seconds",
            "How long the store has owed the oldest answer.",
            lambda: max(shard.oldest_pending_s() for shard in node.shards.owned()),
        )
        self._metrics.gauge(
            "group_members",
            "Members of consumer groups.",
            lambda: members_of(node.groups.coordinator.groups()),
        )
        housekeeper = Housekeeper(node, sweep=self._sweep)
        self._housekeeping = asyncio.get_running_loop().create_task(housekeeper.run())
        await self._listener.serve(node)
        _log.info("serving", cluster=cluster.cluster_id, node=options.name, port=self.port)

    async def wait_closed(self) -> str:
        """Returns why the node lost a shard."""
        waits = [asyncio.ensure_future(shard.wait_closed()) for shard in self.node.shards.owned()]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self) -> None:
        """Drain. What was submitted becomes durable unless the store is away for longer than the setting allows."""
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        if self._node is None:
            self._listener.abort()
            return
        await self._listener.drain()
        for shard in self._node.shards.owned():
            try:
                async with asyncio.timeout(self._options.broker.drain_timeout):
                    await shard.close()
            except TimeoutError:
                _log.warning("the store did not take what was left", shard=shard.number)

    def kill(self) -> None:
        """Stop at once, as a crash would: for tests."""
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        self._listener.abort()
        if self._node is not None:
            for shard in self._node.shards.owned():
                shard.writer.kill()

    def _sweep(self) -> None:
        """At each turn of the housekeeping."""
        self._listener.close_idle()
        self.reload_certificates()

    def reload_certificates(self) -> None:
        """What is new on disk holds for the next handshake."""
        if self._tls is not None:
            self._tls.reload()

    @property
    def tls_port(self) -> int:
        return self._listener.tls_port

    async def _open(self, number: int) -> Shard:
        return await Shard.open(
            self._store,
            number,
            settings=self._options.journal,
            clock=self._clock,
            rng=self._rng,
        )

    def _compose(self, cluster: Cluster, opened: list[Shard]) -> Node:
        options, door = self._options, self._options.tls
        me = Member(
            node_id(options.name),
            options.name,
            options.advertise_host,
            options.advertise_port or self.port,
            None if door is None else (door.advertise_host, door.advertise_port or self.tls_port),
        )
        shards = Shards(cluster, opened)
        coordinator = GroupCoordinator(options.groups, clock=self._clock, rng=self._rng)
        return Node(
            settings=options.broker,
            membership=SoleMember(me),
            shards=shards,
            groups=Groups(coordinator, clock=self._clock),
            producer_ids=ProducerIds(shards, block=options.broker.producer_ids_block),
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
            produce_budget=ByteBudget(options.broker.produce_bytes_in_flight_max),
            fetch_budget=ByteBudget(options.broker.fetch_memory_max),
        )


# An ordinary flush and PUT take well under a second; at this age somebody should look.
_SLOW_STORE_S = 5.0
