"""The edge's entrance: listeners, access and the journal of connections put together, and changed together on SIGHUP."""

from __future__ import annotations

import asyncio
import secrets

from headwater import __version__

from ..core.clock import Clock
from .broker.access.access import Access
from .broker.access.checking import Checker
from .broker.broker import Broker
from .broker.journal import Journal
from .broker.listening.listeners import Listeners, prepare
from .broker.systopics import SystemTopics
from .settings import EdgeSettings
from .visits import Visits


class Entrance:
    """Made before anything listens, so that what is wrong in a file is said before the start."""

    def __init__(
        self, settings: EdgeSettings, broker: Broker, journal: Journal, visits: Visits, clock: Clock
    ) -> None:
        """Raises Misconfigured."""
        self._broker = broker
        self.visits = visits
        self.access = Access(
            settings.access,
            Checker(
                threads=settings.access.verification_threads,
                waiting_max=settings.access.verifications_waiting_max,
                remember_s=float(settings.access.remember),
                clock=clock,
                key=secrets.token_bytes(32),
                post=asyncio.get_running_loop().call_soon_threadsafe,
            ),
        )
        visits.attach(broker, journal)
        broker.guard(self.access)
        if settings.sys_interval > 0:
            SystemTopics(
                broker, interval_s=float(settings.sys_interval), version=f"headwater {__version__}"
            )
        self.listeners = Listeners(broker, settings.all_listeners, turned_away=visits.turned_away)

    def reload(self, settings: EdgeSettings) -> None:
        """Certificates, limits, passwords, rules, for those who come; rules at once. Raises Misconfigured: then nothing."""
        contexts = prepare(settings.all_listeners)
        self.access.reload(settings.access)
        self.listeners.apply(settings.all_listeners, contexts)
        self.visits.settings = settings.connections
        self._broker.guard(self.access)

    def close(self) -> None:
        """After the last goodbye: what is known of it is appended."""
        self.visits.flush()
        self.access.close()
