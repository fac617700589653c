"""Reading the log, and committing to it.

Reading: checkpoint, then one GET per later version until one is missing. A cold read confirms the end with one LIST,
for a version may be missing because it was *cleaned up*, not because it was never written.

Committing, at `version = snapshot + 1`, the same bytes each time:
  put created it            → committed
  put found the key taken   → read it: our identity → committed; another's → catch up, `rebase`, next version
  put's answer was lost     → read the version; nothing there → put the same bytes at the same key again. The late
                              first PUT and the second are the same commit, so it does not matter which one wins.
                              Never the next version, before this one is decided: that would commit the data twice.
  put certainly not applied → pause, put again
Nothing is ever deleted here.

Rebase: another writer's commit is harmless when it moved none of our transaction identifiers and changed neither
columns nor protocol. Otherwise the draft is `Overtaken`: nothing of it was applied; reload, and build it again from
the table's positions.
"""

from __future__ import annotations

import asyncio
import random
import uuid

import msgspec

from ....core.backoff import Backoff
from ....core.clock import Clock
from ....core.errors import AlreadyExists, Closed, Corrupt, Missing, Refused, Unavailable, Unknown
from ....core.objectstore import ObjectStore
from ..offload import Offload, in_thread
from . import checkpoint, names
from .add import Add
from .commit import Commit
from .commitinfo import CommitInfo
from .metadata import Metadata
from .protocol import OURS
from .snapshot import NO_VERSION, Snapshot
from .txn import Txn

# A reader asks for this many versions at once; S3 answers them in the time of one.
READ_AHEAD = 16

# A writer that slept longer than this lists the log before it commits: the version it believes to be free may have
# been written, checkpointed and cleaned up meanwhile (log retention is hours at least, 30 days by default).
STALE_AFTER_S = 1800.0

# A checkpoint costs time in proportion to the active files; one per files/20 commits makes the cost per commit constant.
CHECKPOINT_COMMITS_MIN = 50
CHECKPOINT_FILES_PER_COMMIT = 20

ENGINE = "headwater"


class Overtaken(Closed):
    """Another writer moved what this commit builds on. Nothing of it was applied: reload and build it again."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A commit not yet made. `metadata` only where the table is new or its columns change."""

    operation: str
    adds: tuple[Add, ...] = ()
    txns: tuple[Txn, ...] = ()
    metadata: Metadata | None = None
    parameters: dict[str, object] = {}


class DeltaLog:
    """One table. Belongs to one task: `commit` and `refresh` do not overlap."""

    def __init__(
        self,
        store: ObjectStore,
        table: str,
        *,
        clock: Clock,
        rng: random.Random,
        offload: Offload = in_thread,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._offload = offload
        self.table = table
        self.snapshot = Snapshot(table)
        self._looked_at = clock.monotonic()
        self._checkpoint_version = NO_VERSION
        self.conflicts = 0  # commits of others that we met
        self.ambiguous = 0  # PUTs whose answer was lost

    # ---- reading

    async def load(self) -> Snapshot:
        """Read from nothing: newest checkpoint, then what follows. Raises Refused, Corrupt, Unavailable."""
        self.snapshot = Snapshot(self.table)
        self._checkpoint_version = NO_VERSION
        await self._restore(await self._hinted_checkpoint())
        await self._catch_up()
        newest = await self._newest_listed()
        if (
            newest > self.snapshot.version
        ):  # the hint was lost or old, and versions before it are cleaned up
            await self._restore(await self._listed_checkpoint())
            await self._catch_up()
            if self.snapshot.version < newest:
                raise Corrupt(
                    f"{self._place}: version {newest} exists but {self.snapshot.version + 1} does not, "
                    "and no checkpoint covers it"
                )
        if self.snapshot.exists and (
            self.snapshot.protocol is None or self.snapshot.metadata is None
        ):
            raise Corrupt(f"{self._place}: the log begins without protocol and metadata")
        self._looked_at = self._clock.monotonic()
        return self.snapshot

    async def refresh(self) -> Snapshot:
        """Read what was committed since."""
        if self._clock.monotonic() - self._looked_at > STALE_AFTER_S:
            return await self.load()
        await self._catch_up()
        self._looked_at = self._clock.monotonic()
        return self.snapshot

    @property
    def _place(self) -> str:
        return f"{self._store.location}/{self.table}"

    async def _catch_up(self) -> None:
        width = 1
        while True:
            first = self.snapshot.version + 1
            commits = await asyncio.gather(*(self._read(first + i) for i in range(width)))
            for index, commit in enumerate(commits):
                if commit is None:
                    return
                self.snapshot.apply(first + index, commit)
            width = READ_AHEAD

    async def _read(self, version: int) -> Commit | None:
        key = names.version_key(self.table, version)
        try:
            stored = await self._store.get(key)
        except Missing:
            return None
        return Commit.decode(stored.data, key=f"{self._store.location}/{key}")

    async def _hinted_checkpoint(self) -> tuple[int, int] | None:
        try:
            stored = await self._store.get(names.last_checkpoint_key(self.table))
            hint = msgspec.json.decode(stored.data, type=checkpoint.LastCheckpoint)
        except (Missing, msgspec.MsgspecError):
            return None
        return hint.version, hint.parts or 0

    async def _listed_checkpoint(self) -> tuple[int, int] | None:
        """The newest whole checkpoint. Versions are zero-padded, so names sort as numbers."""
        found: dict[tuple[int, int], int] = {}
        after = ""
        while infos := await self._store.list(names.log_prefix(self.table), after=after):
            for info in infos:
                if parsed := names.parse_checkpoint(info.key):
                    found[parsed] = found.get(parsed, 0) + 1
            after = infos[-1].key
        whole = [parsed for parsed, count in found.items() if count == max(parsed[1], 1)]
        return max(whole, default=None)

    async def _restore(self, place: tuple[int, int] | None) -> None:
        if place is None:
            return
        version, parts = place
        keys = (
            [names.checkpoint_key(self.table, version)]
            if not parts
            else [
                names.checkpoint_part_key(self.table, version, part + 1, parts)
                for part in range(parts)
            ]
        )
        try:
            stored = await asyncio.gather(*(self._store.get(key) for key in keys))
        except Missing:
            return
        state = checkpoint.decode([part.data for part in stored], key=keys[0])
        self.snapshot.restore(version, state)
        self._checkpoint_version = version

    async def _newest_listed(self) -> int:
        """The newest version that a LIST shows after the one we hold (one page is enough to see whether any is)."""
        newest = self.snapshot.version
        after = names.version_key(self.table, newest) if newest >= 0 else ""
        while infos := await self._store.list(names.log_prefix(self.table), after=after):
            versions = [names.parse_version(info.key) for info in infos]
            newest = max([newest, *(version for version in versions if version is not None)])
            after = infos[-1].key
        return newest

    # ---- committing

    async def commit(self, draft: Draft, *, retries: Backoff) -> int:
        """Returns the version. Raises Overtaken, Refused, Corrupt; waits through Unavailable and Unknown."""
        if self._clock.monotonic() - self._looked_at > STALE_AFTER_S:
            await self._look_before_leaping(draft, retries)
        commit = self._complete(draft)
        body = commit.encode()
        while True:
            self._check_writable()
            version = self.snapshot.version + 1
            if await self._decide(version, body, commit, retries):
                self.snapshot.apply(version, commit)
                self._looked_at = self._clock.monotonic()
                return version
            self.conflicts += 1
            await self._rebase(draft, retries)

    def _complete(self, draft: Draft) -> Commit:
        identity = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        return Commit(
            info=CommitInfo(
                timestamp=self._clock.wall_ms(),
                operation=draft.operation,
                operation_parameters=draft.parameters,
                is_blind_append=True,
                engine_info=ENGINE,
                txn_id=str(identity),
            ),
            protocol=None if self.snapshot.exists else OURS,
            metadata=draft.metadata,
            txns=draft.txns,
            adds=draft.adds,
        )

    async def _decide(self, version: int, body: bytes, commit: Commit, retries: Backoff) -> bool:
        """True: this version is our commit. False: it is another's, and ours can never appear there."""
        key = names.version_key(self.table, version)
        while True:
            try:
                await self._store.put_if_absent(key, body)
            except AlreadyExists:
                pass
            except Unavailable:
                await asyncio.sleep(retries.next())
                continue
            except Unknown:
                self.ambiguous += 1
            else:
                retries.reset()
                return True
            try:
                found = await self._read(version)
            except Unavailable:
                await asyncio.sleep(retries.next())
                continue
            if found is None:  # not there yet; the same bytes to the same key again
                await asyncio.sleep(retries.next())
                continue
            retries.reset()
            mine = commit.info is not None and commit.info.txn_id is not None
            return mine and found.info is not None and found.info.txn_id == commit.info.txn_id  # type: ignore[union-attr]

    async def _rebase(self, draft: Draft, retries: Backoff) -> None:
        before = self.snapshot
        positions = {txn.app_id: before.position(txn.app_id) for txn in draft.txns}
        metadata, protocol, version = before.metadata, before.protocol, before.version
        await self._patiently_refresh(retries)
        after = self.snapshot
        if after.version <= version:
            raise Corrupt(f"{self._place}: version {version + 1} is taken but cannot be read")
        if metadata is not None and after.metadata is not None and after.metadata.id != metadata.id:
            raise Refused(f"{self._place} was replaced by another table while the sink was running")
        if after.metadata != metadata or after.protocol != protocol:
            raise Overtaken(f"{self._place}: another writer changed the columns or the protocol")
        for app_id, position in positions.items():
            if after.position(app_id) != position:
                raise Overtaken(
                    f"{self._place}: another writer moved {app_id} "
                    f"from {position} to {after.position(app_id)}"
                )

    async def _look_before_leaping(self, draft: Draft, retries: Backoff) -> None:
        version = self.snapshot.version
        await self._patiently_refresh(retries)
        if self.snapshot.version != version:
            raise Overtaken(f"{self._place}: others committed while this writer slept")
        del draft

    async def _patiently_refresh(self, retries: Backoff) -> None:
        while True:
            try:
                await self.refresh()
            except Unavailable:
                await asyncio.sleep(retries.next())
            else:
                return

    def _check_writable(self) -> None:
        if self.snapshot.protocol is not None:
            self.snapshot.protocol.check_writable(self._place)

    # ---- checkpoints

    @property
    def checkpoint_due(self) -> bool:
        commits = self.snapshot.version - max(self._checkpoint_version, 0)
        files = len(self.snapshot.files)
        return commits >= max(CHECKPOINT_COMMITS_MIN, files // CHECKPOINT_FILES_PER_COMMIT)

    async def write_checkpoint(self) -> None:
        """After a commit, off its path. Losing one costs readers time and nothing else. Raises Unavailable, Unknown."""
        version = self.snapshot.version
        state = self.snapshot.state(now_ms=self._clock.wall_ms())
        data = await self._offload(lambda: checkpoint.encode(state))
        # whatever happens below, do not try again at each commit
        self._checkpoint_version = version
        try:
            await self._store.put_if_absent(names.checkpoint_key(self.table, version), data)
        except AlreadyExists:
            return  # another writer of the same table was faster; its state at this version is the same
        hint = checkpoint.LastCheckpoint(
            version=version,
            size=2 + len(state.txns) + len(state.removes) + len(state.adds),
            size_in_bytes=len(data),
            num_of_add_files=len(state.adds),
        )
        await self._store.put(names.last_checkpoint_key(self.table), msgspec.json.encode(hint))
