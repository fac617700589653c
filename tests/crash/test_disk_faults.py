"""The real daemon on a real ext4 on a device that fails on command, under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from headwater.core.gap import GapReason
from headwater.demo.daemon import headwater_command
from tests.powercut import kernel
from tests.powercut.headwater_edge import ROLLING, data_directory, log_directory
from tests.requirements import missing

from .card import BLOCK_BYTES, Card, card_in
from .failing import FailingEdge
from .faultydevice import (
    BAD_END,
    BAD_FIRST,
    FAIL_FLUSHES,
    FAIL_FRAMES,
    FAIL_SYNCS,
    PAUSES,
    REFUSED,
    REPEATED,
)
from .latecomer import Latecomer

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

# the others have what it has, one by one
LONG = pytest.mark.skipif("HEADWATER_DAMAGE" not in os.environ, reason="left to `make damage`")
Tale = Callable[[FailingEdge, Card], Coroutine[None, None, None]]


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    absent = kernel.missing()
    if absent is not None:
        missing(absent.reason, installable=absent.installable)
    kernel.own_mounts()


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Card]:
    with card_in(tmp_path) as made:
        yield made


@pytest.fixture
def edge(card: Card, tmp_path: Path) -> Iterator[FailingEdge]:
    seed = int(os.environ.get("HEADWATER_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"HEADWATER_SEED={seed}")
    made = FailingEdge(card, tmp_path, ROLLING, seed)
    yield made
    made.daemon.close()


def told(edge: FailingEdge, tale: Tale) -> None:
    """Under load; then killed, and started again on a card that is well: judged by what was acknowledged."""

    async def run() -> None:
        async with edge.loaded():
            await tale(edge, edge.card)
            assert edge.daemon.running, "it goes on by itself"
            assert edge.daemon.starts == 1
        edge.daemon.kill()
        edge.card.accept()
        edge.daemon.start()
        await edge.ready()
        assert edge.daemon.stop() == 0

    asyncio.run(run())


@pytest.mark.parametrize("order", [FAIL_SYNCS, FAIL_FRAMES], ids=["sync", "write"])
def test_each_refusal_of_the_device_costs_a_segment_and_is_never_asked_of_it_again(
    edge: FailingEdge, order: int
) -> None:
    async def tale(edge: FailingEdge, card: Card) -> None:
        for refusals in (1, 1, 2, 3, 5):
            card.control[order] = refusals
            await edge.until(lambda: card.control[order] == 0, "the device was used")
            await edge.more(100)
        abandoned = edge.metric("headwater_journal_segments_abandoned_total")
        assert abandoned == card.control[REFUSED] == 12
        assert card.control[REPEATED] == 0, "frames for a segment whose sync or write had failed"

    told(edge, tale)
    assert not edge.judge().losses


@LONG
def test_a_device_that_refuses_everything_is_waited_for(edge: FailingEdge) -> None:
    async def tale(edge: FailingEdge, card: Card) -> None:
        card.break_down()
        assert "input/output error" in await edge.reasons()
        await edge.nothing_is_acknowledged()
        card.accept()
        if not card.is_read_only:
            await edge.more(100)

    told(edge, tale)
    assert not edge.judge().losses


def test_a_file_system_that_aborts_itself_is_said_and_its_successor_taken_up(
    edge: FailingEdge,
) -> None:
    """ext4 meets EIO in its own journal: read-only until it is unmounted, whatever the device does later."""

    async def tale(edge: FailingEdge, card: Card) -> None:
        while not card.is_read_only:
            card.control[FAIL_FLUSHES] = 1
            await asyncio.sleep(0.01)
        card.accept()
        await edge.until(lambda: "read-only file system" in edge.stalled, "it says so")
        said = await asyncio.to_thread(_status_command, edge)
        assert "read-only file system" in said
        await edge.nothing_is_acknowledged()
        card.take_off()
        card.check()
        card.mount_again()
        await edge.more(100)

    told(edge, tale)
    assert not edge.judge().losses


def _status_command(edge: FailingEdge) -> str:
    command = headwater_command(
        "edge", "status", "--data-dir", str(data_directory(edge.card.mount))
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_a_device_that_disappears_and_comes_back_has_lost_nothing_and_nothing_is_given_up(
    edge: FailingEdge,
) -> None:
    """Who reads the log meanwhile must not take its absence for damage."""
    late = Latecomer("late", edge.port, "kept/#")

    async def tale(edge: FailingEdge, card: Card) -> None:
        await asyncio.to_thread(late.leave_word)
        before = set(edge.ledger.messages)
        await edge.more(1000)
        owed = {
            name
            for name, message in edge.ledger.messages.items()
            if name not in before and message.acked > 0 and message.topic.startswith("kept/")
        }
        late.pause_s = 0.005
        with late.back():
            await asyncio.to_thread(late.wait_for_the_first)
            _forget(log_directory(card.mount))
            card.pull_out()
            assert await edge.reasons()
            await edge.nothing_is_acknowledged()
            card.take_off()
            await edge.until(
                lambda: "no such file" in edge.stalled, "it sees that nothing is there"
            )
            await asyncio.sleep(1)  # and whoever reads does
            assert not os.listdir(card.mount), "nothing is put where the card was"
            card.check()
            card.put_in()
            await edge.more(100)
            late.pause_s = 0
            await asyncio.to_thread(late.wait_for, owed)

    told(edge, tale)
    view = edge.judge()
    assert not view.losses
    assert not view.gaps
    assert not view.quarantined


def _forget(directory: Path) -> None:
    """What the kernel's cache holds of the files: the next read asks the device."""
    for path in directory.glob("*.segment"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_full_disk_is_waited_for_until_there_is_room(edge: FailingEdge) -> None:
    async def tale(edge: FailingEdge, card: Card) -> None:
        ballast = card.mount / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(BLOCK_BYTES)) == BLOCK_BYTES:
                pass
        await edge.until(lambda: "no space left" in edge.stalled, "it says that there is no room")
        assert "no space left" in await edge.reasons()
        await edge.nothing_is_acknowledged()
        ballast.unlink()
        await edge.more(200)

    told(edge, tale)
    assert not edge.judge().losses


def test_a_card_that_pauses_for_seconds_delays_acknowledgements_and_closes_nobody(
    edge: FailingEdge,
) -> None:
    async def tale(edge: FailingEdge, card: Card) -> None:
        before = edge.metric("headwater_listener_accepted_total")
        card.control[PAUSES] = 2
        await edge.until(lambda: card.control[PAUSES] < 2, "it pauses")
        status, _ = await asyncio.to_thread(edge.daemon.get, "/readyz")
        assert status == 200
        await edge.until(lambda: card.control[PAUSES] == 0, "it has paused")
        await edge.more(200)
        assert edge.metric("headwater_listener_accepted_total") == before

    told(edge, tale)
    assert not edge.judge().losses


@pytest.mark.parametrize("kind", ["unreadable", "flipped"])
def test_bad_sectors_of_a_sealed_segment_cost_what_they_hold_and_are_declared(
    edge: FailingEdge, kind: str
) -> None:
    late = Latecomer("late", edge.port, "#")

    async def tale(edge: FailingEdge, card: Card) -> None:
        await asyncio.to_thread(late.leave_word)
        log = log_directory(card.mount)
        older = len(list(log.glob("*.segment")))
        await edge.until(lambda: len(list(log.glob("*.segment"))) > older + 4, "it writes")
        segment = sorted(log.glob("*.segment"))[older + 1]
        data = segment.read_bytes()
        frame = next(
            at for at in range(5 * BLOCK_BYTES, len(data), BLOCK_BYTES) if data[at:][:4] == b"HWF1"
        )
        if kind == "flipped":
            card.spoil(segment, frame + 100, 40)
        else:
            place = card.place_of(segment, frame)
            card.control[BAD_FIRST], card.control[BAD_END] = place, place + BLOCK_BYTES
        os.sync()
        _forget(log)
        with late.back():
            await edge.until(
                lambda: edge.metric("headwater_journal_records_lost_total") > 0, "declared"
            )
        await edge.more(100)

    told(edge, tale)
    view, broken = edge.judged()
    declared = [gap for gap in view.gaps if gap.reason is GapReason.DAMAGE]
    assert declared
    lost = [each for each in broken if each.startswith("lost: ")]
    assert lost == broken, "anything else is no loss"
    # the edge, which wrote the frame, knows its batches and lost one; whoever walks the segment loses the frame (FORMAT.md)
    offsets = {(g.stream, g.partition, o) for g in declared for o in range(g.first, g.last + 1)}
    for (stream, partition), first, last, _ in view.losses:
        offsets |= {(stream, partition, offset) for offset in range(first, last + 1)}
    assert len(lost) <= len(offsets)
    assert kind == "flipped" or not lost, "the sector can be read again"


def test_the_state_is_written_when_the_card_takes_it_again(edge: FailingEdge) -> None:
    """Retained messages and a lasting session, while no checkpoint can be written; then SIGKILL."""
    late = Latecomer("late", edge.port, "retained/#")

    async def tale(edge: FailingEdge, card: Card) -> None:
        await asyncio.to_thread(late.leave_word)
        keeper = Latecomer("keeper", edge.port, "nothing")
        await asyncio.to_thread(keeper.retain, [f"retained/{n}" for n in range(20)])
        card.break_down()
        await edge.reasons()
        card.accept()
        if card.is_read_only:
            card.take_off()
            card.check()
            card.mount_again()
        written = edge.metric("headwater_state_checkpoints_total")
        await asyncio.to_thread(keeper.retain, [f"retained/{n}" for n in range(20, 40)])
        await edge.until(
            lambda: edge.metric("headwater_state_checkpoints_total") > written, "a checkpoint"
        )

    async def afterwards() -> None:
        edge.daemon.start()
        await edge.ready()
        assert edge.metric("headwater_mqtt_retained_messages") == 40
        with late.back():
            await asyncio.to_thread(late.wait_for, {f"retained/{n}" for n in range(40)})
        assert edge.metric("headwater_state_losses_total") == 0
        edge.daemon.stop()

    told(edge, tale)
    asyncio.run(afterwards())
