"""The cursor survives what a power cut and a bad card can do to two small files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import msgspec
import pytest

from headwater.core.disk import SystemDisk
from headwater.core.record import TopicPartition
from headwater.edge.uplink.cursor import CursorStore, Era, PartitionCursor

LOG = "0123456789abcdef"
SOURCE = TopicPartition("readings", 3)


def _cursor(acked: int) -> PartitionCursor:
    return PartitionCursor(4, 1, Era(1000, 0, 0), acked, 17)


def _store(directory: Path, *, log: str = LOG, edge: str = "edge-1") -> CursorStore:
    return CursorStore(SystemDisk(), str(directory), log_id=log, edge=edge)


def _saved(directory: Path, *acked: int) -> None:
    store = _store(directory)
    cluster, _ = store.cluster("c1")
    for value in acked:
        cluster.put(SOURCE, [_cursor(value)])
        store.write(store.encode())


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    _saved(tmp_path, 1, 2, 3)
    cluster, new = _store(tmp_path).cluster("c1")
    assert cluster.get(SOURCE) == [_cursor(3)]
    assert not new


def test_under_another_name_it_goes_on_with_producer_ids_of_its_own(tmp_path: Path) -> None:
    _saved(tmp_path, 3)
    store = _store(tmp_path)
    store.cluster("c1")[0].producers[0] = 1000
    store.write(store.encode())
    renamed = _store(tmp_path, edge="edge-2")
    cluster, new = renamed.cluster("c1")
    assert cluster.get(SOURCE) == [msgspec.structs.replace(_cursor(3), suspect=True)]
    assert not cluster.producers, "the others who have a copy of this directory use them too"
    assert not new
    renamed.write(renamed.encode())
    assert _store(tmp_path, edge="edge-2").cursors.edge == "edge-2"


@pytest.mark.parametrize("damage", [b"", b"hwcursor", b"x" * 200])
def test_a_damaged_newest_file_falls_back_to_the_one_before(tmp_path: Path, damage: bytes) -> None:
    _saved(tmp_path, 1, 2, 3)
    (tmp_path / "cursor-1").write_bytes(damage)  # generation 3
    store = _store(tmp_path)
    suspect = msgspec.structs.replace(_cursor(2), suspect=True)
    assert store.cluster("c1")[0].get(SOURCE) == [suspect], (
        "generation 3 is gone, and with it what it knew"
    )
    assert len(store.damaged) == 1


def test_ranges_are_kept_and_a_partition_of_one_looks_as_before_there_were_any(
    tmp_path: Path,
) -> None:
    store = _store(tmp_path)
    cluster, _ = store.cluster("c1")
    live = msgspec.structs.replace(_cursor(9), origin=9)
    cluster.put(SOURCE, [_cursor(4), live])
    store.write(store.encode())
    cluster, _ = _store(tmp_path).cluster("c1")
    assert cluster.get(SOURCE) == [_cursor(4), live]
    cluster.put(SOURCE, [live])
    assert (cluster.get(SOURCE), cluster.beyond[SOURCE.topic]) == ([live], {})


def test_a_file_from_before_there_were_ranges_is_read(tmp_path: Path) -> None:
    old = {"log": LOG, "clusters": {"c1": {"used": 1, "rebuilt": False, "producers": {0: 1000}}}}
    era = {"producer_id": 1000, "epoch": 2, "origin": 5}
    partition = {"partitions": 4, "target": 1, "era": era, "acked": 7, "floor": 3}
    old["clusters"]["c1"]["streams"] = {SOURCE.topic: {SOURCE.partition: partition}}  # type: ignore[index]
    body = struct.pack(">Q", 1) + msgspec.msgpack.encode(old)
    head = struct.pack(">8sI", b"hwcursor", zlib.crc32(body))
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "cursor-1").write_bytes(head + body)
    cluster, new = _store(tmp_path).cluster("c1")
    assert (cluster.get(SOURCE), new) == ([PartitionCursor(4, 1, Era(1000, 2, 5), 7, 3)], False)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    _saved(tmp_path, 1)
    whole = (tmp_path / "cursor-1").read_bytes()
    for position in range(len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 0x40
        (tmp_path / "cursor-1").write_bytes(broken)
        assert _store(tmp_path).damaged, position


def test_with_both_files_damaged_it_starts_and_knows_that_it_must_read_back(tmp_path: Path) -> None:
    _saved(tmp_path, 1, 2)
    for name in ("cursor-0", "cursor-1"):
        (tmp_path / name).write_bytes(b"rust")
    store = _store(tmp_path)
    cluster, new = store.cluster("c1")
    assert (cluster.rebuilt, new, len(store.damaged)) == (True, True, 2)


def test_files_that_are_gone_are_as_good_as_damaged(tmp_path: Path) -> None:
    _saved(tmp_path, 1, 2, 3)
    (tmp_path / "cursor-1").unlink()  # generation 3
    older = CursorStore(SystemDisk(), str(tmp_path), log_id=LOG, edge="edge-1", is_first=False)
    suspect = msgspec.structs.replace(_cursor(2), suspect=True)
    assert older.cluster("c1")[0].get(SOURCE) == [suspect]
    (tmp_path / "cursor-0").unlink()
    none = CursorStore(SystemDisk(), str(tmp_path), log_id=LOG, edge="edge-1", is_first=False)
    assert none.cluster("c1")[0].rebuilt
    assert len(none.damaged) == 2


def test_a_first_start_leaves_a_file_so_that_none_is_one_that_was_lost(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.begin()
    assert not store.damaged
    later = CursorStore(SystemDisk(), str(tmp_path), log_id=LOG, edge="edge-1", is_first=False)
    assert not later.damaged
    assert not later.cluster("c1")[0].rebuilt


def test_an_edge_whose_log_was_wiped_does_not_meet_its_old_producer_ids(tmp_path: Path) -> None:
    _saved(tmp_path, 5)
    cluster, new = _store(tmp_path, log="f" * 16).cluster("c1")
    assert (cluster.streams, cluster.producers, new) == ({}, {}, True)


def test_each_cluster_has_its_own_cursor_and_the_fifth_is_forgotten(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for number in range(5):
        cluster, new = store.cluster(f"c{number}")
        assert new
        cluster.put(SOURCE, [_cursor(number)])
    assert store.cluster("c1")[0].get(SOURCE) == [_cursor(1)]
    assert store.cluster("c0")[1], "the least recently used made room"


def test_a_save_that_was_overtaken_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    store = _store(tmp_path)
    cluster, _ = store.cluster("c1")
    cluster.put(SOURCE, [_cursor(1)])
    older = store.encode()
    cluster.put(SOURCE, [_cursor(2)])
    store.write(store.encode())
    store.write(older)
    assert [cursor.acked for cursor in _store(tmp_path).cluster("c1")[0].get(SOURCE)] == [2]


@pytest.mark.parametrize(
    ("origin", "near", "last", "expected"),
    [
        (0, 0, 4, 5),
        (10, 10, 4, 15),
        (0, 2**31 - 2, 2**31 - 1, 2**31),
        (0, 2**31 + 3, 2**31 - 1, 2**31),
        (7, 2**32 + 7, 1, 2**32 + 9),
        (100, 103, 0, 101),
    ],
)
def test_a_sequence_number_names_the_nearest_offset(
    origin: int, near: int, last: int, expected: int
) -> None:
    assert Era(1, 0, origin).next_offset(last, near=near) == expected
