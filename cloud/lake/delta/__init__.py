"""A Delta Lake table log, written by hand: protocol reader 1, writer 2 (github.com/delta-io/delta, PROTOCOL.md).

    <table>/_delta_log/00000000000000000000.json      version 0: protocol, metaData, the first add and txn actions
    <table>/_delta_log/00000000000000000001.json      version 1: …
    <table>/_delta_log/00000000000000000100.checkpoint.parquet   everything up to version 100 in one file
    <table>/_delta_log/_last_checkpoint               a hint; may be lost or old
    <table>/data/day=2026-11-22/….parquet             data files, named by the add actions and by nothing else

One commit is one `put_if_absent` of the next version: of any number of racing writers one creates it, and data files,
schema and positions become visible together or not at all. What a reader sees is decided by the log alone; Parquet
files that no add action names (left by a crash) do not exist.

Files by noun: names (paths), schema (columns), protocol, metadata, add, remove, txn, commitinfo (actions), commit
(one version's lines), snapshot (the state after replay), checkpoint (the state as Parquet), log (reading and
committing).
"""

from .add import Add
from .commit import Commit
from .commitinfo import CommitInfo
from .log import DeltaLog, Draft, Overtaken
from .metadata import Metadata
from .protocol import Protocol
from .remove import Remove
from .schema import Field, Schema
from .snapshot import Snapshot
from .txn import Txn

__all__ = [
    "Add",
    "Commit",
    "CommitInfo",
    "DeltaLog",
    "Draft",
    "Field",
    "Metadata",
    "Overtaken",
    "Protocol",
    "Remove",
    "Schema",
    "Snapshot",
    "Txn",
]
