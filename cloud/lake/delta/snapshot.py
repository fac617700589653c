"""The state of a table at one version: the fold of all commits up to it."""

from __future__ import annotations

from collections.abc import Iterable

from ....core.errors import Corrupt
from .add import Add
from .commit import Commit
from .metadata import Metadata
from .protocol import Protocol
from .remove import Remove
from .schema import Schema
from .txn import Txn

NO_VERSION = -1

# Delta's default for delta.deletedFileRetentionDuration: how long a vacuum may rely on a tombstone.
TOMBSTONE_RETENTION_MS = 7 * 86_400_000


class Snapshot:
    """Version -1 is the table that does not exist yet."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.version = NO_VERSION
        self.protocol: Protocol | None = None
        self.metadata: Metadata | None = None
        self.files: dict[str, Add] = {}
        self.tombstones: dict[str, Remove] = {}
        self.txns: dict[str, Txn] = {}

    @property
    def exists(self) -> bool:
        return self.version != NO_VERSION

    @property
    def schema(self) -> Schema:
        if self.metadata is None:
            return Schema([])
        return self.metadata.schema(table=self.table)

    def position(self, app_id: str) -> int | None:
        txn = self.txns.get(app_id)
        return txn.version if txn else None

    def apply(self, version: int, commit: Commit) -> None:
        if version != self.version + 1:
            raise Corrupt(f"{self.table}: version {version} applied after {self.version}")
        self._fold(commit)
        self.version = version

    def restore(self, version: int, state: Commit) -> None:
        """Become the state that a checkpoint holds."""
        if state.protocol is None or state.metadata is None:
            raise Corrupt(f"{self.table}: the checkpoint of version {version} has no metadata")
        self.__init__(self.table)  # type: ignore[misc]
        self._fold(state)
        self.version = version

    def forget(self, app_ids: Iterable[str]) -> None:
        """Positions that nobody needs any more: Delta lets transaction identifiers expire."""
        for app_id in app_ids:
            del self.txns[app_id]

    def state(self, *, now_ms: int) -> Commit:
        """All that a checkpoint must hold; tombstones only as long as a vacuum may need them."""
        return Commit(
            protocol=self.protocol,
            metadata=self.metadata,
            txns=tuple(self.txns.values()),
            removes=tuple(
                remove
                for remove in self.tombstones.values()
                if (remove.deletion_timestamp or 0) > now_ms - TOMBSTONE_RETENTION_MS
            ),
            adds=tuple(self.files.values()),
        )

    def _fold(self, commit: Commit) -> None:
        self.protocol = commit.protocol or self.protocol
        self.metadata = commit.metadata or self.metadata
        for txn in commit.txns:
            self.txns[txn.app_id] = txn
        for remove in commit.removes:
            self.files.pop(remove.path, None)
            self.tombstones[remove.path] = remove
        for add in commit.adds:
            self.tombstones.pop(add.path, None)
            self.files[add.path] = add
        if commit.protocol is not None:
            commit.protocol.check_readable(self.table)
