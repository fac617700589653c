"""An object store in memory that misbehaves as real ones do, as a function of its seed.

`SimulatedBucket` is what is stored; each process of a simulation has its own `SimulatedStore` onto it. A request takes
some time to arrive, is applied at one instant, and its answer takes some time to come back; each step can go wrong:

    DROP      applied, and the answer is lost                                  → Unknown
    LATE      the caller hears nothing; applied long after, even after others have seen a 404   → Unknown
    CONFLICT  409: not applied                                                 → Unknown
    ERROR     500: applied or not, nobody knows                                → Unknown
    SLOW_DOWN 503: not applied                                                 → Unavailable
    STALL     like a stopped process: nothing for a long time, then all goes on as if it had not been

Reads know only SLOW_DOWN and delay. A call that is cancelled before it was applied is, by chance, applied later.
Faults come by chance (`rates`) or are scripted: `script("put_if_absent", "wal/", Fault.DROP)` hits the next match.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import random
from collections.abc import Callable, Mapping
from typing import TypeVar

from headwater.core.errors import AlreadyExists, Missing, Unavailable, Unknown
from headwater.core.objectstore import ObjectInfo, ObjectStore, StoredObject
from headwater.core.objectstore.directory import check_key

T = TypeVar("T")
_Page = list[ObjectInfo]


class Fault(enum.Enum):
    DROP = enum.auto()
    LATE = enum.auto()
    CONFLICT = enum.auto()
    ERROR = enum.auto()
    SLOW_DOWN = enum.auto()
    STALL = enum.auto()


QUIET: Mapping[Fault, float] = {}
ROUGH: Mapping[Fault, float] = {
    Fault.DROP: 0.06,
    Fault.LATE: 0.05,
    Fault.CONFLICT: 0.03,
    Fault.ERROR: 0.04,
    Fault.SLOW_DOWN: 0.05,
    Fault.STALL: 0.02,
}


class SimulatedBucket:
    """The stored objects. Every change is one step of the loop, so it is atomic."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.trace: list[tuple[float, str, str, str]] = []
        self._generation = 0

    def create(self, key: str, data: bytes) -> str:
        if key in self.objects:
            raise AlreadyExists(f"sim:{key}: exists")
        return self._store(key, data)

    def overwrite(self, key: str, data: bytes, etag: str | None) -> str:
        if etag is not None:
            held = self.objects.get(key)
            if held is None:
                raise Missing(f"sim:{key}: no such object")
            if held[1] != etag:
                raise AlreadyExists(f"sim:{key}: changed by another writer")
        return self._store(key, data)

    def remove(self, key: str) -> None:
        self.objects.pop(key, None)

    def read(self, key: str, start: int, size: int | None) -> StoredObject:
        held = self.objects.get(key)
        if held is None:
            raise Missing(f"sim:{key}: no such object")
        return StoredObject(held[0][start : None if size is None else start + size], held[1])

    def info(self, key: str) -> ObjectInfo | None:
        held = self.objects.get(key)
        return None if held is None else ObjectInfo(key, len(held[0]), held[1], 0)

    def _store(self, key: str, data: bytes) -> str:
        self._generation += 1
        etag = f"{self._generation:x}-{hashlib.blake2b(data, digest_size=4).hexdigest()}"
        self.objects[key] = (data, etag)
        return etag


class SimulatedStore(ObjectStore):
    """One process's way to a bucket."""

    def __init__(
        self,
        rng: random.Random,
        *,
        bucket: SimulatedBucket | None = None,
        rates: Mapping[Fault, float] = QUIET,
        name: str = "sim",
        latency_s: float = 0.02,
        late_s: float = 60.0,
    ) -> None:
        self.bucket = bucket or SimulatedBucket()
        self.rates = rates
        self._rng = rng
        self._name = name
        self._latency_s = latency_s
        self._late_s = late_s
        self._scripted: list[tuple[str, str, Fault]] = []

    @property
    def location(self) -> str:
        return f"sim://{self._name}"

    def script(self, operation: str, key_prefix: str, fault: Fault) -> None:
        """The next call of `operation` on a key with that prefix meets this fault; several stand in a queue."""
        self._scripted.append((operation, key_prefix, fault))

    async def put_if_absent(self, key: str, data: bytes) -> str:
        check_key(key)
        return await self._write("put_if_absent", key, lambda: self.bucket.create(key, data))

    async def put(self, key: str, data: bytes) -> str:
        check_key(key)
        return await self._write("put", key, lambda: self.bucket.overwrite(key, data, None))

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        check_key(key)
        return await self._write("replace", key, lambda: self.bucket.overwrite(key, data, etag))

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._write("delete", key, lambda: self.bucket.remove(key))

    async def get(self, key: str, *, start: int = 0, size: int | None = None) -> StoredObject:
        check_key(key)
        return await self._read("get", key, lambda: self.bucket.read(key, start, size))

    async def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        return await self._read("head", key, lambda: self.bucket.info(key))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[ObjectInfo]:
        def page() -> _Page:
            keys = sorted(k for k in self.bucket.objects if k.startswith(prefix) and k > after)
            return [info for key in keys[:limit] if (info := self.bucket.info(key)) is not None]

        return await self._read("list", prefix, page)

    async def close(self) -> None:
        return

    async def _write(self, operation: str, key: str, apply: Callable[[], T]) -> T:
        fault = self._fault(operation, key)
        try:
            await self._travel(fault)
        except asyncio.CancelledError:
            if self._rng.random() < 0.5:
                self._later(operation, key, apply)
            raise
        if fault is Fault.LATE:
            self._later(operation, key, apply)
            raise Unknown(f"sim:{key}: no answer")
        if fault is Fault.CONFLICT:
            raise Unknown(f"sim:{key}: 409")
        if fault is Fault.SLOW_DOWN:
            raise Unavailable(f"sim:{key}: 503")
        if fault is Fault.ERROR and self._rng.random() < 0.5:
            raise Unknown(f"sim:{key}: 500")
        result = self._apply(operation, key, apply)
        await self._travel(None)
        if fault in {Fault.DROP, Fault.ERROR}:
            raise Unknown(f"sim:{key}: answer lost")
        return result

    async def _read(self, operation: str, key: str, look: Callable[[], T]) -> T:
        fault = self._fault(operation, key)
        await self._travel(fault)
        if fault in {Fault.SLOW_DOWN, Fault.ERROR, Fault.DROP}:
            raise Unavailable(f"sim:{key}: 503")
        result = look()
        await self._travel(None)
        return result

    async def _travel(self, fault: Fault | None) -> None:
        pause = self._rng.random() * self._latency_s
        if fault is Fault.STALL:
            pause += self._rng.random() * self._late_s
        await asyncio.sleep(pause)

    def _apply(self, operation: str, key: str, apply: Callable[[], T]) -> T:
        now = asyncio.get_running_loop().time()
        try:
            result = apply()
        except (AlreadyExists, Missing) as error:
            self.bucket.trace.append((now, self._name, operation, f"{key} {type(error).__name__}"))
            raise
        self.bucket.trace.append((now, self._name, operation, key))
        return result

    def _later(self, operation: str, key: str, apply: Callable[[], T]) -> None:
        def land() -> None:
            try:
                self._apply(f"late {operation}", key, apply)
            except (AlreadyExists, Missing):
                return  # nobody is left to hear it

        delay = self._rng.random() * self._late_s
        asyncio.get_running_loop().call_later(delay, land)

    def _fault(self, operation: str, key: str) -> Fault | None:
        for number, (wanted, prefix, fault) in enumerate(self._scripted):
            if wanted == operation and key.startswith(prefix):
                del self._scripted[number]
                return fault
        if not self.rates:
            return None
        roll = self._rng.random()
        for fault, rate in self.rates.items():
            roll -= rate
            if roll < 0:
                return fault
        return None
