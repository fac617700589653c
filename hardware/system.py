"""This machine, read: CPU, memory, disk, network (psutil) and temperatures (sysfs).

Rule: a sample is what was measured, or says why there is none; one that fails does not hide the others. Busy shares are
differences between two reads of *this* reader, so the first read has none and says so; totals since boot are given as they
stand, and a total that went back (a counter wrapped, an interface was recreated) is *uncertain*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import psutil

from ..core.clock import Clock
from .sample import Quality, Sample, topic_part
from .sysroot import SysRoot
from .temperatures import read_temperatures


class Counters(Protocol):
    """What is asked of psutil; tests answer with less, or with errors."""

    def cpu_times(self) -> list[tuple[float, float]]:
        """For each CPU, seconds busy and seconds in all since boot."""

    def load_average(self) -> float:
        """Runnable processes, averaged over a minute."""

    def memory(self) -> tuple[int, int]:
        """Bytes of memory in all and available."""

    def disk(self, path: str) -> tuple[int, int]:
        """Bytes of the file system in all and free for us."""

    def disk_bytes(self) -> tuple[int, int]:
        """Bytes read and written by all disks since boot."""

    def interfaces(self) -> Mapping[str, tuple[int, int]]:
        """For each network interface, bytes received and sent."""


class PsutilCounters:
    def cpu_times(self) -> list[tuple[float, float]]:
        found = []
        for times in psutil.cpu_times(percpu=True):
            # guest time is counted within user time already: leave it out of the sum
            whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
            found.append((whole - times.idle - getattr(times, "iowait", 0.0), whole))
        return found

    def load_average(self) -> float:
        return psutil.getloadavg()[0]

    def memory(self) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.total, memory.available

    def disk(self, path: str) -> tuple[int, int]:
        usage = psutil.disk_usage(path)
        return usage.total, usage.free

    def disk_bytes(self) -> tuple[int, int]:
        counters = psutil.disk_io_counters()
        if counters is None:
            raise OSError("this machine has no disk that counts")
        return counters.read_bytes, counters.write_bytes

    def interfaces(self) -> Mapping[str, tuple[int, int]]:
        found = psutil.net_io_counters(pernic=True)
        return {name: (each.bytes_recv, each.bytes_sent) for name, each in found.items()}


class SystemReader:
    def __init__(
        self,
        *,
        root: SysRoot,
        clock: Clock,
        counters: Counters | None = None,
        disk_path: str = "/",
    ) -> None:
        self._root = root
        self._clock = clock
        self._counters: Counters = PsutilCounters() if counters is None else counters
        self._disk_path = disk_path
        self._cpu_before: list[tuple[float, float]] = []
        self._total_before: dict[str, float] = {}

    def read(self) -> list[Sample]:
        """Everything once. Takes about a millisecond; drivers of slow buses may block for longer."""
        now = self._clock.wall_ms()
        groups: tuple[tuple[str, str, Callable[[int], Iterator[Sample]]], ...] = (
            ("cpu/busy", "percent", self._cpu),
            ("cpu/load", "processes", self._load),
            ("memory", "bytes", self._memory),
            ("disk", "bytes", self._disk),
            ("disk/io", "bytes", self._disk_bytes),
            ("network", "bytes", self._network),
        )
        samples: list[Sample] = []
        for name, unit, group in groups:
            try:
                samples += group(now)
            except (OSError, psutil.Error, ValueError, AttributeError) as error:
                # psutil parses /proc: what it raises there depends on what is missing or malformed
                samples.append(_bad(name, unit, f"not readable here: {error}", now))
        return samples + read_temperatures(self._root, now)

    def _cpu(self, now: int) -> Iterator[Sample]:
        times = self._counters.cpu_times()
        before, self._cpu_before = self._cpu_before, times
        if len(before) != len(times):
            yield _bad("cpu/busy", "percent", "first read: a share needs two", now)
            return
        spans = [
            (busy - busy0, whole - whole0)
            for (busy, whole), (busy0, whole0) in zip(times, before, strict=True)
        ]
        yield _share("cpu/busy", sum(b for b, _ in spans), sum(w for _, w in spans), now)
        for index, (busy, whole) in enumerate(spans):
            yield _share(f"cpu/{index}/busy", busy, whole, now)

    def _load(self, now: int) -> Iterator[Sample]:
        yield _good("cpu/load", self._counters.load_average(), "processes", now)

    def _memory(self, now: int) -> Iterator[Sample]:
        total, available = self._counters.memory()
        yield _good("memory/total", total, "bytes", now)
        yield _good("memory/available", available, "bytes", now)

    def _disk(self, now: int) -> Iterator[Sample]:
        total, free = self._counters.disk(self._disk_path)
        yield _good("disk/total", total, "bytes", now)
        yield _good("disk/free", free, "bytes", now)

    def _disk_bytes(self, now: int) -> Iterator[Sample]:
        read, written = self._counters.disk_bytes()
        yield self._total("disk/read", read, now)
        yield self._total("disk/written", written, now)

    def _network(self, now: int) -> Iterator[Sample]:
        for name, (received, sent) in sorted(self._counters.interfaces().items()):
            yield self._total(f"network/{topic_part(name)}/received", received, now)
            yield self._total(f"network/{topic_part(name)}/sent", sent, now)

    def _total(self, name: str, value: float, now: int) -> Sample:
        before = self._total_before.get(name, value)
        self._total_before[name] = value
        if value < before:
            return Sample(
                name=name,
                value=value,
                unit="bytes",
                quality=Quality.UNCERTAIN,
                reason=f"went back from {before:g}: the counter wrapped or began anew",
                captured_ms=now,
            )
        return _good(name, value, "bytes", now)


def _share(name: str, part: float, whole: float, now: int) -> Sample:
    if whole <= 0:
        return _bad(name, "percent", "no time passed since the last read", now)
    # the kernel's counters tick in hundredths and steal may run backwards: the share can stray by a tick
    return _good(name, round(min(max(100 * part / whole, 0.0), 100.0), 2), "percent", now)


def _good(name: str, value: float, unit: str, now: int) -> Sample:
    return Sample(name=name, value=value, unit=unit, quality=Quality.GOOD, captured_ms=now)


def _bad(name: str, unit: str, reason: str, now: int) -> Sample:
    return Sample(
        name=name, value=None, unit=unit, quality=Quality.BAD, reason=reason, captured_ms=now
    )
