"""The load, a process of its own: everybody lives again and again until SIGTERM; then the counted ones finish.

What it counted goes to `--account` as JSON, every few seconds and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from headwater.edge.mqtt.packets import Version

from .client import Gone, Place
from .counted import RETRY_S, Account, Device, Keeper
from .crowd import Crowd
from .foreign import Foreign
from .unruly import Unruly

FINISH_S = 60.0
SAVE_S = 5.0
UNRULY = 6


class Counts(msgspec.Struct):
    """What the load knows at its end."""

    accounts: list[Account] = []
    complaints: list[str] = []
    mishaps: dict[str, int] = {}
    heard: int = 0
    heard_twice: int = 0
    lives: int = 0
    misdeeds: int = 0
    foreign_acknowledged: int = 0
    finished: bool = False


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        tls = ssl.create_default_context(cafile=options.ca)
        self._plain, self._tls = Place(options.plain), Place(options.tls, tls)
        self._rng = random.Random(options.seed)
        self._path: Path = options.account
        self._counts = Counts()
        self._mishaps: Counter[str] = Counter()
        self._devices = list(self._make_devices(options.rate))
        self._keepers = [
            Keeper(
                self._plain,
                f"keeper-{number}",
                f"site/{name}/reading",
                qos=1 + number % 2,
                version=Version.V5 if number % 3 else Version.V311,
                rng=self._rng,
                complaints=self._counts.complaints,
            )
            for number, name in enumerate(("f0", "s1", "x2", "s3", "x4", "f5"))
        ]
        self._crowd = Crowd(self._plain, self._tls, self._rng)
        self._unruly = Unruly(self._plain, self._tls, Place(options.web), self._rng)
        self._foreign = [
            Foreign("paho-web", options.web, transport="websockets", ca=""),
            Foreign("paho-tls", options.tls, transport="tcp", ca=options.ca),
        ]

    def _make_devices(self, rate: float) -> list[Device]:
        """`rate` messages a second in all, over devices of every kind."""
        kinds = ("f", "s", "x")
        devices = []
        plan = [
            *((f"{kinds[n % 3]}{n}", "site", "telemetry", 60, False, rate / 20) for n in range(16)),
            *((f"s-large-{n}", "site", "telemetry", 60_000, False, rate / 500) for n in range(2)),
            *((f"{kinds[n]}-bin-{n}", "binary", "binary", 400, True, rate / 60) for n in range(3)),
            *((f"s-bulk-{n}", "bulk", "bulk", 4_000, False, rate / 30) for n in range(2)),
        ]
        for number, (name, root, stream, size, binary, each) in enumerate(plan):
            account = Account(name, stream, binary=binary)
            self._counts.accounts.append(account)
            devices.append(
                Device(
                    self._tls if number % 5 == 4 else self._plain,
                    name,
                    f"{root}/{name}/reading",
                    account,
                    qos=2 if name.startswith("x") else 1,
                    version=Version.V5 if number % 2 else Version.V311,
                    kept=not name.startswith("f"),
                    rate=each,
                    size=size,
                    rng=self._rng,
                )
            )
        return devices

    async def _again(self, life: Callable[[], Awaitable[None]], *, unruly: bool = False) -> None:
        while True:
            self._counts.lives += 1
            try:
                await life()
            except (Gone, OSError, TimeoutError) as error:
                if not unruly:
                    self._mishaps[f"{type(error).__name__}: {str(error)[:120]}"] += 1
                await asyncio.sleep(RETRY_S)

    async def run(self) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        counted = [asyncio.create_task(self._live(device)) for device in self._devices]
        keepers = [asyncio.create_task(self._again(keeper.live)) for keeper in self._keepers]
        others = [asyncio.create_task(self._again(life)) for life in self._crowd.lives()]
        others += [
            asyncio.create_task(self._again(self._unruly.live, unruly=True)) for _ in range(UNRULY)
        ]
        every = [*counted, *keepers, *others]
        while not stop.is_set():
            for foreign in self._foreign:
                foreign.publish()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.1)
            for task in every:
                if task.done():
                    task.result()  # a defect of ours: let it be seen
            self._save_now_and_then()
        for device in self._devices:
            device.stopping = True
        for keeper in self._keepers:
            keeper.away_max_s = 0.2
        done, _ = await asyncio.wait(counted, timeout=FINISH_S)
        self._counts.finished = len(done) == len(counted)
        await asyncio.sleep(5)  # keepers catch up
        for task in every:
            task.cancel()
        await asyncio.gather(*every, return_exceptions=True)
        for foreign in self._foreign:
            foreign.close()
        self._save()

    async def _live(self, device: Device) -> None:
        while not device.done:
            try:
                await device.live()
            except (Gone, OSError, TimeoutError) as error:
                self._mishaps[f"{type(error).__name__}: {str(error)[:120]}"] += 1
                await asyncio.sleep(RETRY_S)

    _saved_at = 0.0

    def _save_now_and_then(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._saved_at > SAVE_S:
            self._saved_at = now
            self._save()

    def _save(self) -> None:
        counts = self._counts
        counts.mishaps = dict(self._mishaps)
        counts.heard = sum(keeper.heard for keeper in self._keepers)
        counts.heard_twice = sum(keeper.twice for keeper in self._keepers)
        counts.misdeeds = self._unruly.turns
        counts.foreign_acknowledged = sum(foreign.acknowledged for foreign in self._foreign)
        draft = self._path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(counts))
        os.replace(draft, self._path)


def main() -> None:
    flags = argparse.ArgumentParser(prog="tests.soak.load", description=__doc__)
    for name in ("plain", "tls", "web"):
        flags.add_argument(f"--{name}", type=int, required=True, metavar="PORT")
    flags.add_argument("--ca", required=True, metavar="FILE")
    flags.add_argument("--account", type=Path, required=True, metavar="FILE")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--rate", type=float, default=300.0)
    options = flags.parse_args()

    async def live() -> None:
        await Load(options).run()

    asyncio.run(live())


if __name__ == "__main__":
    main()
