"""Producers, nodes that die and are replaced, and a store in trouble, as a function of a seed.

Each producer numbers its values, sends them in batches with sequences, and repeats what it heard nothing good of, as
librdkafka does: the same batch with the same sequence. Nodes are killed in mid-flight and opened again over the same
bucket; now and then a second one takes the shard from a first that does not know it yet. At the end, in the log:

    every value that was acknowledged, at the offset that was told
    every value once, in the order in which its producer sent it
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

import pytest

from headwater.cloud.broker.inflight import Commit
from headwater.cloud.broker.producers import SEQUENCE_MAX
from headwater.cloud.broker.shard import Accepted, Held, Rejected, Shard
from headwater.core.batch import decode_batch, encode_batch, parse_header, split_batches
from headwater.core.errors import Closed, HeadwaterError, Unavailable, Unknown
from headwater.core.journal.objects import ObjectJournalSettings
from headwater.core.kafka.errors import ErrorCode
from headwater.core.record import Record, TopicPartition
from headwater.core.units import Duration
from tests.sim.loop import LoopClock, run
from tests.sim.store import QUIET, ROUGH, SimulatedBucket, SimulatedStore

TP = TopicPartition("readings", 0)
PRODUCERS = 3
BATCHES = 80
IN_FLIGHT = 5
SETTINGS = ObjectJournalSettings(
    flush_interval=Duration(0.1), attempt_timeout=Duration(5.0), checkpoint_objects=7
)


class World:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.bucket = SimulatedBucket()
        self.clock = LoopClock(asyncio.get_running_loop())
        self.rates = ROUGH
        self.shard: Shard | None = None
        self.acknowledged: dict[int, bytes] = {}

    async def open(self) -> None:
        """Take the shard over, however often it takes."""
        while True:
            store = SimulatedStore(
                random.Random(self.rng.random()), bucket=self.bucket, rates=self.rates
            )
            try:
                self.shard = await Shard.open(
                    store, 0, settings=SETTINGS, clock=self.clock, rng=self.rng
                )
            except (Unavailable, Unknown, Closed):
                await asyncio.sleep(self.rng.random())
            else:
                return

    async def trouble(self) -> None:
        """Kill the node, or open another beside it, which fences it."""
        while True:
            await asyncio.sleep(self.rng.random() * 3)
            if self.rng.random() < 0.5 and self.shard is not None:
                self.shard.writer.kill()
            await self.open()


class SimulatedProducer:
    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number
        self._rng = random.Random(world.rng.random())
        # near the wrap, so that it is met in every run
        self._sequence = (SEQUENCE_MAX - self._rng.randrange(60)) & SEQUENCE_MAX
        self._value = 0
        self._waiting: deque[tuple[bytes, list[bytes]]] = deque()

    async def run(self) -> None:
        left = BATCHES
        while left or self._waiting:
            while left and len(self._waiting) < IN_FLIGHT:
                self._waiting.append(self._batch())
                left -= 1
            await self._send_all()
            await asyncio.sleep(self._rng.random())

    def _batch(self) -> tuple[bytes, list[bytes]]:
        count = self._rng.randint(1, 4)
        values = [b"%d:%d" % (self._number, self._value + n) for n in range(count)]
        data = encode_batch(
            [Record(1, None, value) for value in values],
            producer_id=self._number,
            producer_epoch=0,
            base_sequence=self._sequence,
        )
        self._value += count
        self._sequence = (self._sequence + count) & SEQUENCE_MAX
        return data, values

    async def _send_all(self) -> None:
        """Everything under way is sent in order; what is known to be held is crossed off, from the front."""
        sent: list[tuple[int, Commit | None]] = []
        shard = self._world.shard
        assert shard is not None
        try:
            for data, _ in self._waiting:
                match shard.append(TP, data, parse_header(data)):
                    case Accepted(base_offset, commit):
                        sent.append((base_offset, commit))
                    case Held(base_offset):
                        sent.append((base_offset, None))
                    case Rejected(error, message):
                        assert error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, message
                        raise AssertionError(f"a retry in order was refused: {message}")
        except (Closed, Unavailable):
            pass
        for base_offset, decided in sent:
            if decided is not None:
                await asyncio.wait([decided], timeout=self._rng.random() * 3)
                if not decided.done() or decided.exception() is not None:
                    return  # nothing good was heard: again, from this one on
            _, values = self._waiting.popleft()
            for n, value in enumerate(values):
                known = self._world.acknowledged.setdefault(base_offset + n, value)
                assert known == value, f"two values at offset {base_offset + n}"


async def scenario(seed: int) -> None:
    world = World(seed)
    await world.open()
    trouble = asyncio.ensure_future(world.trouble())
    producers = [SimulatedProducer(world, number) for number in range(PRODUCERS)]
    await asyncio.gather(*(producer.run() for producer in producers))
    trouble.cancel()
    await asyncio.gather(trouble, return_exceptions=True)
    world.rates = QUIET
    await world.open()
    assert world.shard is not None
    await asyncio.sleep(200)  # answers that land late change nothing
    stored = await everything(world.shard)
    for offset, value in world.acknowledged.items():
        assert stored.get(offset) == value, f"acknowledged at {offset}"
    for number, producer in enumerate(producers):
        mine = [v for _, v in sorted(stored.items()) if v.startswith(b"%d:" % number)]
        assert mine == [b"%d:%d" % (number, n) for n in range(producer._value)]
    await world.shard.close()


async def everything(shard: Shard) -> dict[int, bytes]:
    stored: dict[int, bytes] = {}
    offset = 0
    while offset < shard.bounds(TP).end:
        for batch in await shard.journal.read(TP, offset, bytes_max=1 << 20):
            for header, view in split_batches(batch):
                for record in decode_batch(view)[1]:
                    assert record.offset not in stored
                    stored[record.offset] = record.value or b""
                offset = header.next_offset
    return stored


@pytest.mark.parametrize("seed", range(60))
def test_acknowledged_batches_are_once_and_in_order_whatever_happens(seed: int) -> None:
    try:
        run(scenario(seed))
    except (AssertionError, HeadwaterError) as error:
        raise AssertionError(f"seed {seed}: {error}") from error
