"""FORMAT.md's worked example is what the code writes, byte for byte."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import headwater.core.journal.files
from headwater.core.clock import ManualClock
from headwater.core.journal.files import FileJournal, FileJournalSettings
from headwater.core.journal.files.frames import FRAME_HEADER_BYTES
from headwater.core.journal.files.index import (
    SegmentMap,
    decode_footer,
    decode_trailer,
    encode_footer,
    footer_bytes_max,
    place_footer,
)
from headwater.core.record import TopicPartition
from headwater.core.units import ByteSize
from tests.sim.disk import SimDisk

_LINE = re.compile(r"^ *(\d+)  ([0-9a-f]+)  ", re.MULTILINE)


def example() -> bytes:
    disk = SimDisk(random.Random(0))
    settings = FileJournalSettings(
        segment_bytes=ByteSize(65536),
        record_bytes_max=ByteSize(8192),
        commit_bytes_max=ByteSize(8192),
    )
    journal = FileJournal.open(
        "/j", disk=disk, clock=ManualClock(), settings=settings, rng=random.Random(1)
    )
    writer = journal.writer(TopicPartition("readings", 0))
    writer.append(1_700_000_000_000, b"plant/7/temp", b"21.5")
    writer.append(1_700_000_000_250, b"plant/7/temp", b"21.6")
    journal.note(1, b"hi")
    commit = journal.seal()
    assert commit is not None
    commit.write()
    return disk.bytes_of(f"/j/{1:020d}.segment")


def test_the_worked_example_is_true() -> None:
    package = Path(headwater.core.journal.files.__file__).parent
    text = (package / "FORMAT.md").read_text(encoding="utf-8")
    block = text.split("<!-- example", 1)[1].split("```")[1]
    lines = [(int(position), bytes.fromhex(data)) for position, data in _LINE.findall(block)]
    assert len(lines) > 25
    written = example()
    for position, data in lines:
        assert written[position : position + len(data)] == data, f"position {position}"
    for (position, data), (following, _) in itertools.pairwise(lines):
        assert following in {position + len(data), 4096}, f"the example skips bytes at {position}"
    assert not any(written[64:4096])
    assert not any(written[4294:8192])


def test_headers_have_the_lengths_the_format_gives() -> None:
    assert FRAME_HEADER_BYTES == 56


def test_a_footer_gives_back_every_partition_and_validates_under_its_salt_alone() -> None:
    rng = random.Random(4)
    found = SegmentMap()
    ends = {TopicPartition(f"s{i % 5}", i): rng.randrange(10**12) for i in range(300)}
    place = 4096
    for partition in rng.sample(sorted(ends), 100):
        found.add(
            partition, (ends[partition] - 3, ends[partition]), (place, 70), (place, place + 5)
        )
        place += 100
    written = {f"s{i}": i * 1000 for i in range(5)}
    data = encode_footer(found, ends=ends, stream_bytes=written, data_end=place, salt=77)
    position, placed = place_footer(
        data, segment_bytes=1 << 20, data_end=place, sequence=9, salt=77
    )
    assert position + len(placed) == 1 << 20
    assert len(placed) <= footer_bytes_max(300, 5, 10)
    assert decode_trailer(placed, sequence=9, salt=77) == (position, len(data))
    assert decode_trailer(placed, sequence=9, salt=78) is None
    assert decode_trailer(placed, sequence=8, salt=77) is None
    footer = decode_footer(data, salt=77)
    assert dict(footer.ends()) == ends
    assert footer.stream_bytes == written
    assert dict(footer.present()) == {p: found.summary(p) for p in found.partitions}
    assert footer.end(TopicPartition("unknown", 0)) == 0
    for partition, end in ends.items():
        assert footer.end(partition) == end
        assert footer.summary(partition) == found.summary(partition)
