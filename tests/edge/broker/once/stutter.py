"""A constant sensor: every reading the same, identifiers the lowest free, so that nothing but evidence tells a repetition
from a new reading (ADR 6, "Once, although it comes twice").

Each PUBLISH is heard at a millisecond of its own, and so a record's timestamp says which sending of which reading made it.
What may be, by the rows of the table there, and how often it was:

  swallowed  a reading that was acknowledged and is not in the log: taken for a repetition of the one before it under its
             identifier, by what was not known of that one's PUBACK
    unknown    TCP's word, as long as that connection could be asked (rows 1 and 2)
    power      its word was there for less than `evidence_quiet` when the machine ended, and not noted (row 3)
    second     the session did not stutter when that connection ended, or not long enough before the machine did (row 5)
  unread     stored once more: TCP had acknowledged its PUBACK, and the client had not read it (row 4)
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from headwater.edge.broker.lifetimes import TICK_S
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import Connect, Publish, Version
from headwater.edge.mqtt.properties import Properties
from tests.sim.disk import SimCrash

from .device import frames
from .life import SETTINGS, STREAMS, log_settings
from .wire import Ledger, Line, OnceMachine

TOPIC, PAYLOAD = "sync/constant", b"21.5"
# Looked at at each tick; the commit that notes it is asked for at one, and made by the next turn that makes any.
NOTED_S = float(SETTINGS.evidence_quiet) + 2 * TICK_S


class Reading:
    def __init__(self, packet_id: int, before: Reading | None) -> None:
        self.packet_id = packet_id
        self.before = before  # under the same identifier
        self.sends = 0
        self.read = False
        self.heard: list[int] = []  # when, in ms
        self.known_at: float | None = (
            None  # that its PUBACK has arrived: since when our kernel knows
        )
        self.first_known_at: float | None = None
        self.line: Line | None = None  # on which it was heard last


class Way:
    """A line, and what is on it: readings in `up`, in order, and those whose PUBACK is next to be known."""

    def __init__(self, line: Line, *, tells: bool) -> None:
        self.line = line
        self.tells = tells
        self.sent: list[Reading] = []
        self.heard: list[Reading] = []
        self.traced = self.known = 0
        self.partial = b""


class StutteringLife:
    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.machine = OnceMachine(
            seed=seed,
            settings=SETTINGS,
            streams=STREAMS,
            log_settings=log_settings(64, 1 << 20),
        )
        self.version = rng.choice(tuple(Version))
        self.window = rng.choice((1, 1, 2, 3))
        self.readings: list[Reading] = []
        self.last: dict[int, Reading] = {}
        self.flights: dict[int, Reading] = {}
        self.way: Way | None = None
        self.ghosts: list[Way] = []
        self.is_open = False
        self.boots: list[float] = [0.0]
        self.cut_off: list[Line] = []  # by the end of the machine
        self.allowed: Counter[str] = Counter()
        events: dict[Callable[[], object], float] = {
            self.publish: 16,
            self.hear: 14,
            self.commit: 14,
            self.deliver: 14,
            self.listen: 12,
            self.lose: 4,
            self.connect: 9,
            self.haunt: 3,
            self.wait: 6,
            self.checkpoint: 1.5,
            self.crash: 1.5,
        }
        self.events = list(events), list(events.values())

    def _come_in(self) -> None:
        """What takes a connection further, for else few lives would see many readings."""
        self.connect()
        self.hear()
        self.commit()
        self.deliver()
        self.listen()

    @property
    def published(self) -> int:
        return len(self.readings)

    @property
    def now(self) -> float:
        return self.machine.clock.monotonic()

    def lead(self, turns: int) -> None:
        for _ in range(turns):
            (event,) = self.rng.choices(*self.events)
            try:
                if not self.is_open and self.rng.random() < 0.5:
                    self._come_in()
                event()
            except SimCrash:
                self._crashed()
        self.settle()
        self.judge()

    # --- the client --------------------------------------------------------------------------------------------

    def connect(self) -> None:
        if self.way is not None:
            return
        tells = self.rng.random() < 0.85
        self.way = Way(Line(self.machine, tells=tells), tells=tells)
        properties = Properties()
        if self.version is Version.V5:
            properties = Properties(session_expiry_interval=100_000)
        hello = Connect(
            version=self.version, client_id="sensor", clean_start=False, properties=properties
        )
        self.way.line.up += encode_packet(hello, self.version)
        if self.rng.random() < 0.8:
            self.hear()

    def publish(self) -> None:
        if self.way is None or not self.is_open or len(self.flights) >= self.window:
            return
        packet_id = next(each for each in range(1, 100) if each not in self.flights)
        reading = Reading(packet_id, self.last.get(packet_id))
        self.last[packet_id] = self.flights[packet_id] = reading
        self.readings.append(reading)
        self._send(reading)
        if self.rng.random() < 0.7:
            self.hear()

    def _send(self, reading: Reading) -> None:
        assert self.way is not None
        packet = Publish(
            topic=TOPIC,
            payload=PAYLOAD,
            qos=1,
            dup=reading.sends > 0,
            packet_id=reading.packet_id,
        )
        reading.sends += 1
        self.way.line.up += encode_packet(packet, self.version)
        self.way.sent.append(reading)

    def listen(self) -> None:
        way = self.way
        if way is None:
            return
        data = way.partial + way.line.take()
        position = 0
        for first, body, end in frames(data):
            if first == 0x20:
                if body[1]:  # an older connection of it came to be heard later, and has taken over
                    break
                assert body[0] or not self.readings, "its session is gone"
                self.is_open = True
                for reading in self.flights.values():
                    self._send(reading)
            elif first == 0x40:
                self.flights.pop(body[0] << 8 | body[1]).read = True
            position = end
        way.partial = data[position:]
        if way.line.closed:
            self.give_up()

    def give_up(self) -> Way:
        way, self.way = self.way, None
        assert way is not None
        way.line.cut = True
        self.is_open = False
        return way

    # --- the network, the broker, the machine --------------------------------------------------------------------

    def hear(self, way: Way | None = None) -> bool:
        """One packet."""
        way = way or self.way
        if way is None or not way.line.up:
            return False
        first, _, end = next(frames(bytes(way.line.up[:64])))
        self.machine.clock.advance(0.001)
        if way.line.closed or not way.line.reading:
            return False
        if first >> 4 == 3:
            reading = way.sent.pop(0)
            reading.heard.append(self.machine.clock.wall_ms())
            reading.line = way.line
            reading.known_at = (
                None  # whatever was known of an older PUBACK: what counts is the last
            )
            way.heard.append(reading)
        return way.line.hear(end)

    def deliver(self) -> None:
        """What was written in one piece comes in one: evidence is of a commit's acknowledgements together."""
        way, rng = self.way, self.rng
        if way is not None:
            ends = [end for end in way.line.ends if end > way.line.arrived]
            if ends:
                end = rng.choice((ends[0], ends[-1]))
                way.line.deliver(end - way.line.arrived, known=rng.random() < 0.75)
            self._trace(way)

    def _trace(self, way: Way) -> None:
        data = bytes(way.line.down[way.traced : way.line.acked])
        for first, _, _ in frames(data):
            if first == 0x40:
                reading = way.heard[way.known]
                way.known += 1
                if way.tells and reading.known_at is None:
                    reading.known_at = self.now
                    reading.first_known_at = reading.first_known_at or self.now
        way.traced += max((end for *_, end in frames(data)), default=0)

    def commit(self) -> None:
        committer = self.machine.committer
        if self.rng.random() < 0.3:
            committer.begin()
        else:
            committer.sync()

    def lose(self) -> None:
        if self.way is None:
            return
        if self.rng.random() < 0.4:
            self.listen()
            if self.way is None:
                return
        way = self.give_up()
        if self.rng.random() < 0.6:
            way.line.lose()
        else:
            self.ghosts.append(way)

    def haunt(self) -> None:
        if self.ghosts:
            ghost = self.ghosts[-1]
            if self.rng.random() < 0.5:
                self.hear(ghost)
            else:
                self.ghosts.pop().line.lose()

    def wait(self) -> None:
        """What is asked for at a tick is committed."""
        for _ in range(self.rng.choice((1, 1, 2, 6, 50))):
            self.machine.wait(TICK_S)
            if self.machine.committer.is_asked:
                self.machine.sync()

    def checkpoint(self) -> None:
        self.machine.store.crash = self.rng.choice((None, None, False, True))
        self.machine.checkpoint()
        self.machine.store.crash = None

    def crash(self) -> None:
        raise SimCrash

    def _crashed(self) -> None:
        self.machine.store.crash = None
        for way in (*self.ghosts, *((self.give_up(),) if self.way is not None else ())):
            if not way.line.closed:
                way.line.close()
                self.cut_off.append(way.line)
        self.ghosts.clear()
        if self.rng.random() < 0.5:
            self.machine.power_cut(keep=self.rng.random())
        else:
            self.machine.kill()
        self.boots.append(self.now)
        assert self.machine.restored.losses == []

    def settle(self) -> None:
        for _ in range(50):
            self.connect()
            while self.hear():
                pass
            self.machine.sync()
            if self.way is not None:
                self.way.line.deliver(1 << 30, known=True)
                self._trace(self.way)
            self.listen()
            if self.way is not None and self.is_open and not self.flights:
                return
        raise AssertionError("it never came to rest")

    # --- the oracle --------------------------------------------------------------------------------------------

    def judge(self) -> None:
        ledger = Ledger()
        ledger.catch_up(self.machine)
        times = ledger.found.get((TOPIC, PAYLOAD), [])
        of = {at: reading for reading in self.readings for at in reading.heard}
        self.stored = sorted((at, of[at].packet_id) for at in times)
        records = Counter(of[at] for at in times)
        for number, reading in enumerate(self.readings):
            count = records[reading]
            assert reading.read
            if not count:
                why = self._why_swallowed(reading)
                assert why, f"reading {number} is acknowledged, and not in the log"
                self.allowed[f"swallowed: {why}"] += 1
            elif count > 1:
                last = max(at for at in times if of[at] is reading)
                known_at = reading.first_known_at
                is_known = known_at is not None and self._wall(known_at) <= last
                assert is_known, f"reading {number} is {count} times in the log"
                self.allowed["unread"] += 1

    @staticmethod
    def _wall(at: float) -> int:
        return 1_700_000_000_000 + round(at * 1000)

    def _why_swallowed(self, reading: Reading) -> str | None:
        """None: there is no excuse."""
        before = reading.before
        if before is None:
            return None
        if before.known_at is None or self._wall(before.known_at) > reading.heard[0]:
            return "unknown"
        known_for = [boot - before.known_at for boot in self.boots if boot > before.known_at]
        if known_for and (known_for[0] < NOTED_S + 1 or len(before.heard) > 1):
            return "power"  # of a repetition nothing is noted before all is settled that came over with it
        ended_at = before.line.closed_at if before.line is not None else None
        if ended_at is None:
            return None
        if (
            before.line in self.cut_off
        ):  # nobody could ask at its end: it had to stutter while what counts was noted
            looked_at = [ended_at - NOTED_S, ended_at]
            looked_at += [when for when in self._stored_at() if looked_at[0] <= when <= ended_at]
            return None if all(map(self._stutters_at, looked_at)) else "second"
        return None if self._stutters_at(ended_at) else "second"

    def _stored_at(self) -> list[float]:
        return [(when - self._wall(0)) / 1000 for when, _ in self.stored]

    def _stutters_at(self, at: float) -> bool:
        """By what was stored until then, since the last start."""
        boot = max((each for each in self.boots if each <= at), default=0.0)
        seen: set[int] = set()
        stutters = False
        for when, packet_id in self.stored:
            if self._wall(boot) <= when <= self._wall(at):
                stutters = packet_id in seen
                seen.add(packet_id)
        return stutters
