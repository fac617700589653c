"""The uplink made of its settings: the dialer with what it believes of the time, the books on disk, the carrier's name."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...core.clock import Clock, KnownTime, utc_offset_s
from ...core.disk import Disk
from ...core.journal.reading import bounds_or_none
from ...hardware.sysroot import SysRoot
from .books import Books, open_daybook
from .carrier import KernelCarrier
from .cluster import Address
from .cursor import CursorStore
from .dialing import dialer
from .feeding import UplinkJournal
from .parts import OnRefused
from .settings import UplinkSettings
from .shaping import Shaper
from .uplink import Uplink


class Surroundings(NamedTuple):
    """The world, passed in. `known`: what the time is, and whether to believe it."""

    disk: Disk
    clock: Clock
    known: KnownTime
    rng: random.Random
    root: SysRoot


def make_uplink(
    journal: UplinkJournal,
    settings: UplinkSettings,
    world: Surroundings,
    *,
    edge: str,
    bootstrap: Sequence[Address],
    is_tls: bool,
    directory: str,
    on_refused: OnRefused,
    priorities: Mapping[str, int],
) -> Uplink:
    """`directory`: of the uplink's small files."""
    held = (bounds_or_none(journal, partition) for partition in journal.partitions())
    is_first = not any(bounds is not None and bounds.end for bounds in held)
    store = CursorStore(world.disk, directory, log_id=journal.log_id, edge=edge, is_first=is_first)
    if is_first:
        store.begin()
    shaper = Shaper(
        settings.shaping,
        clock=world.clock,
        known=world.known,
        offset_s=utc_offset_s,
        daybook=open_daybook(world.disk, directory, settings.shaping),
    )
    books = Books(
        shaper,
        clock=world.clock,
        disk=world.disk,
        directory=directory,
        carrier=KernelCarrier(world.root, settings.shaping.metered),
    )
    return Uplink(
        journal,
        settings,
        edge=edge,
        bootstrap=bootstrap,
        store=store,
        clock=world.clock,
        rng=world.rng,
        on_refused=on_refused,
        dial=dialer(edge, settings, is_tls=is_tls, known=world.known),
        books=books,
        priorities=priorities,
    )
