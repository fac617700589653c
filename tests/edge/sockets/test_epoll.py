"""Connections on one epoll, both twins, over real sockets: bytes, back-pressure, ends, and the round."""

from __future__ import annotations

import asyncio
import fcntl
import random
import socket
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType

import pytest

from headwater.edge.sockets.accepting import NOTSENT_BYTES, Acceptor, bind

from .bench import HIGH, Heard, bench, drain, reset, until


def test_bytes_go_both_ways(twin: ModuleType, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            ours, heard, peer = b.connect()
            peer.send(b"up")
            await until(lambda: heard.data == b"up")
            ours.write(b"down")
            assert drain(peer) == b"down", "a write on a connection that keeps up is sent at once"
            assert ours.get_write_buffer_size() == 0
            assert ours.get_extra_info("peername") == peer.getsockname()
            assert len(b.owner) == 1

    run(main)


def test_one_round_hears_all_and_says_so_once(twin: ModuleType, run: Callable[..., None]) -> None:
    async def main() -> None:
        rounds: list[int] = []
        heards: list[Heard] = []
        async with bench(twin, lambda: rounds.append(sum(h.reads for h in heards))) as b:
            ends = [b.connect() for _ in range(20)]
            heards += [heard for _, heard, _ in ends]
            for _, _, peer in ends:
                peer.send(b"x")
            await until(lambda: rounds and rounds[-1] == 20)
            assert rounds[0] == 20, "everybody readable is heard before the round is over"

    run(main)


def test_end_of_stream_closes(twin: ModuleType, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            ours, heard, peer = b.connect()
            peer.send(b"last words")
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: heard.lost)
            assert heard.data == b"last words"
            assert (heard.eof, heard.lost, len(b.owner)) == (1, [None], 0)
            assert ours.is_closing()
            ours.write(b"nobody gets this")
            ours.close()
            ours.abort()
            await asyncio.sleep(0)
            assert heard.lost == [None], "told once"
            assert ours.get_extra_info("peername", "gone") == "gone"

    run(main)


def test_back_pressure_and_a_close_that_waits_for_it(
    twin: ModuleType, run: Callable[..., None]
) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            ours, heard, peer = b.connect()
            sent = b""
            rng = random.Random(1)
            while not heard.paused:
                piece = rng.randbytes(50_000)
                sent += piece
                ours.write(piece)
            assert heard.paused == [True]
            assert ours.get_write_buffer_size() > HIGH
            got = b""
            while heard.paused == [True]:
                got += drain(peer)
                await asyncio.sleep(0.001)
            assert heard.paused == [True, False]
            sent += b"the end"
            ours.write(b"the end")
            ours.close()
            ours.write(b"too late")
            while not heard.lost:
                got += drain(peer)
                await asyncio.sleep(0.001)
            got += drain(peer)
            assert got == sent
            assert heard.lost == [None]

    run(main)


def test_all_that_is_unsent_is_counted_and_shared_out(
    twin: ModuleType, run: Callable[..., None]
) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            b.owner.share = 3 * HIGH // 2
            made = [b.connect() for _ in range(4)]
            counts = []
            for index, (ours, heard, _) in enumerate(made):
                while not heard.paused:
                    ours.write(bytes(1000))
                counts.append(ours.get_write_buffer_size())
                assert b.owner.laden == index + 1
                assert b.owner.unsent == sum(counts)
            parts = [HIGH] + [b.owner.share // number for number in (2, 3, 4)]
            assert all(
                part < count <= part + 1000 for part, count in zip(parts, counts, strict=True)
            )
            made[0][0].abort()
            made[1][0].close()
            assert b.owner.unsent == sum(counts[1:]), "closed, and still to be sent"
            assert b.owner.laden == 3
            while made[2][1].paused == [True]:
                drain(made[2][2])
                await asyncio.sleep(0.001)
            made[3][2].close()
            await until(lambda: made[3][1].lost)
            drain(made[1][2])
            await until(
                lambda: drain(made[1][2]) == b"" and drain(made[2][2]) == b"" and not b.owner.unsent
            )
            assert b.owner.laden == 0

    run(main)


def test_where_many_are_ready_each_is_read_less_of_so_that_a_round_stays_short(
    twin: ModuleType, run: Callable[..., None]
) -> None:
    """Beside greedy ones that always have 64 KiB, who sends a reading is heard in every round."""

    async def main() -> None:
        rounds: list[int] = []
        greedy: list[Heard] = []
        async with bench(twin, lambda: rounds.append(sum(len(each.data) for each in greedy))) as b:
            made = [b.connect() for _ in range(65)]
            greedy += [heard for _, heard, _ in made[1:]]
            for _, _, peer in made[1:]:
                peer.send(bytes(60_000))
            small, peer = made[0][1], made[0][2]
            peer.send(b"reading")
            await until(lambda: rounds)
            assert small.data == b"reading"
            assert rounds[0] <= 1 << 20
            await until(lambda: rounds[-1] == 64 * 60_000)
            assert small.reads == 1
            assert all(heard.reads >= 60_000 // ((1 << 20) // 64) for heard in greedy)

    run(main)


def test_a_read_brings_no_more_than_it_may(twin: ModuleType, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            b.owner.read_bytes = 100
            _, heard, peer = b.connect()
            sizes: list[int] = []
            heard.on_data = lambda: sizes.append(len(heard.data) - sum(sizes))
            peer.send(bytes(1000))
            await until(lambda: len(heard.data) == 1000)
            assert sizes == [100] * 10

    run(main)


def test_abort_drops_what_was_not_sent(twin: ModuleType, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            ours, heard, _ = b.connect()
            while not heard.paused:
                ours.write(bytes(100_000))
            ours.abort()
            assert heard.lost == [], "never from within a call"
            await asyncio.sleep(0)
            assert heard.lost == [None]
            assert ours.get_write_buffer_size() == 0

    run(main)


def test_pausing_stops_reading_and_resuming_reads_what_waited(
    twin: ModuleType, run: Callable[..., None]
) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            ours, heard, peer = b.connect()
            _, other, other_peer = b.connect()
            ours.pause_reading()
            peer.send(b"waits")
            other_peer.send(b"passes")
            await until(lambda: other.data == b"passes")
            assert heard.data == b""
            ours.resume_reading()
            await until(lambda: heard.data == b"waits")

    run(main)


def test_a_reset_is_told_with_its_error(twin: ModuleType, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            _, heard, peer = b.connect()
            reset(peer)
            await until(lambda: heard.lost)
            assert isinstance(heard.lost[0], ConnectionResetError)

    run(main)


def test_a_reset_is_noticed_while_nobody_reads(twin: ModuleType, run: Callable[..., None]) -> None:
    """Else the level-triggered event would turn the loop for nothing, for ever."""

    async def main() -> None:
        async with bench(twin) as b:
            ours, heard, peer = b.connect()
            ours.pause_reading()
            reset(peer)
            await until(lambda: heard.lost)
            assert len(b.owner) == 0

    run(main)


def test_writing_to_a_broken_connection_is_no_error_of_the_writer(
    twin: ModuleType, run: Callable[..., None]
) -> None:
    async def main() -> None:
        async with bench(twin) as b:
            ours, heard, peer = b.connect()
            ours.pause_reading()
            reset(peer)
            for _ in range(5):
                ours.write(b"x")
            await until(lambda: heard.lost)
            assert len(heard.lost) == 1

    run(main)


def test_closing_another_within_a_round_is_safe(twin: ModuleType, run: Callable[..., None]) -> None:
    """Its event may be in the same round; a new connection may even get its descriptor's number."""

    async def main() -> None:
        async with bench(twin) as b:
            ends = [b.connect() for _ in range(10)]

            def close_all() -> None:
                for ours, _, _ in ends:
                    ours.abort()

            for _, heard, _ in ends:
                heard.on_data = close_all
            for _, _, peer in ends:
                peer.send(b"x")
            await until(lambda: all(heard.lost for _, heard, _ in ends))
            assert sum(heard.reads for _, heard, _ in ends) == 1
            fresh, heard, peer = b.connect()
            peer.send(b"new")
            await until(lambda: heard.data == b"new")
            assert not fresh.is_closing()

    run(main)


def test_any_mixture_of_sizes_arrives_as_it_was_sent(
    twin: ModuleType, run: Callable[..., None]
) -> None:
    async def main() -> None:
        rng = random.Random(7)
        async with bench(twin) as b:
            ends = [b.connect() for _ in range(5)]
            down, up = [b""] * 5, [b""] * 5
            got = [b""] * 5
            for _ in range(300):
                index = rng.randrange(5)
                ours, _, peer = ends[index]
                piece = rng.randbytes(rng.choice((1, 100, 5_000, 200_000)))
                if rng.random() < 0.5:
                    ours.write(piece)
                    down[index] += piece
                else:
                    with suppress(BlockingIOError):
                        up[index] += piece[: peer.send(piece)]
                got[index] += drain(peer)
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
            for index, (ours, heard, peer) in enumerate(ends):
                async with asyncio.timeout(10):
                    while len(got[index]) < len(down[index]):
                        got[index] += drain(peer)
                        await asyncio.sleep(0.001)
                assert got[index] == down[index]
                assert ours.get_write_buffer_size() == 0
                await until(lambda h=heard, i=index: len(h.data) == len(up[i]))  # type: ignore[misc]
                assert heard.data == up[index]

    run(main)


def test_a_reset_leaves_nothing_in_the_kernel(twin: ModuleType, run: Callable[..., None]) -> None:
    """While an abort leaves it to the kernel, which goes on for a quarter of an hour."""

    async def main() -> None:
        async with bench(twin) as b:
            ends = [b.connect() for _ in range(2)]
            for ours, _, _ in ends:
                ours.write(bytes(8 * HIGH))
            ends[0][0].abort()
            ends[1][0].reset()
            await until(lambda: all(heard.lost for _, heard, _ in ends))
            resets = [await asyncio.to_thread(ended_by_reset, peer) for _, _, peer in ends]
            assert resets == [False, True]
            ends[1][0].reset()  # once more does no harm

    run(main)


def ended_by_reset(peer: socket.socket) -> bool:
    peer.settimeout(5)
    try:
        while peer.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    return False


def test_accepting(run: Callable[..., None]) -> None:
    async def main() -> None:
        taken: list[socket.socket] = []
        (listening,) = await bind("127.0.0.1", 0, backlog=64)
        acceptor = Acceptor(listening, taken.append, refused=lambda error: None)
        peers = [socket.create_connection(acceptor.address) for _ in range(10)]
        await until(lambda: len(taken) == 10)
        acceptor.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(
                acceptor.address if listening.fileno() >= 0 else peers[0].getpeername()
            )
        for sock in (*taken, *peers):
            sock.close()

    run(main)


def test_the_kernel_takes_little_of_what_a_peer_does_not_read(run: Callable[..., None]) -> None:
    async def main() -> None:
        taken: list[socket.socket] = []
        (listening,) = await bind("127.0.0.1", 0, backlog=64)
        acceptor = Acceptor(listening, taken.append, refused=lambda error: None)
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(acceptor.address)
        await until(lambda: taken)
        (ours,) = taken
        ours.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(100):
                ours.send(bytes(NOTSENT_BYTES // 2))
        unsent = fcntl.ioctl(ours, termios.TIOCOUTQ, bytes(4))
        assert int.from_bytes(unsent, sys.byteorder) < 2 * NOTSENT_BYTES, (
            "tcp_wmem would let it be 4 MiB"
        )
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        acceptor.close()
        for sock in (ours, deaf):
            sock.close()

    run(main)


def test_accepting_again_when_descriptors_are_back(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        taken: list[socket.socket] = []
        refused: list[OSError] = []
        monkeypatch.setattr("headwater.edge.sockets.accepting.PAUSE_S", 0.05)
        (listening,) = await bind("127.0.0.1", 0, backlog=64)
        short = _Short(listening)
        acceptor = Acceptor(short, taken.append, refused=refused.append)  # type: ignore[arg-type]
        peer = socket.create_connection(listening.getsockname())
        await until(lambda: taken)
        assert len(refused) == 1, "said once for the pause, not once for each wake-up"
        acceptor.close()
        for sock in (*taken, peer):
            sock.close()

    run(main)


class _Short:
    """A listening socket whose first `accept` finds no file descriptor."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._first = True

    def accept(self) -> tuple[socket.socket, object]:
        if self._first:
            self._first = False
            raise OSError(24, "Too many open files")
        return self._listening.accept()

    def fileno(self) -> int:
        return self._listening.fileno()

    def close(self) -> None:
        self._listening.close()
